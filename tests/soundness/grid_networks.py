"""Networks of two convolutions and scores, whose objectives fall into parts."""

import numpy as np
import torch
from mlverify.verifier.onnx_reader import load_network
from mlverify.verifier.property import top_k
from mlverify.verifier.region import Region
from onnx import helper
from onnx_factory import write_graph

# (kernel, stride) of the two convolutions over 12 x 12 pixels: blocks of their own, and blocks that overlap.
TILES, OVERLAP, POOLED = ((2, 2), (3, 3)), ((3, 2), (2, 2)), ((3, 1), (2, 2))


def grid_network(path, layers, seed, *, pool=False, lift=0.0):
    """With a large ``lift`` all ReLUs of the first layer are active."""
    generator = np.random.default_rng(seed)
    nodes, constants, value, side, channels = [], {}, "input", 12, 1
    for number, (kernel, stride) in enumerate(layers):
        after = 3 + number
        shape = (after, channels, kernel, kernel)
        constants[f"w{number}"] = (generator.normal(size=shape) / kernel).astype(np.float32)
        bias = generator.normal(size=after) / 4 + (0.0 if number else lift)
        constants[f"b{number}"] = bias.astype(np.float32)
        nodes.append(
            helper.make_node(
                "Conv", [value, f"w{number}", f"b{number}"], [f"c{number}"], strides=[stride, stride]
            )
        )
        value, channels, side = f"c{number}", after, (side - kernel) // stride + 1
        if pool and number == 1:
            nodes.append(
                helper.make_node("MaxPool", [value], ["pooled"], kernel_shape=[2, 2], strides=[2, 2])
            )
            value, side = "pooled", (side - 2) // 2 + 1
        else:
            nodes.append(helper.make_node("Relu", [value], [f"r{number}"]))
            value = f"r{number}"
    constants["shape"] = np.array([1, -1], dtype=np.int64)
    nodes.append(helper.make_node("Reshape", [value, "shape"], ["flat"]))
    constants["wo"] = generator.normal(size=(4, channels * side * side)).astype(np.float32)
    constants["bo"] = generator.normal(size=4).astype(np.float32)
    nodes.append(helper.make_node("Gemm", ["flat", "wo", "bo"], ["output"], transB=1))
    return load_network(write_graph(path, nodes, constants, (1, 12, 12), 4, batch=1))


def question(network, seed, epsilon):
    generator = np.random.default_rng(seed)
    image = generator.random(network.input_shape).astype(np.float32)
    with torch.no_grad():
        target = int(network.module()(torch.tensor(image)[None])[0].argmax())
    return Region.linf(image, epsilon), top_k(4, target, 1 + seed % 2)
