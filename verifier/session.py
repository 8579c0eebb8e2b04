"""The judge: the user's own ONNX file in onnxruntime, on the CPU."""

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelFormatError
from .network import TAIL_OPERATORS, Network, Tail
from .onnx_graph import LOG_NOTHING, one_line


class Judge:
    """Scores of the user's file, exactly as deployed: float32, onnxruntime, CPU provider, one thread."""

    def __init__(self, network: Network) -> None:
        """Open the file.

        Raises:
            ModelFormatError: when onnxruntime refuses the file.
        """
        self._session = _open(network, str(network.path))
        self._logit_session = self._session
        if network.tail is not Tail.NONE:
            self._logit_session = _open(network, _with_logits(network))
        self._network = network
        # initializers that are graph inputs are offered too; the one that has none is the image
        declared = {item.name for item in self._session.get_overridable_initializers()}
        self._input = next(item.name for item in self._session.get_inputs() if item.name not in declared)

    def scores(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores (batch, labels) of the file at pixels (batch, *input_shape), trailing softmax included."""
        return self._all(self._session, pixels)

    def logits(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """The same before the trailing softmax or sigmoid, read from inside the user's graph."""
        return self._all(self._logit_session, pixels)

    def _all(self, session: Any, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        tensor = self._network.preprocessing.apply(pixels.astype(np.float32, copy=False))
        if not self._network.fixed_batch:
            return self._run(session, tensor)
        return np.concatenate([self._run(session, tensor[row : row + 1]) for row in range(len(tensor))])

    def _run(self, session: Any, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            scores = session.run(None, {self._input: np.ascontiguousarray(tensor)})[-1]
        except Exception as error:  # its classes derive from RuntimeError or Exception
            raise ModelFormatError(
                f"{self._network.path}: onnxruntime can't run {len(tensor)} images ({one_line(error)}); "
                "export it with batch 1 or a dynamic batch axis throughout"
            ) from None
        return cast(NDArray[np.float32], scores.reshape(len(tensor), -1))


def _open(network: Network, source: str | bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = LOG_NOTHING
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelFormatError(
            f"{network.path}: onnxruntime can't load it ({one_line(error)}); export it again"
        ) from None


def _with_logits(network: Network) -> bytes:
    """The user's graph with the value before the trailing function as one more output."""
    import onnx

    model = onnx.load(str(network.path))
    producer = {name: node for node in model.graph.node for name in node.output}
    node = producer[model.graph.output[0].name]
    while node.op_type not in TAIL_OPERATORS:
        node = producer[node.input[0]]
    model.graph.output.append(onnx.helper.make_tensor_value_info(node.input[0], onnx.TensorProto.FLOAT, None))
    return cast(bytes, model.SerializeToString())
