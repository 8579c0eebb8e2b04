"""Exact maxima over windows of the input, in place of the upper lines of the ReLUs that look through them.

A sum of ReLUs with positive coefficients is the largest of the sums over some of them, so that its maximum over a
window's box, together with a linear function, is found by trying every choice. CROWN's upper lines lose what one
window's pixels do not allow: that every ReLU is farthest from its line at once, and where the linear rest is largest.
Windows that overlap share out the linear function of their pixels, which leaves the bound at most what it was.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from .affine import IndexArray
from .max_program import MaxGroup, MaxProgram

# ReLUs of a window that are tried jointly, those farthest from their upper lines; the others keep the lines. On four
# hard sets of published questions 3, 4 and 5 took 4.4, 9 and 16 s (DOUBLE-MNIST x3), 1.2, 0.9 and 1.2 s (TRIPLE-MNIST
# x3); without windows none was decided in 20 s.
MOST_JOINT = 4


@dataclass(frozen=True, slots=True, eq=False)
class _Bucket:
    """Windows in which the same number of ReLUs is tried.

    Attributes:
        nodes: (windows, joint) numbers of the ReLUs.
        pixels: (windows, places) numbers of the pixels; one behind the last where a window is smaller.
        share: (windows, places, 1) of the pixel's linear function, times its radius.
        chosen: (choices, joint) 1 where a ReLU is chosen.
        slope: (windows, joint, 1) of its upper line.
        weights: (windows, joint, places) of its entry, times the pixels' radius.
        middle: (windows, joint, 1) its entry in the middle of the box.
        apart: (windows, choices * places, joint) what a choice differs from the lines by, times the radius.
        above: (windows, choices, joint) likewise in the middle of the box.
    """

    nodes: Tensor
    pixels: Tensor
    share: Tensor
    chosen: Tensor
    slope: Tensor
    weights: Tensor
    middle: Tensor
    apart: Tensor
    above: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class WindowMaximum:
    """Where windows are largest, for a batch.

    Attributes:
        total: (batch,) sum of their maxima beyond the linear function in the middle of the box.
        sides: (pixels, batch) in [-1, 1]: where the maximum lies, from the middle, in radii.
        shifts: (nodes, batch) what stands in for the constants of the upper lines; only their sum is a bound.
    """

    total: Tensor
    sides: Tensor
    shifts: Tensor


class WindowMaxima:
    """The windows of a group of ReLUs that read nothing but pixels."""

    def __init__(
        self, group: MaxGroup, program: MaxProgram, slope: Tensor, dtype: torch.dtype, device: torch.device
    ) -> None:
        """Find the windows; :meth:`apply_to` holds.

        Args:
            group: the ReLUs.
            program: whose first group it is.
            slope: (nodes, 1) of the upper lines.
            dtype: of the tensors.
            device: of the tensors.
        """
        self._matrix = group.entries.matrix.copy()
        # a pixel that stands twice in a row would be shared out twice; this also sorts
        self._matrix.sum_duplicates()
        windows = _windows(group, self._matrix)
        self.nodes = tuple(nodes for nodes, _ in windows)
        copies = np.zeros(len(program.pixels) + 1)
        for _, pixels in windows:
            copies[pixels] += 1
        self._radius = (program.box.upper - program.box.lower) / 2
        self._centre = (program.box.upper + program.box.lower) / 2
        self._share = np.append(self._radius, 0.0) / np.maximum(copies, 1)
        self._group, self._slope = group, slope
        self.joint = torch.zeros(group.nodes, 1, dtype=dtype, device=device)
        by_size: dict[int, list[tuple[IndexArray, IndexArray]]] = {}
        for nodes, pixels in windows:
            by_size.setdefault(len(nodes), []).append((nodes, pixels))
            self.joint[nodes] = 1.0
        self._buckets = tuple(self._bucket(found, dtype, device) for found in by_size.values())
        alone = torch.as_tensor(np.where(copies[:-1] == 0, 1.0, 0.0), dtype=dtype, device=device)
        self._alone = alone.unsqueeze(1)
        self._reach = torch.as_tensor(self._radius, dtype=dtype, device=device).unsqueeze(1)

    @staticmethod
    def apply_to(group: MaxGroup, program: MaxProgram) -> bool:
        """Whether the group is one of ReLUs that read pixels only."""
        single = len(group.node) == group.nodes and bool(group.floored.all())
        return single and group.first == len(program.pixels)

    def _bucket(
        self, windows: Sequence[tuple[IndexArray, IndexArray]], dtype: torch.dtype, device: torch.device
    ) -> _Bucket:
        group, count = self._group, len(self._radius)
        nodes = np.stack([chosen for chosen, _ in windows])
        places = np.full((len(windows), max(len(pixels) for _, pixels in windows)), count)
        weights = np.zeros((*nodes.shape, places.shape[1]))
        for row, (chosen, pixels) in enumerate(windows):
            places[row, : len(pixels)] = pixels
            for place, node in enumerate(chosen):
                own = self._matrix.data[self._matrix.indptr[node] : self._matrix.indptr[node + 1]]
                weights[row, place, : len(pixels)] = own * self._radius[pixels]
        middle = group.entries.matrix @ self._centre + group.entries.constant
        chosen = np.array(list(product((0.0, 1.0), repeat=nodes.shape[1])))

        def tensor(array: np.ndarray) -> Tensor:
            return torch.as_tensor(array, dtype=dtype, device=device)

        numbers = torch.as_tensor(nodes, device=device)
        slope = self._slope[:, 0][numbers]
        taken = tensor(chosen).unsqueeze(0) - slope.unsqueeze(1)
        radii = tensor(weights)
        apart = taken.unsqueeze(2) * radii.transpose(1, 2).unsqueeze(1)
        own = tensor(middle[nodes])
        return _Bucket(
            numbers,
            torch.as_tensor(places, device=device),
            tensor(self._share[places]).unsqueeze(2),
            tensor(chosen),
            slope.unsqueeze(2),
            radii,
            own.unsqueeze(2),
            apart.flatten(1, 2),
            taken * own.unsqueeze(1),
        )

    def __call__(self, pixels: Tensor, positive: Tensor) -> WindowMaximum:
        """Maxima of linear functions and of what the ReLUs are above their lines.

        Args:
            pixels: (pixels, batch) the linear functions, upper lines included.
            positive: (nodes, batch) coefficients of the open ReLUs, at least 0.
        """
        batch = pixels.shape[1]
        sides = torch.sign(pixels) * self._alone
        total = (pixels.abs() * (self._alone * self._reach)).sum(dim=0)
        sides = torch.cat([sides, sides.new_zeros(1, batch)])
        padded = torch.cat([pixels, pixels.new_zeros(1, batch)])
        shifts = torch.zeros_like(positive)
        for bucket in self._buckets:
            value, side, above = _solve(bucket, padded, positive)
            total = total + value
            shifts[bucket.nodes.flatten()] = above.flatten(0, 1)
            sides.index_add_(0, bucket.pixels.flatten(), (side * bucket.share).flatten(0, 1))
        reach = self._reach.clamp(min=torch.finfo(pixels.dtype).tiny)
        covered = 1.0 - self._alone
        return WindowMaximum(total, sides[:-1] * (self._alone + covered / reach), shifts)


def _solve(bucket: _Bucket, pixels: Tensor, positive: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sum of the maxima (batch,), sides (windows, places, batch), and shifts (windows, joint, batch)."""
    places = bucket.pixels.shape[1]
    own = positive[bucket.nodes]
    linear = pixels[bucket.pixels] * bucket.share
    # every size is named: with no places it could not be found
    shape = (len(own), len(bucket.chosen), places, own.shape[2])
    apart = torch.bmm(bucket.apart, own).reshape(shape) + linear.unsqueeze(1)
    value = apart.abs().sum(dim=2) + torch.bmm(bucket.above, own)
    most, best = value.max(dim=1)
    index = best[:, None, None].expand(-1, 1, places, -1)
    side = torch.sign(apart.gather(1, index)[:, 0])
    entries = bucket.middle + torch.bmm(bucket.weights, side)
    above = (bucket.chosen[best].transpose(1, 2) - bucket.slope) * entries
    return most.sum(dim=0), side, above


def _windows(group: MaxGroup, matrix: sparse.csr_matrix) -> list[tuple[IndexArray, IndexArray]]:
    """ReLUs that read the same pixels, those farthest from their lines, and the pixels; both ascending."""
    found: dict[bytes, list[int]] = {}
    for node, (start, end) in enumerate(pairwise(matrix.indptr)):
        found.setdefault(matrix.indices[start:end].tobytes(), []).append(node)
    low, high = group.bounds.lower, group.bounds.upper
    gap = -high * low / np.maximum(high - low, np.finfo(np.float64).tiny)
    windows = []
    for nodes in found.values():
        chosen = sorted(sorted(nodes, key=lambda node: -gap[node])[:MOST_JOINT])
        windows.append(
            (np.array(chosen), matrix.indices[matrix.indptr[nodes[0]] : matrix.indptr[nodes[0] + 1]])
        )
    return windows
