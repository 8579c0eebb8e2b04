"""Nearly exact maxima of many small problems: one hidden layer of ReLUs over a box, branch and bound on all at once.

A neuron two convolutions above the pixels is ``w @ relu(A @ x + b)`` of a small patch. Linear bounds are loose there in
a way that max-pools multiply: what every window could reach at most is added up. Alone each neuron is a small problem,
and all of them share ``A``, so that sub-problems of all neurons are bounded together, by CROWN (Zhang et al. 2018) with
free lower slopes and multipliers for the decisions (beta-CROWN, Wang et al. 2021).
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from .budget import Budget

# Steps of Adam on slopes and multipliers of one sub-problem.
STEPS = 6
RATE = 0.15
MEAN, SQUARE = 0.8, 0.9
# Sub-problems that are bounded together: their tensors stay in the cache.
BATCH = 2048
# A sum of some hundred terms in float64 is exact to 1e-13 of the sum of their sizes; this share of it is added to
# every bound.
WIDENING = 1e-10


@dataclass(frozen=True, slots=True, eq=False)
class WindowProblems:
    """``weights @ relu(matrix @ x + shift)`` with ``lower <= x <= upper``; float64.

    Attributes:
        matrix: (units, inputs).
        shift: (units,).
        weights: (problems, units).
        box: (problems,) number of each problem's box.
        lower: (boxes, inputs).
        upper: (boxes, inputs).
    """

    matrix: Tensor
    shift: Tensor
    weights: Tensor
    box: Tensor
    lower: Tensor
    upper: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class _Nodes:
    """Sub-problems.

    Attributes:
        problem: (nodes,).
        phase: (nodes, units) 1 on, -1 off, 0 undecided.
        free: (nodes, units) position of the lower slope, or size of the multiplier where it is decided.
        bound: (nodes,) upper bounds.
        split: (nodes,) the unit to decide next, -1 where none is open.
    """

    problem: Tensor
    phase: Tensor
    free: Tensor
    bound: Tensor
    split: Tensor

    def __getitem__(self, chosen: Tensor) -> "_Nodes":
        return _Nodes(*(getattr(self, item.name)[chosen] for item in fields(self)))

    def __len__(self) -> int:
        return len(self.bound)


def _joined(parts: list[_Nodes]) -> _Nodes:
    return _Nodes(*(torch.cat([getattr(part, item.name) for part in parts]) for item in fields(_Nodes)))


class WindowSearch:
    """Branch and bound on all problems; ``bounds`` are valid whenever it stops."""

    def __init__(self, problems: WindowProblems) -> None:
        """Bound every problem once."""
        self._of = problems
        self._centre = (problems.lower + problems.upper) / 2
        self._radius = (problems.upper - problems.lower) / 2
        middle = self._centre @ problems.matrix.T + problems.shift
        spread = self._radius @ problems.matrix.abs().T
        slack = WIDENING * (1.0 + middle.abs() + spread)
        self._low, self._high = middle - spread - slack, middle + spread + slack
        sizes = problems.weights.abs() * torch.maximum(self._low.abs(), self._high.abs())[problems.box]
        self._slack = WIDENING * (1.0 + sizes.sum(dim=1))
        count = len(problems.weights)
        self.reached = torch.full_like(self._slack, -torch.inf)
        self._closed = torch.full_like(self._slack, -torch.inf)
        self.nodes = 0
        start = _Nodes(
            torch.arange(count),
            torch.zeros(problems.weights.shape, dtype=torch.int8),
            (self._high > -self._low).to(problems.weights.dtype)[problems.box],
            torch.full_like(self._slack, torch.inf),
            torch.zeros(count, dtype=torch.int64),
        )
        self._nodes = self._bounded(start)

    @property
    def bounds(self) -> Tensor:
        """Upper bounds (problems,)."""
        found = self._closed.scatter_reduce(0, self._nodes.problem, self._nodes.bound, "amax")
        return found + self._slack

    def run(self, tolerance: Tensor, nodes: int, budget: Budget) -> None:
        """Split until every bound is within ``tolerance`` (problems,) of a value that is reached.

        Args:
            tolerance: of the problem's own unit.
            nodes: sub-problems, at most about.
            budget: ends it early.
        """
        while True:
            gap = self._nodes.bound - self.reached[self._nodes.problem] - tolerance[self._nodes.problem]
            done = (gap <= 0) | (self._nodes.split < 0)
            self._close(self._nodes[done])
            self._nodes, gap = self._nodes[~done], gap[~done]
            if len(self._nodes) == 0 or self.nodes >= nodes or budget.exhausted:
                return
            order = torch.argsort(gap, descending=True)
            chosen, rest = order[: BATCH // 2], order[BATCH // 2 :]
            self._nodes = _joined([self._nodes[rest], self._bounded(_children(self._nodes[chosen]))])

    def _close(self, nodes: _Nodes) -> None:
        self._closed.scatter_reduce_(0, nodes.problem, nodes.bound, "amax")

    def _bounded(self, nodes: _Nodes) -> _Nodes:
        self.nodes += len(nodes)
        return _joined([self._part(nodes[part]) for part in torch.split(torch.arange(len(nodes)), BATCH)])

    def _part(self, nodes: _Nodes) -> _Nodes:
        """Bounds with the best of a few steps on slopes and multipliers."""
        of, box = self._of, self._of.box[nodes.problem]
        weights, low, high = of.weights[nodes.problem], self._low[box], self._high[box]
        centre, radius = self._centre[box], self._radius[box]
        on = (nodes.phase > 0) | (low >= 0)
        off = ~on & ((nodes.phase < 0) | (high <= 0))
        undecided = ~(on | off)
        chord = torch.where(undecided & (weights > 0), high / (high - low).clamp(min=1e-300), 0.0)
        sloped = undecided & (weights < 0)
        side = nodes.phase.to(weights.dtype)
        fixed = torch.where(on, weights, weights * chord)
        constant = -(weights * chord * low).sum(dim=1)
        steered = torch.where(sloped, weights, side)
        free, best_free, bound = nodes.free, nodes.free, nodes.bound
        mean, square = torch.zeros_like(free), torch.zeros_like(free)
        split = torch.full_like(nodes.split, -1)
        for step in range(STEPS):
            coefficients = fixed + steered * free
            to_input = coefficients @ of.matrix
            value = constant + coefficients @ of.shift
            value = value + (to_input * centre).sum(dim=1) + (to_input.abs() * radius).sum(dim=1)
            point = centre + radius * to_input.sign()
            units = point @ of.matrix.T + of.shift
            true = torch.relu(units)
            self.reached.scatter_reduce_(0, nodes.problem, (weights * true).sum(dim=1), "amax")
            better = value < bound
            bound = torch.where(better, value, bound)
            best_free = torch.where(better[:, None], free, best_free)
            relaxed = torch.where(sloped, free * units, chord * (units - low))
            loss = torch.where(undecided, weights * (relaxed - true), -1.0)
            split = torch.where(better | (split < 0), _largest(loss), split)
            gradient = steered * units
            mean, square = MEAN * mean + (1 - MEAN) * gradient, SQUARE * square + (1 - SQUARE) * gradient**2
            scale = (square / (1 - SQUARE ** (step + 1))).sqrt() + 1e-12
            free = (free - RATE * mean / (1 - MEAN ** (step + 1)) / scale).clamp(min=0.0)
            free = torch.where(sloped, free.clamp(max=1.0), free)
        return _Nodes(nodes.problem, nodes.phase, best_free, bound, split)


def _largest(loss: Tensor) -> Tensor:
    """The unit that loses most (nodes,), -1 where all are decided."""
    most = loss.max(dim=1)
    return torch.where(most.values > -1.0, most.indices, -1)


def _children(nodes: _Nodes) -> _Nodes:
    """Both decisions of every node's unit; its multiplier starts at zero."""
    rows = torch.arange(len(nodes))
    free = nodes.free.clone()
    free[rows, nodes.split] = 0.0
    parts = []
    for decision in (1, -1):
        phase = nodes.phase.clone()
        phase[rows, nodes.split] = decision
        parts.append(_Nodes(nodes.problem, phase, free, nodes.bound, nodes.split))
    return _joined(parts)
