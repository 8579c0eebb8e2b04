"""Bounds of inner values with slopes of their own per neuron, the tightest that linear bounds give.

Every entry of a later group is bounded from both sides, all of them as one batch: on the reduced program that
costs what a few convolutional layers cost once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .affine import IndexArray
from .budget import Budget
from .interval import Interval, ValueBounds
from .linear_bounds import WIDENING
from .max_ascent import FIRST, Ascent, Objective, default_freedom
from .max_bounds import MaxBounds
from .max_domains import LEVELS
from .max_groups import GroupFreedom, GroupLines
from .max_program import MaxGroup, MaxProgram, max_program
from .max_record import rounded, single_bounds
from .network import Network
from .operators import FloatArray
from .patch_ascent import PatchAscent
from .proof_record import Recorder
from .property import Clause
from .wanted_bounds import wanted_bounds

# Steps on each group; gains after them are small against what splits gain.
TIGHTEN_STEPS = 8
# Numbers per tensor of a batch (128 MB in float32): wider batches are cut.
BATCH_NUMBERS = 32_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Tightened:
    """A program whose groups have better bounds.

    Attributes:
        program: the program.
        values: the same bounds, and those of all other values as they were.
    """

    program: MaxProgram
    values: ValueBounds


def tighten_program(
    network: Network,
    values: ValueBounds,
    clause: Clause,
    budget: Budget,
    device: str = "cpu",
    recorder: Recorder | None = None,
    steps: int = TIGHTEN_STEPS,
) -> Tightened:
    """Reduce the network, tighten its groups in order, and reduce it again by what became stable.

    Args:
        network: the network.
        values: valid bounds on every value.
        clause: the atoms that are asked about.
        budget: the groups that are reached in time are tightened.
        device: torch device.
        recorder: receives the slopes; they are then rounded to bytes before they count.
        steps: gradient steps on each group.
    """
    values, done = _tighten_patches(network, values, budget, device, recorder, steps)
    program = max_program(network, values, clause)
    record = None if recorder is None else _Record(network, recorder)
    before = program
    for number, group in enumerate(program.groups):
        if budget.exhausted:
            break
        if group.source not in done and group.entries.matrix[:, len(program.pixels) :].nnz:
            program = _tighten_group(program, number, budget, device, record, steps)
    if program is before:
        return Tightened(program, values)
    values = _into_values(values, program)
    return Tightened(max_program(network, values, clause), values)


def _tighten_patches(
    network: Network,
    values: ValueBounds,
    budget: Budget,
    device: str,
    recorder: Recorder | None,
    steps: int,
) -> tuple[ValueBounds, set[int]]:
    """Tighten convolutions near the input by patches; returns the bounds and the values that were done."""
    ascent, done = PatchAscent(network, device), set()
    for number, wanted in wanted_bounds(network).items():
        if not ascent.applies_to(number) or budget.exhausted:
            continue
        interval = values[number]
        chosen = np.flatnonzero(wanted.where(interval.lower, interval.upper))
        better = ascent.tighten(number, values, chosen, steps, budget, recorder)
        values = ValueBounds((*values.values[:number], better, *values.values[number + 1 :]))
        done.add(number)
    return values, done


@dataclass(frozen=True, slots=True, eq=False)
class _Record:
    """Where slopes go that have to be kept."""

    network: Network
    recorder: Recorder

    def keep(
        self,
        bounds: MaxBounds,
        groups: Sequence[MaxGroup],
        entries: IndexArray,
        free: Sequence[GroupFreedom],
    ) -> list[GroupFreedom]:
        """Hand over the slopes of some bounds; returns them as they are after rounding."""
        slopes = [rounded(_rows(item.slopes)) for item in free]
        hinges = [
            np.zeros((2 * len(entries), group.nodes), dtype=np.uint8)
            if item.thresholds is None
            else rounded(_rows(item.thresholds))
            for group, item in zip(groups[:-1], free, strict=True)
        ]
        self.recorder.improve(single_bounds(self.network, groups, entries, slopes, hinges))
        kept = []
        for group, item, slope, hinge in zip(bounds.groups, free, slopes, hinges, strict=False):
            part = _position(bounds, slope)
            if not group.single:
                part = part / group.spread(group.gather(part).clamp(min=1.0))
            hinged = None if item.thresholds is None else _position(bounds, hinge)
            kept.append(GroupFreedom(part, hinged, item.multipliers.to(bounds.device, bounds.dtype)))
        return kept


def _rows(tensor: Tensor) -> FloatArray:
    return np.asarray(tensor.T.cpu().double().numpy())


def _position(bounds: MaxBounds, numbers: NDArray[np.uint8]) -> Tensor:
    return torch.as_tensor(numbers.T.astype(np.float64) / LEVELS, dtype=bounds.dtype, device=bounds.device)


def _tighten_group(
    program: MaxProgram,
    number: int,
    budget: Budget,
    device: str,
    record: _Record | None,
    steps: int,
) -> MaxProgram:
    group = program.groups[number]
    below = replace(program, groups=program.groups[: number + 1])
    search, sure = MaxBounds(below, torch.float32, device), MaxBounds(below, torch.float64, device)
    lower, upper = group.bounds.lower.copy(), group.bounds.upper.copy()
    width = max(program.groups[-1].first, len(program.pixels))
    most = max(1, BATCH_NUMBERS // (2 * width))
    for start in range(0, len(lower), most):
        if budget.exhausted:
            break
        part = np.arange(start, min(start + most, len(lower)))
        highest, negated = _bound_entries(search, sure, number, part, budget, record, steps)
        upper[part] = np.minimum(upper[part], np.maximum(highest, lower[part]))
        lower[part] = np.maximum(lower[part], np.minimum(-negated, upper[part]))
    better = replace(group, bounds=Interval(lower, upper))
    groups = (*program.groups[:number], better, *program.groups[number + 1 :])
    return replace(program, groups=groups)


def _bound_entries(
    search: MaxBounds,
    sure: MaxBounds,
    number: int,
    entries: IndexArray,
    budget: Budget,
    record: _Record | None,
    steps: int,
) -> tuple[FloatArray, FloatArray]:
    """Upper bounds of some entries of a group and of their negations, in float64 with the slopes found."""
    count = len(entries)
    chosen = torch.as_tensor(entries, device=search.device)
    weights = torch.zeros(search.groups[number].entries, 2 * count, device=search.device)
    weights[chosen, torch.arange(count, device=search.device)] = 1.0
    weights[chosen, torch.arange(count, device=search.device) + count] = -1.0
    phases = search.undecided(1)[:number]
    blocks = search.groups[number].blocks
    start = default_freedom(search, 2 * count, number)
    ascent = Ascent(search, Objective(blocks, weights), phases, start, FIRST)
    for _ in range(steps):
        if budget.exhausted or ascent.step(0.0):
            break
    free = [_cast(item, group, sure) for item, group in zip(ascent.free, sure.groups, strict=False)]
    if record is not None:
        free = record.keep(sure, sure.program.groups, entries, free)
    objective = sure.groups[number].blocks
    found = sure.sweep(objective, weights.to(sure.dtype), sure.undecided(1)[:number], free, up=False)
    bounds = found.bounds.cpu().numpy()
    bounds = bounds + WIDENING[torch.float64] * (1.0 + np.abs(bounds))
    bounds = np.where(np.isnan(bounds), np.inf, bounds)
    return bounds[:count], bounds[count:]


def _cast(free: GroupFreedom, group: GroupLines, bounds: MaxBounds) -> GroupFreedom:
    def move(item: Tensor) -> Tensor:
        return item.to(bounds.device, bounds.dtype)

    thresholds = None if free.thresholds is None else move(free.thresholds)
    slopes = move(free.slopes)
    if not group.single:
        # what adds up to 1 in float32 may exceed it, and then the lower line is no bound
        slopes = slopes / group.spread(group.gather(slopes).clamp(min=1.0))
    return GroupFreedom(slopes, thresholds, move(free.multipliers))


def _into_values(values: ValueBounds, program: MaxProgram) -> ValueBounds:
    intervals = list(values.values)
    for group in program.groups:
        old = intervals[group.source]
        intervals[group.source] = _placed(old, group)
    return ValueBounds(tuple(intervals))


def _placed(old: Interval, group: MaxGroup) -> Interval:
    lower, upper = old.lower.copy(), old.upper.copy()
    flat_lower, flat_upper = lower.reshape(-1), upper.reshape(-1)
    # an element may stand in several overlapping windows
    np.maximum.at(flat_lower, group.contestants, group.bounds.lower / group.scale)
    np.minimum.at(flat_upper, group.contestants, group.bounds.upper / group.scale)
    return Interval(lower, upper)
