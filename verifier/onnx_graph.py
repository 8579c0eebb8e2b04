"""Reading an ONNX file: bytes, checks, constants, and the one data input and output."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from ..errors import ModelFormatError
from .operators import Shape

# Files up to this protobuf size are read; larger ones keep their weights in external files anyway.
MAX_BYTES = 2_000_000_000
# onnxruntime's errors reach the user as ours, not on stderr.
LOG_NOTHING = 4

_KINDS = {number: name for name, number in onnx.TensorProto.DataType.items()}


@dataclass(frozen=True, slots=True, eq=False)
class GraphFile:
    """An ONNX file as read from disk.

    Attributes:
        path: where it was read.
        sha256: of the file's bytes.
        model: the parsed protobuf.
        input_name: the one graph input that is not an initializer.
        input_shape: its shape without the batch axis.
        batch: fixed batch size, or None when it is dynamic.
        output_name: the one graph output.
        constants: initializers by name.
        metadata: the file's metadata properties.
    """

    path: Path
    sha256: str
    model: onnx.ModelProto
    input_name: str
    input_shape: Shape
    batch: int | None
    output_name: str
    constants: Mapping[str, NDArray[Any]]
    metadata: Mapping[str, str]

    @property
    def opset(self) -> int:
        """Version of the default operator set."""
        return max(
            (item.version for item in self.model.opset_import if item.domain in ("", "ai.onnx")), default=1
        )


def read_graph_file(path: Path) -> GraphFile:
    """Read and check an ONNX file.

    Raises:
        ModelFormatError: missing file, not an ONNX file, truncated, several data inputs or outputs, or an
            input whose shape is not fixed.
    """
    content = _read_bytes(path)
    model = _parse(path, content)
    constants = _constants(path, model)
    data_inputs = [value for value in model.graph.input if value.name not in constants]
    if len(data_inputs) != 1 or len(model.graph.output) != 1:
        raise ModelFormatError(
            f"{path} has {len(data_inputs)} data inputs and {len(model.graph.output)} outputs; "
            "mlverify reads networks with one of each: export the one-image, one-score-vector part"
        )
    batch, shape = _input_shape(path, data_inputs[0])
    return GraphFile(
        path=path,
        sha256=hashlib.sha256(content).hexdigest(),
        model=model,
        input_name=data_inputs[0].name,
        input_shape=shape,
        batch=batch,
        output_name=model.graph.output[0].name,
        constants=constants,
        metadata={item.key: item.value for item in model.metadata_props},
    )


def _read_bytes(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ModelFormatError(f"{path} does not exist; give the path of an ONNX file") from None
    except OSError as error:
        raise ModelFormatError(
            f"{path} can't be read ({error.strerror}); give the path of an ONNX file"
        ) from None
    if not content:
        raise ModelFormatError(f"{path} is empty; export the network again")
    if len(content) > MAX_BYTES:
        raise ModelFormatError(
            f"{path} is larger than 2 GB; mlverify reads networks that fit one protobuf file"
        )
    if content.startswith((b"\x89PNG", b"\xff\xd8\xff", b"\x93NUMPY")):
        raise ModelFormatError(f"{path} looks like an image; the order is MODEL IMAGE")
    if content[:2] == b"\x1f\x8b":
        raise ModelFormatError(f"{path} is gzip-compressed; unpack it first (gunzip)")
    return content


def _parse(path: Path, content: bytes) -> onnx.ModelProto:
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except Exception:  # protobuf's DecodeError is not public across its versions
        raise ModelFormatError(
            f"{path} is not a readable ONNX file (wrong format or truncated); export it again"
        ) from None
    if not model.graph.node or not model.graph.output:
        raise ModelFormatError(f"{path} is not an ONNX network (no nodes or no output); export it again")
    if not model.opset_import:
        raise ModelFormatError(f"{path} names no operator set (truncated, or not ONNX); export it again")
    # protobuf hands out text that is not UTF-8 as bytes
    names = [name for node in model.graph.node for name in _names(node)]
    names += [item.name for item in (*model.graph.input, *model.graph.output, *model.graph.initializer)]
    if not all(isinstance(name, str) and name.isprintable() for name in names):
        raise ModelFormatError(f"{path} has names that are not text, so it is damaged; export it again")
    return model


def _names(node: onnx.NodeProto) -> Iterator[str | bytes]:
    """Every text of a node that a message may quote."""
    yield from (node.name, node.op_type, node.domain, *node.input, *node.output)


def _constants(path: Path, model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    try:
        return {
            tensor.name: numpy_helper.to_array(tensor, base_dir=str(path.parent))
            for tensor in model.graph.initializer
        }
    except Exception as error:
        raise ModelFormatError(
            f"{path}: an initializer can't be read ({one_line(error)}); export the network again, and keep "
            "its weight files beside it"
        ) from None


def _input_shape(path: Path, value: onnx.ValueInfoProto) -> tuple[int | None, Shape]:
    if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
        raise ModelFormatError(
            f"{path}: input '{value.name}' has no shape; export it with a fixed image size"
        )
    dims = [dim.dim_value if dim.HasField("dim_value") else 0 for dim in value.type.tensor_type.shape.dim]
    if value.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        kind = _KINDS.get(value.type.tensor_type.elem_type, "of an unknown type")
        raise ModelFormatError(f"{path}: input '{value.name}' is {kind}; mlverify reads float32 inputs")
    if len(dims) < 2:
        raise ModelFormatError(
            f"{path}: input '{value.name}' has shape {dims}; export it with a batch axis before the image"
        )
    if any(size <= 0 for size in dims[1:]):
        raise ModelFormatError(
            f"{path}: input '{value.name}' has shape {dims} (0 = dynamic); only the batch axis may be "
            "dynamic: export with a fixed image size"
        )
    if dims[0] > 1:
        raise ModelFormatError(
            f"{path}: the batch size is fixed to {dims[0]}; export with batch 1 or a dynamic batch"
        )
    return (dims[0] or None), tuple(dims[1:])


def one_line(error: Exception, length: int = 200) -> str:
    """The message of a library's error, fit for one line of ours.

    Of a long one the middle is left out: onnxruntime begins with the kind of error and ends with the cause.
    """
    text = " ".join(str(error).split()) or type(error).__name__
    half = length // 2
    return text if len(text) <= length else f"{text[:half]} ... {text[-half:]}"


def evaluate_constant(
    graph: GraphFile, node: onnx.NodeProto, inputs: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """Outputs of a node whose inputs are all constant, by onnxruntime.

    onnx's own reference evaluator takes some operators of old operator sets for their newest form.
    """
    import onnxruntime

    given = {name: np.asarray(inputs[name]) for name in node.input if name}
    options = onnxruntime.SessionOptions()
    options.log_severity_level = LOG_NOTHING
    session = onnxruntime.InferenceSession(
        _model_of(graph, node, given), options, providers=["CPUExecutionProvider"]
    )
    names = [name for name in node.output if name]
    return dict(zip(names, map(np.asarray, session.run(names, given)), strict=True))


def _model_of(graph: GraphFile, node: onnx.NodeProto, inputs: Mapping[str, NDArray[Any]]) -> bytes:
    """A file with this node alone, in the operator set of its graph."""
    described = [
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in inputs.items()
    ]
    # onnxruntime finds out the types of the results
    results = [onnx.helper.make_empty_tensor_value_info(name) for name in node.output if name]
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "constant", described, results),
        opset_imports=[onnx.helper.make_opsetid("", graph.opset)],
        ir_version=graph.model.ir_version,
    )
    return bytes(model.SerializeToString())
