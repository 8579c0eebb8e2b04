"""Random small networks as real ONNX files, with the regions and questions that are asked of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from mlverify.verifier.network import Network
from mlverify.verifier.onnx_reader import load_network
from mlverify.verifier.operators import FloatArray
from mlverify.verifier.preprocessing import Layout, Preprocessing
from mlverify.verifier.property import Clause, Property, threshold, top_k
from mlverify.verifier.region import Region
from numpy.typing import NDArray
from onnx import helper
from onnx_factory import write_graph
from scipy import special

Shape = tuple[int, ...]
TAILS = (None, None, None, "Softmax", "LogSoftmax", "Sigmoid")
IMAGE_STEPS = (
    "conv", "conv", "relu", "relu", "leaky", "max-pool", "average-pool", "pad", "batch-norm", "scale", "residual",
    "branch", "concat", "concat-constant", "transpose", "negate",
)  # fmt: skip
VECTOR_STEPS = ("dense", "relu", "leaky", "scale", "residual", "concat", "matmul")
CURVES = ("sigmoid", "tanh")


@dataclass(slots=True)
class GraphWriter:
    """Adds random nodes one after another; ``value`` and ``shape`` are of the latest."""

    rng: np.random.Generator
    value: str
    shape: Shape
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, NDArray[np.generic]] = field(default_factory=dict)

    def add(self, operator: str, shape: Shape, *others: str, **attributes: object) -> None:
        """Add a node that reads the latest value first."""
        name = f"v{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(operator, [self.value, *others], [name], name=f"n{name}", **attributes)
        )
        self.value, self.shape = name, shape

    def constant(self, array: FloatArray | NDArray[np.int64]) -> str:
        """A new initializer."""
        name = f"c{len(self.constants)}"
        kept = array if array.dtype == np.int64 else array.astype(np.float32)
        self.constants[name] = np.asarray(kept)
        return name

    def normal(self, *shape: int) -> str:
        """An initializer of normal numbers."""
        return self.constant(self.rng.normal(size=shape))

    def one_in(self, count: int) -> bool:
        return bool(self.rng.integers(count) == 0)

    # --- steps; each leaves the graph as it was where it does not fit -----------------------------------

    def step(self, kind: str) -> None:
        match kind:
            case "relu":
                self.add("Relu", self.shape)
            case "leaky":
                self.add("LeakyRelu", self.shape, alpha=float(self.rng.choice([0.0, 0.01, 0.3, 0.9])))
            case "sigmoid" | "tanh":
                self.add(kind.title(), self.shape)
            case "negate":
                self.add("Neg", self.shape)
            case "scale":
                self._scale()
            case "residual":
                self._residual()
            case "concat":
                self._concat()
            case "dense" | "matmul":
                self._dense(kind)
            case "conv":
                self._conv()
            case "max-pool" | "average-pool":
                self._pool(kind)
            case "pad":
                self._pad()
            case "batch-norm":
                self._batch_norm()
            case "branch":
                self._branch()
            case "concat-constant":
                shape = (1, *self.shape[1:])
                other = self.normal(1, *shape)
                self.add("Concat", (self.shape[0] + 1, *self.shape[1:]), other, axis=1)
            case "transpose":
                order = self.rng.permutation(len(self.shape)) + 1
                self.add(
                    "Transpose", tuple(self.shape[axis - 1] for axis in order), perm=[0, *map(int, order)]
                )
            case _:
                raise ValueError(kind)

    def _scale(self) -> None:
        shape = self.shape if self.one_in(2) else (self.shape[0], *(1,) * (len(self.shape) - 1))
        operator = str(self.rng.choice(["Add", "Sub", "Mul", "Div"]))
        numbers = self.rng.normal(size=shape)
        if operator == "Div":
            numbers = np.where(np.abs(numbers) < 0.2, 1.0, numbers)
        if self.one_in(3) and operator != "Div":
            # the constant comes first
            name, other = f"v{len(self.nodes)}", self.constant(numbers)
            self.nodes.append(helper.make_node(operator, [other, self.value], [name], name=f"n{name}"))
            self.value = name
        else:
            self.add(operator, self.shape, self.constant(numbers))

    def _residual(self) -> None:
        skipped = self.value
        if self.one_in(2):
            self.step("relu")
        if len(self.shape) == 1:
            self.add("MatMul", self.shape, self.normal(self.shape[0], self.shape[0]))
        else:
            channels = self.shape[0]
            self.add("Conv", self.shape, self.normal(channels, channels, 3, 3), pads=[1, 1, 1, 1])
        if self.one_in(2):
            self.step("relu")
        self.add(str(self.rng.choice(["Add", "Sub"])), self.shape, skipped)

    def _branch(self) -> None:
        """A max-pool (same size) subtracted from what it reads: correlated branches."""
        kept = self.value
        self.add("MaxPool", self.shape, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[1, 1])
        self.add("Sub", self.shape, kept)

    def _concat(self) -> None:
        kept = self.value
        self.step(str(self.rng.choice(["relu", "leaky"])))
        axis = int(self.rng.integers(len(self.shape))) - len(self.shape)
        shape = list(self.shape)
        shape[axis] *= 2
        if int(np.prod(shape)) <= 60:
            self.add("Concat", tuple(shape), kept, axis=axis)

    def _dense(self, kind: str) -> None:
        width = int(self.rng.integers(1, 6))
        if kind == "matmul":
            self.add("MatMul", (width,), self.normal(self.shape[0], width))
        else:
            weight, bias = self.normal(width, self.shape[0]), self.normal(width)
            self.add("Gemm", (width,), weight, bias, transB=1, alpha=float(self.rng.choice([1.0, 0.5])))

    def _conv(self) -> None:
        channels, height, width = self.shape
        groups = channels if self.one_in(4) else 1
        out = groups * int(self.rng.integers(1, 3))
        kernel = self.rng.integers(1, 4, size=2)
        stride, dilation = self.rng.integers(1, 4, size=2), self.rng.choice([1, 1, 2], size=2)
        pads = self.rng.integers(0, 4, size=4) * self.rng.integers(0, 2)
        size = [
            (length + int(pads[axis] + pads[axis + 2]) - int(dilation[axis]) * (int(kernel[axis]) - 1) - 1)
            // int(stride[axis]) + 1
            for axis, length in enumerate((height, width))
        ]  # fmt: skip
        if min(size) < 1 or out * size[0] * size[1] > 60:
            return
        others = [self.normal(out, channels // groups, *map(int, kernel))]
        others += [self.normal(out)] if self.one_in(2) else []
        self.add(
            "Conv", (out, size[0], size[1]), *others, group=groups, kernel_shape=kernel.tolist(),
            strides=stride.tolist(), dilations=dilation.tolist(), pads=pads.tolist(),
        )  # fmt: skip

    def _pool(self, kind: str) -> None:
        if self.nodes and self.nodes[-1].op_type == "Pad":
            # onnxruntime merges the two as if a max-pool were padded with zeros, which is not what ONNX says
            return
        channels, height, width = self.shape
        kernel = self.rng.integers(1, 4, size=2)
        stride = self.rng.integers(1, 4, size=2)
        # onnxruntime wants padding smaller than the kernel
        pads = [int(self.rng.integers(0, size)) for size in (*kernel, *kernel)]
        pads = pads if self.one_in(2) else [0, 0, 0, 0]
        ceil = int(kind == "max-pool" and self.one_in(2))
        size = []
        for axis, length in enumerate((height, width)):
            span = length + pads[axis] + pads[axis + 2] - int(kernel[axis])
            step = int(stride[axis])
            count = (-(-span // step) if ceil else span // step) + 1
            if ceil and (count - 1) * step >= length + pads[axis]:
                # onnxruntime drops this window but expects the shape with it
                return
            size.append(count)
        if min(size) < 1 or channels * size[0] * size[1] > 60:
            return
        operator, attributes = "MaxPool", {"ceil_mode": ceil}
        if kind == "average-pool":
            operator, attributes = "AveragePool", {"count_include_pad": int(self.one_in(2))}
        self.add(
            operator, (channels, size[0], size[1]), kernel_shape=kernel.tolist(), strides=stride.tolist(), pads=pads,
            **attributes,
        )  # fmt: skip

    def _pad(self) -> None:
        channels, height, width = self.shape
        top, left, bottom, right = (int(number) for number in self.rng.integers(0, 3, size=4))
        shape = (channels, height + top + bottom, width + left + right)
        if int(np.prod(shape)) <= 60:
            pads = self.constant(np.array([0, 0, top, left, 0, 0, bottom, right], dtype=np.int64))
            value = self.constant(np.array(self.rng.choice([0.0, -1.5, 0.7])))
            self.add("Pad", shape, pads, value)

    def _batch_norm(self) -> None:
        channels = self.shape[0]
        gain, shift, mean = (self.normal(channels) for _ in range(3))
        variance = self.constant(self.rng.random(channels) + 0.05)
        self.add("BatchNormalization", self.shape, gain, shift, mean, variance)

    def to_vector(self) -> None:
        size = int(np.prod(self.shape))
        if len(self.shape) > 1 and self.one_in(2):
            self.add("Reshape", (size,), self.constant(np.array([0, -1], dtype=np.int64)))
        elif len(self.shape) > 1:
            self.add("Flatten", (size,))

    def scores(self, labels: int, duplicate: bool) -> None:
        """The last affine layer; with ``duplicate`` two labels always tie."""
        weight, bias = self.rng.normal(size=(labels, self.shape[0])), self.rng.normal(size=labels)
        if duplicate and labels > 1:
            weight[-1], bias[-1] = weight[0], bias[0]
        self.add("Gemm", (labels,), self.constant(weight), self.constant(bias), transB=1)


def random_network(
    path: Path, rng: np.random.Generator, *, tiny: bool = False, curved: bool = False
) -> Network:
    """A random network, written to ``path`` and loaded from it (and so checked against onnxruntime).

    Args:
        path: of the file.
        rng: the source of everything random.
        tiny: few neurons, so that all activation patterns can be enumerated.
        curved: with Sigmoid and Tanh between layers, always before the last one.
    """
    image_steps = (*IMAGE_STEPS, *CURVES, *CURVES) if curved else IMAGE_STEPS
    vector_steps = (*VECTOR_STEPS, *CURVES) if curved else VECTOR_STEPS
    labels = int(rng.integers(2, 6))
    image = bool(rng.integers(3))
    size = (int(rng.integers(1, 3)), *map(int, rng.integers(1 if tiny else 2, 3 if tiny else 5, size=2)))
    shape: Shape = size if image else (int(rng.integers(1, 4 if tiny else 7)),)
    preprocessing = _preprocessing(rng, shape)
    file_shape = (*shape[1:], shape[0]) if preprocessing.layout is Layout.NHWC else shape
    writer = GraphWriter(rng, "input", file_shape)
    if preprocessing.layout is Layout.NHWC:
        writer.add("Transpose", shape, perm=[0, 3, 1, 2])
    if image:
        for kind in rng.choice(image_steps, size=int(rng.integers(1, 3 if tiny else 7))):
            writer.step(str(kind))
        writer.to_vector()
    for kind in rng.choice(vector_steps, size=int(rng.integers(0, 3 if tiny else 4))):
        writer.step(str(kind))
    if curved:
        writer.step("dense")
        writer.step(str(rng.choice(CURVES)))
    writer.scores(labels, duplicate=writer.one_in(6))
    tail = TAILS[int(rng.integers(len(TAILS)))]
    if tail:
        attributes = {} if tail == "Sigmoid" else {"axis": 1}
        writer.add(tail, (labels,), **attributes)
    writer.nodes[-1].output[0] = "output"
    batch = 1 if writer.one_in(4) else None
    write_graph(path, writer.nodes, writer.constants, file_shape, labels, batch=batch)
    return load_network(path, preprocessing)


def _preprocessing(rng: np.random.Generator, shape: Shape) -> Preprocessing:
    channels = shape[0]
    layout = Layout.NHWC if len(shape) == 3 and rng.integers(5) == 0 else Layout.NCHW
    mean = tuple(rng.random(channels).tolist()) if rng.integers(4) == 0 else ()
    std = tuple((rng.random(channels) + 0.2).tolist()) if rng.integers(4) == 0 else ()
    return Preprocessing(mean, std, layout)


def random_image(rng: np.random.Generator, shape: Shape) -> NDArray[np.float32]:
    """Pixels in [0, 1], many of them exactly black or white."""
    return np.clip(rng.random(shape, dtype=np.float32) * 2 - 0.5, 0, 1).astype(np.float32)


def random_region(
    rng: np.random.Generator, image: NDArray[np.float32], largest: float | None = None
) -> Region:
    """A box with zero-range pixels; sometimes a point, the whole cube, or a box outside [0, 1]."""
    kind = rng.integers(10)
    if kind == 0:
        return Region.linf(image, 0.0)
    if kind == 1 and largest is None:
        return Region.linf(image, 1.0)
    if kind == 2 and largest is None:
        # numbers of float32, so that a witness can take the zero-range ones
        centre = np.round(rng.normal(size=image.shape), 2).astype(np.float32).astype(np.float64)
        radius = rng.random(image.shape) * (rng.random(image.shape) < 0.6)
        return Region(centre - radius, centre + radius)
    width = float(rng.choice([0.02, 0.1, 0.4])) if largest is None else largest
    epsilons = rng.random(image.shape) * width * (rng.random(image.shape) < rng.choice([0.4, 0.8, 1.0]))
    return Region.per_pixel(image, epsilons)


def random_property(rng: np.random.Generator, network: Network, image: NDArray[np.float32]) -> Property:
    """Mostly top-k membership, of a label that the image has more often than not."""
    labels = len(network.labels)
    logits = logits_at(network, image[None])[0]
    ranked = np.argsort(-logits)
    kind = rng.integers(6)
    if kind == 0:
        target = int(rng.integers(labels))
        side = float(logits[target]) + float(rng.normal()) * 0.3
        return threshold(labels, target, above=bool(logits[target] > side), logit=side)
    if kind == 1:
        clauses = []
        for _ in range(int(rng.integers(1, 3))):
            atoms = int(rng.integers(1, 5))
            weights = rng.normal(size=(atoms, labels))
            offsets = -(weights @ logits) - rng.random(atoms) * float(rng.choice([0.01, 0.3, 2.0]))
            clauses.append(Clause(weights, offsets, int(rng.integers(1, atoms + 1))))
        return Property(tuple(clauses), "random atoms")
    k = int(rng.integers(1, min(4, labels - 1) + 1))
    target = int(ranked[int(rng.integers(k))]) if rng.integers(5) else int(rng.integers(labels))
    return top_k(labels, target, k)


def logits_at(network: Network, points: NDArray[np.floating]) -> FloatArray:
    """Logits (batch, labels) in float64."""
    import torch
    from mlverify.verifier.torch_network import TorchNetwork

    with torch.no_grad():
        module = TorchNetwork(network, torch.float64)
        return np.asarray(module(torch.as_tensor(points, dtype=torch.float64)).numpy())


def points_of(rng: np.random.Generator, region: Region, count: int) -> FloatArray:
    """Points of a region (count + 2, *shape): its two extreme corners, random corners, random points."""
    width = region.upper - region.lower
    share = rng.random((count, *region.shape))
    share[: count // 2] = share[: count // 2].round()
    inside = region.lower + share * width
    found = np.concatenate([region.lower[None], region.upper[None], inside])
    return np.asarray(np.clip(found, region.lower, region.upper))


def all_corners(region: Region, most: int = 10) -> FloatArray | None:
    """Every corner of a region, or None when more than ``most`` pixels move."""
    moving = np.flatnonzero(region.moving)
    if len(moving) > most:
        return None
    corners = np.repeat(region.lower.reshape(1, -1), 2 ** len(moving), axis=0)
    choice = (np.arange(2 ** len(moving))[:, None] >> np.arange(len(moving))) & 1
    corners[:, moving] = np.where(choice == 1, region.upper.reshape(-1)[moving], corners[:, moving])
    return corners.reshape(-1, *region.shape)


def probabilities(tail: str, logits: FloatArray) -> FloatArray:
    """What a trailing function makes of logits (batch, labels), by scipy."""
    match tail:
        case "softmax":
            return np.asarray(special.softmax(logits, axis=1))
        case "log-softmax":
            return np.asarray(special.log_softmax(logits, axis=1))
        case "sigmoid":
            return np.asarray(special.expit(logits))
        case _:
            return logits


def seeds(count: int, offset: int = 0) -> Sequence[int]:
    """Seeds of a loop."""
    return range(offset, offset + count)
