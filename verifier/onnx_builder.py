"""What the readers of ONNX operators share: the growing list of operators and the named values."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ..errors import UnsupportedOperatorError
from .onnx_graph import GraphFile
from .operators import FloatArray, Operator, Reshape, Shape

Attributes = Mapping[str, Any]


@dataclass(slots=True)
class Builder:
    """Collects operators while a graph is read; values are known by their ONNX names.

    Attributes:
        graph: the file.
        operators: read so far.
        values: numbers of the values that depend on the image, by name.
        constants: all others, by name.
        input_shape: of the network in pixel space.
        sized: constants computed from the shape of a value; they follow the batch size in the file.
        one_image: set when a node fixes the batch to one image even if the input leaves it open.
    """

    graph: GraphFile
    operators: list[Operator] = field(default_factory=list)
    values: dict[str, int] = field(default_factory=dict)
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)
    input_shape: Shape = ()
    sized: set[str] = field(default_factory=set)
    one_image: bool = False

    def shape(self, number: int) -> Shape:
        """Shape of a numbered value."""
        return self.input_shape if number == 0 else self.operators[number - 1].shape

    def append(self, operator: Operator) -> int:
        """Add an operator and return the number of its value."""
        self.operators.append(operator)
        return len(self.operators)

    def constant(self, node: onnx.NodeProto, position: int) -> NDArray[Any] | None:
        """Constant input of a node, None when absent.

        Raises:
            UnsupportedOperatorError: when that input is computed from the image.
        """
        if position >= len(node.input) or not node.input[position]:
            return None
        name = node.input[position]
        if name not in self.constants:
            raise refuse(node, f"its input '{name}' must be a constant")
        return self.constants[name]

    def reshape(self, source: int, shape: Shape, name: str) -> int:
        """Value ``source`` in another shape; nothing is added when the shape is the same."""
        if self.shape(source) == shape:
            return source
        return self.append(Reshape(name, (source,), shape))


Reader = Callable[[Builder, onnx.NodeProto, int, Attributes], int]


def attributes_of(node: onnx.NodeProto) -> Attributes:
    """Attributes of a node by name."""
    return {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}


def refuse(node: onnx.NodeProto, hint: str) -> UnsupportedOperatorError:
    """The error for a node that can't be read; ``hint`` says why and what to do."""
    return UnsupportedOperatorError(node.op_type, node.name or node.output[0], hint)


def as_float(array: NDArray[Any]) -> FloatArray:
    """An array of the file in float64."""
    with np.errstate(invalid="ignore"):  # a NaN is refused by its node's name when all is read
        return np.asarray(array, dtype=np.float64)


def required(builder: Builder, node: onnx.NodeProto, position: int) -> NDArray[Any]:
    """A constant input that the node can't do without."""
    array = builder.constant(node, position)
    if array is None:
        raise refuse(node, f"its input {position} is missing")
    return array
