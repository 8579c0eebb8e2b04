"""Trained networks as ONNX files that carry the names of their labels.

The graph is written layer by layer from the `Sequential`: the file does not depend on torch's
exporter, so equal weights give equal bytes with every version of torch.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from ..errors import DisagreementError, InputError
from .architectures import specification
from .checkpoints import Provenance
from .files import write_whole

OPSET = 17
# IR version 8 is the one of opset 17; older readers refuse newer ones without need.
IR_VERSION = 8
INPUT, OUTPUT = "input", "logits"
# float32 sums of some thousand terms in another order differ by a few 1e-6 of the largest logit.
AGREEMENT = 1e-4
_CHECK_IMAGES = 16


@dataclass(frozen=True, slots=True)
class ExportInfo:
    """What an exported file says about itself.

    Attributes:
        labels: name of each logit.
        k: how many labels an image has.
        input_shape: channels, height, width.
        provenance: training and accuracy.
    """

    labels: tuple[str, ...]
    k: int
    input_shape: tuple[int, int, int]
    provenance: Provenance

    @classmethod
    def of(cls, provenance: Provenance) -> "ExportInfo":
        """What a network of this provenance says: its labels are the digits."""
        spec = specification(provenance.architecture)
        names = tuple(str(label) for label in range(spec.classes))
        return cls(names, spec.family.digits, spec.input_shape, provenance)


def export_onnx(network: nn.Sequential, info: ExportInfo, file: Path) -> None:
    """Write a network as one ONNX file: input `input` (batch, C, H, W), output `logits` (batch, labels).

    Args:
        network: on the CPU; Conv2d, ReLU, MaxPool2d, Flatten and Linear in a row.
        info: written as metadata: `labels` (a JSON list), `k`, `pixel_range`, `architecture`, `loss`,
            `defence`, `seed`, `epochs`, `test_exact_match`, `test_images`.
        file: where to; replaced only when the new file is complete and checked.

    Raises:
        InputError: a layer cannot be exported, or the file cannot be written.
        DisagreementError: onnxruntime computes other logits than torch.
    """
    model = _model(network, info)
    content = model.SerializeToString()
    _check_agreement(network, content, info.input_shape)
    write_whole(file, content)


@dataclass(frozen=True, slots=True)
class _Piece:
    """One ONNX node with its constants."""

    node: onnx.NodeProto
    constants: tuple[onnx.TensorProto, ...] = ()


def _model(network: nn.Sequential, info: ExportInfo) -> onnx.ModelProto:
    pieces = _pieces(network)
    channels, height, width = info.input_shape
    graph = helper.make_graph(
        [piece.node for piece in pieces],
        info.provenance.architecture.value,
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", channels, height, width])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", len(info.labels)])],
        [constant for piece in pieces for constant in piece.constants],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="mlverify",
    )
    helper.set_model_props(model, _metadata(info))
    onnx.checker.check_model(model, full_check=True)
    return model


def _metadata(info: ExportInfo) -> dict[str, str]:
    origin = info.provenance
    return {
        "labels": json.dumps(list(info.labels)),
        "k": str(info.k),
        "pixel_range": "[0, 1]",
        "architecture": origin.architecture.value,
        "loss": origin.loss,
        "defence": origin.defence,
        "seed": str(origin.seed),
        "epochs": str(origin.epochs),
        "test_exact_match": f"{origin.exact_match:.4f}",
        "test_images": str(origin.test_images),
    }


def _pieces(network: nn.Sequential) -> list[_Piece]:
    layers = list(network.children())
    names = [INPUT, *(f"layer{index}" for index in range(1, len(layers))), OUTPUT]
    return [
        _piece(layer, names[index], names[index + 1], f"layer{index}") for index, layer in enumerate(layers)
    ]


def _piece(layer: nn.Module, source: str, target: str, name: str) -> _Piece:
    writers: tuple[tuple[type[nn.Module], Callable[..., _Piece]], ...] = (
        (nn.Conv2d, _convolution),
        (nn.Linear, _linear),
        (nn.MaxPool2d, _max_pool),
        (nn.ReLU, _relu),
        (nn.Flatten, _flatten),
    )
    for kind, writer in writers:
        if type(layer) is kind:
            return writer(layer, source, target, name)
    raise InputError(f"layer '{name}' ({type(layer).__name__}) has no ONNX form here: use a known kind")


def _convolution(layer: nn.Conv2d, source: str, target: str, name: str) -> _Piece:
    if isinstance(layer.padding, str) or layer.padding_mode != "zeros":
        raise InputError(f"layer '{name}': only explicit zero padding can be exported")
    constants = _constants(layer.weight, layer.bias, name)
    node = helper.make_node(
        "Conv",
        [source, *(constant.name for constant in constants)],
        [target],
        name,
        kernel_shape=list(layer.kernel_size),
        strides=list(layer.stride),
        pads=[*layer.padding, *layer.padding],
        dilations=list(layer.dilation),
        group=layer.groups,
    )
    return _Piece(node, constants)


def _linear(layer: nn.Linear, source: str, target: str, name: str) -> _Piece:
    constants = _constants(layer.weight, layer.bias, name)
    inputs = [source, *(constant.name for constant in constants)]
    return _Piece(helper.make_node("Gemm", inputs, [target], name, transB=1), constants)


def _max_pool(layer: nn.MaxPool2d, source: str, target: str, name: str) -> _Piece:
    if layer.ceil_mode or _pair(layer.dilation) != [1, 1] or layer.return_indices:
        raise InputError(f"layer '{name}': ceil mode, dilation and indices of max-pool cannot be exported")
    padding = _pair(layer.padding)
    node = helper.make_node(
        "MaxPool",
        [source],
        [target],
        name,
        kernel_shape=_pair(layer.kernel_size),
        strides=_pair(layer.stride),
        pads=[*padding, *padding],
    )
    return _Piece(node)


def _relu(_: nn.ReLU, source: str, target: str, name: str) -> _Piece:
    return _Piece(helper.make_node("Relu", [source], [target], name))


def _flatten(layer: nn.Flatten, source: str, target: str, name: str) -> _Piece:
    if layer.start_dim != 1 or layer.end_dim != -1:
        raise InputError(f"layer '{name}': only a Flatten of all but the batch axis can be exported")
    return _Piece(helper.make_node("Flatten", [source], [target], name, axis=1))


def _constants(weight: torch.Tensor, bias: torch.Tensor | None, name: str) -> tuple[onnx.TensorProto, ...]:
    arrays = [("weight", weight)] + ([("bias", bias)] if bias is not None else [])
    return tuple(
        numpy_helper.from_array(array.detach().cpu().numpy().astype(np.float32), f"{name}.{role}")
        for role, array in arrays
    )


def _pair(value: int | tuple[int, ...]) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


def _check_agreement(network: nn.Sequential, content: bytes, input_shape: tuple[int, int, int]) -> None:
    """Run both on random images, once as a batch and once alone."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).random((_CHECK_IMAGES, *input_shape), np.float32)
    for batch in (images, images[:1]):
        (answer,) = session.run([OUTPUT], {INPUT: batch})
        _compare(_torch_logits(network, batch), answer)


@torch.no_grad()
def _torch_logits(network: nn.Sequential, images: NDArray[np.float32]) -> NDArray[np.float32]:
    logits: NDArray[np.float32] = network.eval()(torch.from_numpy(images)).numpy()
    return logits


def _compare(expected: NDArray[np.float32], answer: NDArray[np.float32]) -> None:
    difference = float(np.abs(expected - answer).max())
    allowed = AGREEMENT * max(1.0, float(np.abs(expected).max()))
    if not difference <= allowed:
        raise DisagreementError(
            f"the exported network differs from torch by {difference:.2e} (allowed {allowed:.2e}): "
            "please report this as a bug"
        )
