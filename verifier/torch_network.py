"""The network as a torch module: attacks, the GPU and the tests run on it."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from .curves import evaluate_curve
from .network import Network
from .operators import (
    Concat,
    Constant,
    Conv,
    FloatArray,
    Linear,
    MaxPool,
    Operator,
    Pad,
    Relu,
    Reshape,
    Scale,
    SShaped,
    Sum,
    Transpose,
)


class TorchNetwork(nn.Module):
    """Forward evaluation of a :class:`Network`.

    Weights are buffers, so ``.to(device, dtype)`` works as usual and nothing is trainable.
    """

    def __init__(self, network: Network, dtype: torch.dtype = torch.float32) -> None:
        """Copy the weights of ``network`` into buffers of ``dtype``."""
        super().__init__()
        self.network = network
        for position, operator in enumerate(network.operators):
            for name, array in _arrays(operator):
                self.register_buffer(f"{name}_{position}", torch.tensor(array, dtype=dtype))
            if isinstance(operator, MaxPool):
                self.register_buffer(f"windows_{position}", torch.tensor(operator.windows))

    def array(self, name: str, position: int) -> Tensor:
        """A weight of operator ``position`` as a tensor."""
        return cast(Tensor, getattr(self, f"{name}_{position}"))

    def values(self, inputs: Tensor) -> list[Tensor]:
        """Every numbered value at ``inputs`` (batch, *input_shape)."""
        values = [inputs]
        for position, operator in enumerate(self.network.operators):
            values.append(
                self.step(position, operator, [values[source] for source in operator.inputs], len(inputs))
            )
        return values

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (batch, labels) at ``inputs`` (batch, *input_shape), pixels in [0, 1]."""
        return self.values(inputs)[self.network.output]

    def step(self, position: int, operator: Operator, inputs: list[Tensor], batch: int) -> Tensor:
        """Output of one operator at its input values (batch, *shape)."""
        match operator:
            case Relu():
                if operator.negative_slope:
                    return functional.leaky_relu(inputs[0], operator.negative_slope)
                return functional.relu(inputs[0])
            case MaxPool():
                return self.gather_windows(position, inputs[0]).amax(dim=-1).reshape(batch, *operator.shape)
            case SShaped():
                return evaluate_curve(operator.curve, inputs[0])
            case Sum():
                return operator.signs[0] * inputs[0] + operator.signs[1] * inputs[1]
            case Concat():
                return torch.cat(inputs, dim=operator.axis + 1)
            case Constant():
                return self.array("value", position).expand(batch, *operator.shape)
            case _:
                return self.affine(position, operator, inputs[0])

    def gather_windows(self, position: int, value: Tensor, fill: float = -torch.inf) -> Tensor:
        """Inputs of every pooling window (batch, outputs, window); padding reads ``fill``."""
        windows = self.array("windows", position)
        flat = functional.pad(value.flatten(1), (0, 1), value=fill)
        return flat[:, windows]

    def affine(self, position: int, operator: Operator, value: Tensor) -> Tensor:
        """Output of an affine operator with one input."""
        match operator:
            case Conv():
                return self._conv(position, operator, value)
            case Linear():
                return functional.linear(value, self.array("weight", position), self.array("bias", position))
            case Scale():
                return value * self.array("scale", position) + self.array("shift", position)
            case Pad():
                top, left, bottom, right = operator.padding
                return functional.pad(value, (left, right, top, bottom), value=operator.value)
            case Reshape():
                return value.reshape(len(value), *operator.shape)
            case Transpose():
                return value.permute(0, *(axis + 1 for axis in operator.permutation))
            case _:
                raise TypeError(f"no forward evaluation for {type(operator).__name__}")

    def _conv(self, position: int, operator: Conv, value: Tensor) -> Tensor:
        top, left, bottom, right = operator.padding
        if (top, left) == (bottom, right):
            pads: tuple[int, int] = (top, left)
        else:
            value, pads = functional.pad(value, (left, right, top, bottom)), (0, 0)
        return functional.conv2d(
            value,
            self.array("weight", position),
            self.array("bias", position),
            operator.stride,
            pads,
            operator.dilation,
            operator.groups,
        )


def _arrays(operator: Operator) -> list[tuple[str, FloatArray]]:
    match operator:
        case Conv() | Linear():
            return [("weight", operator.weight), ("bias", operator.bias)]
        case Scale():
            return [("scale", operator.scale), ("shift", operator.shift)]
        case Constant():
            return [("value", operator.value)]
        case _:
            return []
