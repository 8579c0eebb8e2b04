"""The public interface in a few functions; everything they take and return is importable from ``mlverify``."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .synthesis.largest_margin import WeakestPoints
from .synthesis.largest_margin import weakest_points as find_weakest_points
from .synthesis.layers import Bands, ObjectLayers, apart
from .synthesis.localisation import locate
from .synthesis.objective import Objective
from .synthesis.problem import SynthesisProblem, SynthesisSettings
from .synthesis.result import Synthesis
from .synthesis.shape import Shape
from .synthesis.synthesize import synthesize as run_synthesis
from .verifier.all_labels import ask_all_labels
from .verifier.budget import Budget
from .verifier.label_answers import LabelsProblem, LabelsResult
from .verifier.label_rules import LabelRule
from .verifier.network import Network
from .verifier.onnx_reader import load_network
from .verifier.operators import FloatArray
from .verifier.portfolio import Settings, Verifier
from .verifier.preprocessing import Preprocessing
from .verifier.problem import Problem
from .verifier.property import Property
from .verifier.region import Layered, Region
from .verifier.result import Result
from .verifier.session import Judge


def load(path: str | Path, preprocessing: Preprocessing | None = None) -> Network:
    """Read a network from an ONNX file and check it against onnxruntime.

    Raises:
        InputError: for a file that can't be read or an operator that is not supported.
    """
    return load_network(path, preprocessing)


def verify(
    network: Network,
    region: Region | Layered,
    question: Property,
    *,
    timeout: float | None = None,
    settings: Settings | None = None,
    start: NDArray[np.float32] | None = None,
) -> Result:
    """Does the property hold for every input of the region?

    Args:
        network: from :func:`load`.
        region: a box, or a layered neighbourhood.
        question: for example ``top_k(labels, target, k)``.
        timeout: seconds, None for no limit.
        settings: solver, threads, seed, device.
        start: where attacks begin (the clean image).
    """
    box = region.region if isinstance(region, Layered) else region
    problem = Problem(network, box, question, start)
    return Verifier(network, settings).verify(problem, Budget.of_seconds(timeout))


def all_labels(
    network: Network,
    region: Region | Layered,
    rule: LabelRule,
    *,
    timeout: float | None = None,
    settings: Settings | None = None,
    start: NDArray[np.float32] | None = None,
) -> LabelsResult:
    """For every label: is it always in the label set over the region, never, or either?

    Args:
        network: from :func:`load`.
        region: a box, or a layered neighbourhood.
        rule: ``TopKRule(labels, k)``, or ``ThresholdRule(logits)`` with one threshold per label.
        timeout: seconds for all labels together, None for no limit.
        settings: solver, threads, seed, device.
        start: where attacks begin (the clean image).
    """
    box = region.region if isinstance(region, Layered) else region
    problem = LabelsProblem(network, box, rule, start)
    return ask_all_labels(Verifier(network, settings), problem, Budget.of_seconds(timeout))


def weakest_points(
    network: Network,
    region: Region | Layered,
    question: Property,
    *,
    timeout: float | None = 10.0,
    settings: Settings | None = None,
    start: NDArray[np.float32] | None = None,
) -> WeakestPoints:
    """The inputs of a region that come closest to violating a property, and a proven bound on how close.

    For top-k membership these maximise the k-th largest score difference to the target (the weakest points of
    the thesis).

    Args:
        network: from :func:`load`.
        region: a box, or a layered neighbourhood.
        question: for example ``top_k(labels, target, k)``.
        timeout: seconds, None for no limit.
        settings: solver, threads, seed, device.
        start: where the search begins (the clean image).
    """
    box = region.region if isinstance(region, Layered) else region
    problem = Problem(network, box, question, start)
    return find_weakest_points(Verifier(network, settings), problem, Budget.of_seconds(timeout))


def find_object(network: Network, image: NDArray[np.float32], label: int) -> ObjectLayers:
    """The pixels that make the network see ``label``, and the layers around them.

    Raises:
        ImageError: when no object can be attributed to the label; make a mask and use ``ObjectLayers.around``.
    """
    return find_objects(network, image, [label])


def find_objects(
    network: Network,
    image: NDArray[np.float32],
    labels: Sequence[int],
    *,
    k: int | None = None,
    bands: Bands | int | None = None,
) -> ObjectLayers:
    """The pixels that make the network see each of ``labels``, and layers around each of these objects.

    Args:
        network: from :func:`load`.
        image: (channels, height, width), pixels in [0, 1].
        labels: whose objects are wanted.
        k: size of the label set; its other labels are rivals for pixels. None: the file's k, else 2.
        bands: which distances share a layer; a number for so many rings.

    Raises:
        ImageError: when no object can be attributed to a label; make masks and use ``ObjectLayers.around_each``.
    """
    scores = Judge(network).logits
    rivals = [int(other) for other in np.argsort(-scores(image[None])[0])[: (k or network.k or 2)]]
    masks = [locate(scores, image, label, rivals).mask for label in labels]
    return ObjectLayers.around_each(apart(masks), bands)


def synthesize(
    network: Network,
    image: NDArray[np.float32],
    layers: ObjectLayers,
    *,
    target: int,
    k: int = 2,
    weights: FloatArray | None = None,
    objective: Objective = Objective.WEIGHTED_SUM,
    shape: Shape | None = None,
    timeout: float | None = 60.0,
    settings: SynthesisSettings | None = None,
) -> Synthesis:
    """The largest layered neighbourhood around an object that provably keeps ``target`` in the top k.

    Args:
        network: from :func:`load`.
        image: (channels, height, width), pixels in [0, 1].
        layers: the object and the layers around it.
        target: label that must stay.
        k: size of the label set.
        weights: (layers,) of the size, None for uniform.
        objective: what is made large.
        shape: layers that are tied, or an order of the epsilons; None for neither.
        timeout: seconds, None for no limit.
        settings: effort and strategy.

    Raises:
        PropertyError: when the network does not see the target in the clean image, or weights do not fit.
    """
    sized = np.ones(layers.count) if weights is None else weights
    where = Layered(image, layers.layers, np.zeros(layers.count))
    problem = SynthesisProblem(network, where, target, k, sized, objective, shape)
    return run_synthesis(problem, settings, Budget.of_seconds(timeout))
