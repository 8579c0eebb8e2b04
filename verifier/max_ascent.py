"""Gradient steps on the free parameters of a batch of dual bounds (alpha- and beta-CROWN in closed form)."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

import torch
from torch import Tensor

from .max_bounds import MaxBounds, Sweep
from .max_groups import Blocks, GroupFreedom, GroupLines, Phases

# Steps of Adam on multipliers; new ones start where they give the parent's bound, and long steps leave that at once.
MULTIPLIER_RATE = 0.1
# With a momentum of 0.9, as is usual, slopes overshoot: 8 steps with 0.5 are worth 20.
_MOMENTS = (0.5, 0.95)
_SMALL = 1e-8


@dataclass(frozen=True, slots=True)
class Rates:
    """Steps of Adam.

    Attributes:
        positions: on positions in [0, 1].
        shares: on convex weights of atoms.
        decay: both fall by this factor per step, so that few steps settle.
    """

    positions: float
    shares: float
    decay: float


# Sub-problems start from what their parent has found and get few steps; where everything starts from the default,
# larger steps settle sooner: weights that begin on the wrong atom took 100 steps at 0.05 and take 20.
NEXT = Rates(0.1, 0.05, 0.95)
FIRST = Rates(0.3, 0.3, 0.9)


class Settling(Enum):
    """Which parameters of a sub-problem stay when its steps end.

    LAST: the last ones, unless they are worse than the first: children get further from them than from the best.
    BEST: those of the lowest bound, where the sub-problem's own bound is part of a proof.
    """

    LAST = auto()
    BEST = auto()


@dataclass(frozen=True, slots=True, eq=False)
class Objective:
    """What is bounded: for every sub-problem a combination of some linear functions.

    Attributes:
        blocks: the functions.
        weights: (functions, batch); before normalisation where they are free.
        members: (functions, batch or 1) 1 for the functions that may have a weight, if weights are free (at
            least 0 and 1 in sum); None where they are fixed.
    """

    blocks: Blocks
    weights: Tensor
    members: Tensor | None = None

    def normalised(self) -> Tensor:
        """The weights that are applied."""
        if self.members is None:
            return self.weights
        return self.weights / self.weights.sum(dim=0).clamp(min=torch.finfo(self.weights.dtype).tiny)


class Adam:
    """Moments of one parameter."""

    def __init__(self, parameter: Tensor, rate: float, decay: float) -> None:
        """Start from zero moments for a parameter of this shape, and from a rate that decays."""
        self._first = torch.zeros_like(parameter)
        self._second = torch.zeros_like(parameter)
        self._rate, self._decay = rate, decay

    def step(self, parameter: Tensor, gradient: Tensor, number: int, unit: Tensor | None = None) -> None:
        """Move ``parameter`` (in place) against ``gradient`` in step ``number``, counted from 1.

        ``unit`` is the size of a whole step where it is not 1.
        """
        first, second = _MOMENTS
        self._first.mul_(first).add_(gradient, alpha=1 - first)
        self._second.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        rate = self._rate * self._decay ** (number - 1) / (1 - first**number)
        scale = (self._second / (1 - second**number)).sqrt_().add_(_SMALL)
        move = self._first if unit is None else self._first * unit
        parameter.addcdiv_(move, scale, value=-rate)


class Ascent:
    """The parameters of a batch on their way to lower upper bounds."""

    def __init__(
        self,
        bounds: MaxBounds,
        objective: Objective,
        phases: Sequence[Phases],
        free: Sequence[GroupFreedom],
        rates: Rates = NEXT,
        *,
        settling: Settling | None = None,
    ) -> None:
        """Take over ``free`` and the objective's weights, which are changed in place.

        Args:
            bounds: of the program.
            objective: what is bounded.
            phases: decisions.
            free: parameters.
            rates: of the steps.
            settling: what :meth:`settled` leaves; None where it is not called.
        """
        self.bounds = bounds
        self._settling = settling
        self.objective = objective
        self.phases = tuple(phases)
        self.free = tuple(free)
        self.best = torch.full_like(objective.weights[0], torch.inf)
        self._steps = 0
        self._start: Tensor | None = None
        self._at_best: tuple[Tensor, ...] = ()
        self._slopes = [Adam(item.slopes, rates.positions, rates.decay) for item in free]
        self._thresholds = [
            None if item.thresholds is None else Adam(item.thresholds, rates.positions, rates.decay)
            for item in free
        ]
        self._multipliers = [Adam(item.multipliers, MULTIPLIER_RATE, rates.decay) for item in free]
        self._decided = any(bool((phase.open < 1).any()) for phase in phases)
        # an atom that is alone keeps all the weight
        free_shares = objective.members is not None and bool((objective.members.sum(dim=0) > 1).any())
        self._shares = Adam(objective.weights, rates.shares, rates.decay) if free_shares else None

    def sweep(self, *, up: bool = True) -> Sweep:
        """Bounds with the parameters as they are."""
        return self.bounds.sweep(
            self.objective.blocks, self.objective.normalised(), self.phases, self.free, up=up
        )

    def step(self, target: float) -> bool:
        """Evaluate, and move the parameters of what is not below ``target``; true when everything is.

        Parameters of sub-problems below the target stay as they are: they are what proves it.
        """
        sweep = self.sweep()
        if self._settling is not None:
            self._remember(sweep.bounds)
        self.best = torch.minimum(self.best, sweep.bounds)
        still = (self.best >= target).to(self.best.dtype)
        if not bool(still.any()):
            return True
        self._steps += 1
        for number, group in enumerate(self.bounds.groups[: len(self.free)]):
            self._move(number, group, sweep, still)
        if self._shares is not None:
            self._move_shares(self._shares, sweep, still)
        return False

    def settled(self) -> Sweep:
        """Bounds at the end, with the parameters that stay; see :class:`Settling`."""
        sweep = self.sweep()
        if self._start is None:
            return sweep
        worse = sweep.bounds > (self.best if self._settling is Settling.BEST else self._start)
        if not bool(worse.any()):
            return sweep
        for parameter, best in zip(self._parameters(), self._at_best, strict=True):
            parameter.copy_(torch.where(worse, best, parameter))
        return self.sweep()

    def _parameters(self) -> tuple[Tensor, ...]:
        own = [item for free in self.free for item in (free.slopes, free.thresholds, free.multipliers)]
        return (*(item for item in own if item is not None), self.objective.weights)

    def _remember(self, bounds: Tensor) -> None:
        if self._start is None:
            self._start = bounds
            self._at_best = tuple(item.clone() for item in self._parameters())
            return
        better = bounds < self.best
        for parameter, best in zip(self._parameters(), self._at_best, strict=True):
            best.copy_(torch.where(better, parameter, best))

    def _move(self, number: int, group: GroupLines, sweep: Sweep, still: Tensor) -> None:
        free, phases, count = self.free[number], self.phases[number], self._steps
        coefficients, entries = sweep.coefficients[number], sweep.entries[number]
        negative = coefficients.clamp(max=0) * phases.open * still
        if group.single:
            self._slopes[number].step(free.slopes, negative * entries, count)
            free.slopes.clamp_(0.0, 1.0)
        else:
            beyond = entries - group.spread(group.floor)
            self._slopes[number].step(free.slopes, group.spread(negative) * beyond, count)
            free.slopes.clamp_(0.0, 1.0)
            free.slopes.div_(group.spread(group.gather(free.slopes).clamp(min=1.0)))
            self._move_thresholds(number, group, sweep, still)
        if self._decided:
            gradient = _multiplier_gradient(group, phases, entries) * still
            # a multiplier makes up for the coefficient on its node, and is of that size
            unit = group.spread(coefficients.abs())
            self._multipliers[number].step(free.multipliers, gradient, count, unit)
            free.multipliers.clamp_(min=0.0)

    def _move_thresholds(self, number: int, group: GroupLines, sweep: Sweep, still: Tensor) -> None:
        free, adam = self.free[number], self._thresholds[number]
        if free.thresholds is None or adam is None:
            return
        positive = sweep.coefficients[number].clamp(min=0) * self.phases[number].open * still
        span = group.ceiling - group.floor
        hinge = group.spread(group.floor + free.thresholds * span)
        width = (group.upper - group.lower).clamp(min=torch.finfo(span.dtype).tiny)
        part = (sweep.entries[number] - group.lower) / width * (group.upper > hinge)
        adam.step(free.thresholds, positive * span * (1.0 - group.gather(part)), self._steps)
        free.thresholds.clamp_(0.0, 1.0)

    def _move_shares(self, adam: Adam, sweep: Sweep, still: Tensor) -> None:
        values = self.objective.blocks.forward(sweep.point, sweep.nodes)
        mix = self.objective.normalised()
        gradient = (values - (mix * values).sum(dim=0)) * still
        if self.objective.members is not None:
            gradient = gradient * self.objective.members
        adam.step(self.objective.weights, gradient, self._steps)
        self.objective.weights.clamp_(0.0, 1.0)


def _multiplier_gradient(group: GroupLines, phases: Phases, entries: Tensor) -> Tensor:
    """What the constraints' slacks are at the substituted point: winner minus loser, winner minus zero."""
    if group.single:
        return (phases.won - phases.lost) * entries
    winner = group.spread(group.gather(phases.won * entries))
    own = phases.won * entries * group.spread(group.floored.expand_as(phases.open))
    return own + phases.lost * (winner - entries)


def default_freedom(bounds: MaxBounds, batch: int, groups: int | None = None) -> tuple[GroupFreedom, ...]:
    """Starting parameters: the lower line with the smaller area, the entry with the largest centre."""
    return tuple(_default(group, batch) for group in bounds.groups[:groups])


def _default(group: GroupLines, batch: int) -> GroupFreedom:
    if group.single:
        slopes = (group.upper > -group.lower).to(group.lower.dtype)
        return GroupFreedom(_repeated(slopes, batch), None, group.lower.new_zeros(group.entries, batch))
    centre = group.lower + group.upper
    index = group.node.unsqueeze(1)
    best = torch.full_like(group.floor, -torch.inf).scatter_reduce(0, index, centre, "amax")
    # a constant floor above the centre leaves less area than any entry
    leads = ((centre >= group.spread(best)) & (centre > 2 * group.spread(group.floor))).to(centre.dtype)
    leads = leads / group.spread(group.gather(leads).clamp(min=1.0))
    highest = group.floor.clone().scatter_reduce(0, index, group.upper, "amax")
    top = group.upper >= group.spread(highest)
    second = torch.where(top, group.spread(group.floor), group.upper)
    hinge = group.floor.clone().scatter_reduce(0, index, second, "amax")
    span = (group.ceiling - group.floor).clamp(min=torch.finfo(centre.dtype).tiny)
    thresholds = ((hinge - group.floor) / span).clamp(0.0, 1.0)
    zeros = group.lower.new_zeros(group.entries, batch)
    return GroupFreedom(_repeated(leads, batch), _repeated(thresholds, batch), zeros)


def _repeated(column: Tensor, batch: int) -> Tensor:
    return column.expand(-1, batch).clone()
