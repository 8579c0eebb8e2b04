"""How pixels in [0, 1] become the input tensor of the user's network; folded into what is verified."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError


class Layout(StrEnum):
    """Axis order of the network's input tensor; regions and images are always CHW."""

    NCHW = "nchw"
    NHWC = "nhwc"


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """``(pixel - mean) / std`` per channel, then the network's layout.

    Attributes:
        mean: per channel, in pixel units [0, 1]; empty means 0.
        std: per channel, in pixel units; empty means 1.
        layout: axis order that the network reads.
    """

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    layout: Layout = Layout.NCHW

    def __post_init__(self) -> None:
        """Reject a standard deviation that is not positive."""
        if any(not np.isfinite(value) or value <= 0 for value in self.std):
            raise InputError(f"--std must be positive numbers, got {self.std}")
        if any(not np.isfinite(value) for value in self.mean):
            raise InputError(f"--mean must be finite numbers, got {self.mean}")

    @property
    def is_identity(self) -> bool:
        """Whether the network reads the pixels as they are."""
        return not self.mean and not self.std and self.layout is Layout.NCHW

    def channel_values(self, channels: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and standard deviation as arrays (channels,).

        Raises:
            InputError: when the number of values is neither 0, 1 nor ``channels``.
        """
        mean = _spread(self.mean, channels, 0.0, "--mean")
        return mean, _spread(self.std, channels, 1.0, "--std")

    def apply(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Pixels (batch, *shape) in [0, 1] to the tensor that the user's file reads, in float32."""
        if self.is_identity:
            return pixels
        mean, std = self.channel_values(pixels.shape[1])
        trailing = (1,) * (pixels.ndim - 2)
        shaped = (pixels - mean.astype(np.float32).reshape(-1, *trailing)) / std.astype(np.float32).reshape(
            -1, *trailing
        )
        return np.moveaxis(shaped, 1, -1) if self.layout is Layout.NHWC else shaped


def _spread(values: tuple[float, ...], channels: int, default: float, option: str) -> NDArray[np.float64]:
    if not values:
        return np.full(channels, default)
    if len(values) not in (1, channels):
        raise InputError(
            f"{option} has {len(values)} values, the network reads {channels} channels: give 1 or {channels}"
        )
    return np.broadcast_to(np.asarray(values, dtype=np.float64), (channels,)).copy()
