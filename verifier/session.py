"""The judge: the user's own ONNX file in onnxruntime, on the CPU."""

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelFormatError
from .network import Network

# onnxruntime logs warnings about initializers that are graph inputs; only errors matter here.
_LOG_ERRORS_ONLY = 3


class Judge:
    """Scores of the user's file, exactly as deployed: float32, onnxruntime, CPU provider, one thread."""

    def __init__(self, network: Network) -> None:
        """Open the file.

        Raises:
            ModelFormatError: when onnxruntime refuses the file.
        """
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = _LOG_ERRORS_ONLY
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(network.path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            reason = str(error).strip().splitlines()[-1]
            raise ModelFormatError(f"{network.path}: onnxruntime can't load it ({reason})") from None
        self._network = network
        # initializers that are graph inputs are offered too; the one that has none is the image
        declared = {item.name for item in self._session.get_overridable_initializers()}
        self._input = next(item.name for item in self._session.get_inputs() if item.name not in declared)

    def scores(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores (batch, labels) of the file at pixels (batch, *input_shape), trailing softmax included."""
        tensor = self._network.preprocessing.apply(pixels.astype(np.float32, copy=False))
        if not self._network.fixed_batch:
            return self._run(tensor)
        return np.concatenate([self._run(tensor[row : row + 1]) for row in range(len(tensor))])

    def _run(self, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        scores = self._session.run(None, {self._input: np.ascontiguousarray(tensor)})[0]
        return cast(NDArray[np.float32], scores.reshape(len(tensor), -1))
