"""Linear functions of the first convolution's output, where its windows tile the input."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from .dense_backward import applied
from .operators import Conv
from .torch_network import TorchNetwork

# Rows are read so many together that the coefficients on their pixels are about this many numbers: they then stay in
# the cache between two steps.
CACHED_NUMBERS = 250_000


@dataclass(frozen=True, slots=True)
class TiledInput:
    """The network's first operator, a convolution whose windows share no pixel.

    The extreme of a row over a box is a sum over windows then. The coefficients on the pixels are made a few rows at a
    time and never put together as images, which on photos took nine tenths of the time of a pass.
    """

    module: TorchNetwork
    conv: Conv

    @classmethod
    def of(cls, module: TorchNetwork) -> "TiledInput | None":
        """The first operator, if it is such a convolution and alone in reading the input."""
        readers = [operator for operator in module.network.operators if 0 in operator.inputs]
        first = next(iter(module.network.operators), None)
        if not isinstance(first, Conv) or readers != [first]:
            return None
        top, left, bottom, right = first.padding
        tiles = first.weight.shape[2:] == first.stride and first.dilation == (1, 1) and first.groups == 1
        return cls(module, first) if tiles and (top, left) == (bottom, right) else None

    def upper(self, rows: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        """Upper bounds (batch, rows) of ``rows @ output`` over the box.

        Args:
            rows: (batch, rows, *shape of the output).
            lower: (batch, *input_shape).
            upper: likewise.
        """
        weight = self.module.array("weight", 0)
        centre = self.module.affine(0, self.conv, (lower + upper) / 2)
        radius = functional.unfold(
            (upper - lower) / 2, weight.shape[2:], padding=self.conv.padding[:2], stride=self.conv.stride
        )
        total = applied(rows, centre)
        together = max(1, CACHED_NUMBERS // radius.numel())
        spread = [
            applied((weight.flatten(1).T @ part).abs(), radius)
            for part in torch.split(rows.flatten(3), together, dim=1)
        ]
        return total + torch.cat(spread, dim=1)
