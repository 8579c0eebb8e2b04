"""Where networks are trained."""

from enum import Enum

import torch

from ..errors import InputError


class Device(Enum):
    """A device as the user asks for it."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


def resolve_device(device: Device) -> torch.device:
    """The torch device to use; AUTO is CUDA where there is one.

    Args:
        device: what was asked for.

    Returns:
        The device.

    Raises:
        InputError: CUDA was asked for and is not there.
    """
    available = torch.cuda.is_available()
    if device is Device.CUDA and not available:
        raise InputError("no CUDA device is available: use --device cpu or --device auto")
    return torch.device("cuda" if available and device is not Device.CPU else "cpu")
