"""The first convolution where its windows tile the input: the same bounds as on images of coefficients."""

import numpy as np
import pytest
import torch
from mlverify.verifier import tiled_input
from mlverify.verifier.dense_backward import applied
from mlverify.verifier.linear_bounds import LinearBounds
from mlverify.verifier.network import Network
from mlverify.verifier.onnx_reader import load_network
from mlverify.verifier.region import Region
from onnx import helper
from onnx_factory import write_graph

# Size, kernel, stride and padding of convolutions whose windows tile the input, and of others.
TILING = {"exactly": (6, 2, 2, 0), "padded": (7, 3, 3, 1), "unread rows": (8, 3, 3, 0), "one": (5, 5, 5, 0)}
OTHERS = {"overlapping": (6, 3, 2, 0), "gaps": (6, 1, 2, 0)}


def two_layers(name: str, tmp_path, *, twice: bool = False) -> Network:
    """Conv, ReLU and four scores; or scores that also read the input."""
    size, kernel, stride, padding = {**TILING, **OTHERS}[name]
    rng = np.random.default_rng(4)
    side = (size + 2 * padding - kernel) // stride + 1
    constants = {
        "w": rng.normal(size=(3, 2, kernel, kernel)).astype(np.float32),
        "b": rng.normal(size=3).astype(np.float32),
        "v": rng.normal(size=(3 * side * side, 4)).astype(np.float32),
        "u": rng.normal(size=(2 * size * size, 4)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["input", "w", "b"], ["c"], strides=[stride] * 2, pads=[padding] * 4),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Flatten", ["r"], ["flat"]),
        helper.make_node("MatMul", ["flat", "v"], ["scores" if twice else "output"]),
    ]
    if twice:
        nodes += [
            helper.make_node("Flatten", ["input"], ["whole"]),
            helper.make_node("MatMul", ["whole", "u"], ["direct"]),
            helper.make_node("Add", ["scores", "direct"], ["output"]),
        ]
    else:
        del constants["u"]
    return load_network(write_graph(tmp_path / "n.onnx", nodes, constants, (2, size, size), 4))


def boxes(network: Network) -> list[Region]:
    rng = np.random.default_rng(1)
    return [
        Region.linf(rng.random(network.input_shape).astype(np.float32), epsilon)
        for epsilon in (0.0, 0.02, 0.3)
    ]


def test_only_a_convolution_whose_windows_share_no_pixel_applies(tmp_path):
    def tiled(name: str, *, twice: bool = False) -> bool:
        return (
            tiled_input.TiledInput.of(LinearBounds(two_layers(name, tmp_path, twice=twice)).module)
            is not None
        )

    assert all(tiled(name) for name in TILING)
    assert not any(tiled(name) for name in OTHERS)
    assert not tiled("exactly", twice=True)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("together", [1, 100_000])
@pytest.mark.parametrize("name", TILING)
def test_bounds_and_gradients_are_those_of_images(name, together, shared, tmp_path, monkeypatch):
    monkeypatch.setattr(tiled_input, "CACHED_NUMBERS", together)
    network = two_layers(name, tmp_path)
    linear = LinearBounds(network)
    lower, upper = linear.box(boxes(network))
    lower.requires_grad_()
    bounds = linear.propagate(lower, upper)
    rows = torch.as_tensor(np.random.default_rng(2).normal(size=(1 if shared else 3, 5, 4)))
    found = linear.upper(network.output, rows, bounds)
    coefficients, total = linear.to_input(network.output, rows, bounds)
    centre, radius = (lower + upper) / 2, (upper - lower) / 2
    expected = total + applied(coefficients, centre) + applied(coefficients.abs(), radius)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    for mine, other in zip(
        torch.autograd.grad(found.sum(), lower, retain_graph=True),
        torch.autograd.grad(expected.sum(), lower),
        strict=True,
    ):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-9)
