"""Believing a counterexample: only after onnxruntime has run it on the user's own file."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import DisagreementError
from .network import Network
from .onnx_reader import AGREEMENT_ABSOLUTE, AGREEMENT_RELATIVE
from .property import Property
from .region import Region
from .result import Witness
from .session import Judge
from .torch_network import TorchNetwork


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a candidate is not a witness."""

    reason: str


class Replay:
    """Checks candidates for one network."""

    def __init__(self, network: Network) -> None:
        """Open the user's file and a float64 copy of what was read from it."""
        self._network = network
        self._judge = Judge(network)
        self._exact = TorchNetwork(network, torch.float64)

    def scores(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores (batch, labels) of the user's file."""
        return self._judge.scores(images)

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores before the trailing softmax or sigmoid, from onnxruntime."""
        return self._judge.logits(images)

    def exact_logits(self, images: NDArray[np.floating]) -> NDArray[np.float64]:
        """Logits (batch, labels) in float64."""
        with torch.no_grad():
            return np.asarray(self._exact(torch.as_tensor(images, dtype=torch.float64)).numpy())

    def judge(self, region: Region, question: Property, point: NDArray[np.floating]) -> Witness | Rejection:
        """A witness when the float32 image nearest to ``point`` lies in the region and violates the property.

        The margin is taken on the logits that onnxruntime computes in the user's file; ties violate.

        Raises:
            DisagreementError: when those logits differ from the float64 ones by more than rounding.
        """
        image = region.project(point)
        if not region.contains(image):
            return Rejection("no float32 image near the candidate lies in the region")
        judged = self._judge.logits(image[None])
        exact = self.exact_logits(image[None])
        self._compare(judged, exact)
        margin = float(question.margin(judged)[0])
        if not margin >= 0.0:
            return Rejection(f"replayed in onnxruntime, the candidate's margin is {margin:.3g}: no violation")
        return Witness(image, self._judge.scores(image[None])[0], float(question.margin(exact)[0]))

    def _compare(self, judged: NDArray[np.float32], exact: NDArray[np.float64]) -> None:
        with np.errstate(invalid="ignore"):  # infinity against infinity is NaN, and no agreement
            gap = float(np.abs(judged - exact).max())
        allowed = AGREEMENT_ABSOLUTE + AGREEMENT_RELATIVE * max(1.0, float(np.abs(exact).max()))
        if not gap <= allowed:
            raise DisagreementError(
                f"{self._network.path}: on a candidate, onnxruntime and float64 differ by {gap:.3g} (allowed "
                f"{allowed:.3g}): the network is numerically unstable there, or was read wrongly"
            )
