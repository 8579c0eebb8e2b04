"""Bounds of a batch of sub-problems, with slopes, split multipliers and convex combinations of their own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from .bound_types import Bounds, Freedom
from .bounds_engine import SHARE_OF_OTHERS
from .domains import Domain, batch_bounds, split_signs
from .freedom import POOL_SHARPNESS
from .linear_bounds import LinearBounds
from .operators import FloatArray, MaxPool, Relu
from .property import Clause
from .relaxation import PoolFreedom, initial_pool_freedom

SLOPE_RATE = 0.1
MULTIPLIER_RATE = 0.1
SHARE_RATE = 0.05
# The rate falls by this factor per step, so that few steps settle.
DECAY = 0.95


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """What every batch of one set of atoms starts from; tensors have batch 1.

    Attributes:
        linear: float64 bounds of the network.
        root: bounds of all values over the region.
        weights: (atoms, labels) of the set.
        offsets: (atoms,) of the set.
        shares: (1, atoms) convex weights before normalisation.
        slopes: positions of lower slopes by ReLU.
        pools: free parameters by max-pool.
    """

    linear: LinearBounds
    root: Bounds
    weights: Tensor
    offsets: Tensor
    shares: Tensor
    slopes: Mapping[int, Tensor]
    pools: Mapping[int, PoolFreedom]

    @classmethod
    def of(cls, linear: LinearBounds, root: Bounds, clause: Clause, atoms: Sequence[int]) -> "Start":
        """Default slopes, and nearly all weight on the first atom."""
        slopes: dict[int, Tensor] = {}
        pools: dict[int, PoolFreedom] = {}
        for number, operator in enumerate(linear.network.operators, start=1):
            source = operator.inputs[0] if operator.inputs else 0
            low, high = root.lower[source], root.upper[source]
            if isinstance(operator, Relu):
                slopes[number] = (high > -low).to(low.dtype).unsqueeze(1)
            elif isinstance(operator, MaxPool):
                windows = linear.module.gather_windows
                free = initial_pool_freedom(
                    windows(number - 1, low), windows(number - 1, high), POOL_SHARPNESS
                )
                pools[number] = PoolFreedom(free.threshold.unsqueeze(1), free.weights.unsqueeze(1))
        shares = np.full((1, len(atoms)), SHARE_OF_OTHERS)
        shares[0, 0] = 1.0
        members = list(atoms)
        return cls(
            linear,
            root,
            linear.tensor(clause.weights[members]),
            linear.tensor(clause.offsets[members]),
            linear.tensor(shares),
            slopes,
            pools,
        )


class Batch:
    """Free parameters of one batch of sub-problems."""

    def __init__(self, start: Start, domains: Sequence[Domain]) -> None:
        """Every sub-problem starts from the slopes of ``start`` and the multipliers of its parent."""
        self._start = start
        self._domains = tuple(domains)
        self.bounds = batch_bounds(start.linear, start.root, domains)
        count = len(domains)
        self.slopes = {number: _repeat(item, count) for number, item in start.slopes.items()}
        self.pools = {
            number: PoolFreedom(_repeat(item.threshold, count), _repeat(item.weights, count))
            for number, item in start.pools.items()
        }
        self._signs, first = split_signs(start.linear, domains)
        self._multipliers = {number: item.requires_grad_() for number, item in first.items()}
        self.shares = _repeat(start.shares, count)
        self.best = np.full(count, np.inf)
        self._optimiser = self._make_optimiser()

    def _make_optimiser(self) -> torch.optim.Optimizer:
        slopes = [*self.slopes.values(), *(item.threshold for item in self.pools.values())]
        groups = [{"params": slopes, "lr": SLOPE_RATE}, {"params": [self.shares], "lr": SHARE_RATE}]
        if self.pools:
            groups.append({"params": [item.weights for item in self.pools.values()], "lr": 5 * SLOPE_RATE})
        if self._multipliers:
            groups.append({"params": list(self._multipliers.values()), "lr": MULTIPLIER_RATE})
        return torch.optim.Adam(groups, betas=(0.9, 0.95))

    def _freedom(self) -> Freedom:
        splits = {number: self._signs[number] * item for number, item in self._multipliers.items()}
        return Freedom(self.slopes, self.pools, splits)

    def _rows(self) -> tuple[Tensor, Tensor]:
        mix = self.shares / self.shares.sum(dim=1, keepdim=True).clamp(min=1e-12)
        return (mix @ self._start.weights).unsqueeze(1), mix @ self._start.offsets

    def step(self, margin: float) -> bool:
        """One gradient step; true when every sub-problem is below ``-margin``."""
        linear = self._start.linear
        rows, offsets = self._rows()
        upper = linear.upper(linear.network.output, rows, self.bounds, self._freedom())[:, 0] + offsets
        self.best = np.minimum(self.best, upper.detach().cpu().numpy())
        if bool((self.best < -margin).all()):
            return True
        self._optimiser.zero_grad()
        torch.autograd.backward([(upper + 2 * margin).clamp(min=0).sum()])
        self._optimiser.step()
        for group in self._optimiser.param_groups:
            group["lr"] *= DECAY
        with torch.no_grad():
            for item in (
                *self.slopes.values(),
                *(pool.threshold for pool in self.pools.values()),
                self.shares,
            ):
                item.clamp_(0.0, 1.0)
            for item in self._multipliers.values():
                item.clamp_(min=0.0)
        return False

    def evaluate(self) -> tuple[FloatArray, Tensor, dict[int, Tensor]]:
        """Bounds, the inputs that maximise them, and the coefficients on every value."""
        linear = self._start.linear
        seen: dict[int, Tensor] = {}
        with torch.no_grad():
            rows, offsets = self._rows()
            coefficients, total = linear.to_input(
                linear.network.output, rows, self.bounds, self._freedom(), seen
            )
            low, high = self.bounds.lower[0], self.bounds.upper[0]
            inputs = torch.where(coefficients[:, 0] > 0, high, low)
            reached = (coefficients[:, 0] * inputs).flatten(1).sum(dim=1)
        return np.asarray((total[:, 0] + reached + offsets).cpu().numpy()), inputs, seen

    def quick(self, domains: Sequence[Domain], parents: Sequence[int]) -> FloatArray:
        """Bounds of ``domains`` with the slopes and shares of the rows ``parents``, without optimisation."""
        linear = self._start.linear
        bounds = batch_bounds(linear, self._start.root, domains)
        with torch.no_grad():
            slopes = {number: item[list(parents)] for number, item in self.slopes.items()}
            pools = {
                number: PoolFreedom(item.threshold[list(parents)], item.weights[list(parents)])
                for number, item in self.pools.items()
            }
            signs, multipliers = split_signs(linear, domains)
            splits = {number: signs[number] * item for number, item in multipliers.items()}
            rows, offsets = self._rows()
            upper = linear.upper(
                linear.network.output, rows[list(parents)], bounds, Freedom(slopes, pools, splits)
            )
        return np.asarray((upper[:, 0] + offsets[list(parents)]).cpu().numpy())

    def with_multipliers(self) -> tuple[Domain, ...]:
        """The domains with their optimised multipliers, for their children."""
        found = {number: item.detach().cpu().flatten(1) for number, item in self._multipliers.items()}
        return tuple(
            Domain(
                domain.priority,
                domain.order,
                domain.splits,
                tuple(float(found[split.relu][row, split.neuron]) for split in domain.splits),
            )
            for row, domain in enumerate(self._domains)
        )

    def as_start(self) -> Start:
        """The first sub-problem's slopes, pools and shares as a start for others."""
        slopes = {number: item.detach()[:1].clone() for number, item in self.slopes.items()}
        pools = {
            number: PoolFreedom(item.threshold.detach()[:1].clone(), item.weights.detach()[:1].clone())
            for number, item in self.pools.items()
        }
        return replace(self._start, slopes=slopes, pools=pools, shares=self.shares.detach()[:1].clone())


def _repeat(item: Tensor, count: int) -> Tensor:
    return item.detach().expand(count, *item.shape[1:]).clone().requires_grad_()
