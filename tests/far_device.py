"""A pretended second device: tensors that refuse what CUDA tensors refuse, on machines without one.

Tensors on it are of a subclass; the mode below lets functions that are asked for the device make such tensors, and
refuses to mix them with tensors at home, to hand them to numpy, and to draw on one device with a generator of another.
"""

from contextlib import contextmanager

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten

FAR = torch.device("cuda", 0)
_INDEXING = (torch.Tensor.__getitem__, torch.Tensor.__setitem__)


class FarTensor(torch.Tensor):
    """A tensor that says it is on `FAR`."""


class _FarMode(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        tensors = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, torch.Tensor)]
        far = [tensor for tensor in tensors if isinstance(tensor, FarTensor)]
        if getattr(func, "__self__", None) is torch.Tensor.device:
            return FAR if far else torch.device("cpu")
        if getattr(func, "__self__", None) is torch.Tensor.grad and far:
            return _away(func(*args))  # autograd leaves a plain tensor there
        if func in (torch.Tensor.numpy, torch.Tensor.__array__) and far:
            raise TypeError("a tensor on the device has no numpy array; .cpu() is missing")
        if func in (torch.Tensor.cpu, torch.Tensor.tolist, torch.Tensor.item):
            return _home(func(_home(args[0])))
        if func is torch.Tensor.to:
            return self._moved(args, kwargs)
        to_far = _is_far(kwargs.get("device"))
        if "device" in kwargs:
            generator = kwargs.get("generator")
            if to_far and generator is not None:
                raise RuntimeError("a generator at home can't draw on the device")
            kwargs["device"] = torch.device("cpu") if to_far else kwargs["device"]
        strangers = [tensor for tensor in tensors if not isinstance(tensor, FarTensor) and tensor.dim() > 0]
        # Indices may be at home, as on CUDA.
        checked = [args[0], *args[2:]] if func in _INDEXING and isinstance(args[0], FarTensor) else tensors
        if far and any(stranger is leaf for stranger in strangers for leaf in checked):
            raise RuntimeError(f"{func.__name__} mixes tensors of two devices")
        result = func(*args, **kwargs)
        return _away(result) if to_far else result

    def _moved(self, args, kwargs):
        """``.to``: by a tensor, a device, a dtype or several of them."""
        source, *wishes = args
        wishes += [kwargs.pop(name) for name in ("device",) if name in kwargs]
        far = isinstance(source, FarTensor)
        rest = []
        for wish in wishes:
            if isinstance(wish, torch.Tensor):
                far = isinstance(wish, FarTensor)
                rest.append(wish.dtype)
            elif isinstance(wish, (torch.device, str)):
                far = _is_far(wish)
            else:
                rest.append(wish)
        plain = _home(source)
        moved = plain.to(*rest, **kwargs) if rest or kwargs else plain
        return _away(moved) if far else moved


def _is_far(device):
    return device is not None and torch.device(device).type == FAR.type


def _home(value):
    if isinstance(value, FarTensor):
        with torch._C.DisableTorchFunctionSubclass():
            return value.as_subclass(torch.Tensor)
    return value


def _away(value):
    if isinstance(value, torch.Tensor) and not isinstance(value, FarTensor):
        with torch._C.DisableTorchFunctionSubclass():
            return value.as_subclass(FarTensor)
    return value


@contextmanager
def far_device():
    """Inside, ``.to(FAR)`` moves tensors to the pretended device."""
    with _FarMode():
        yield FAR
