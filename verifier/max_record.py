"""Proofs of branch and bound on max programs as certificates: what stands where in the network."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .affine import IndexArray
from .max_domains import LEVELS, Domain, Layout
from .max_groups import FLOOR
from .max_program import MaxGroup
from .network import Network
from .operators import FloatArray, MaxPool
from .proof_certificate import Decision, Leaves, Path, Side, SubProblems
from .proof_forward import Single
from .proof_maxima import ZERO_WINS
from .proof_record import leaf_table, sub_problems
from .proof_slopes import PoolSlopes, ReluSlopes, Slopes

Bytes = NDArray[np.uint8]


def leaves_of(
    network: Network, groups: Sequence[MaxGroup], layout: Layout, refutation: int, domains: Sequence[Domain]
) -> Leaves:
    """The closed sub-problems of one refutation.

    Args:
        network: the network.
        groups: of the program that was searched.
        layout: of its domains' arrays.
        refutation: its number in the recorder.
        domains: the sub-problems, at least one.
    """
    atoms = sorted(domains[0].atoms)
    shares = [domain.shares[atoms].astype(np.float64) for domain in domains]
    table, paths, multipliers = _contents(network, groups, layout, domains)
    return leaf_table([refutation] * len(domains), shares, table, paths, multipliers)


def tree_of(
    network: Network, groups: Sequence[MaxGroup], layout: Layout, domains: Sequence[Domain]
) -> SubProblems:
    """The sub-problems of one part; see :func:`leaves_of`."""
    table, paths, multipliers = _contents(network, groups, layout, domains)
    return sub_problems(paths, multipliers, table)


def _contents(
    network: Network, groups: Sequence[MaxGroup], layout: Layout, domains: Sequence[Domain]
) -> tuple[Slopes, list[Path], list[FloatArray]]:
    slopes = np.stack([domain.slopes for domain in domains])
    thresholds = np.stack([domain.thresholds for domain in domains])
    table = _slopes(network, groups, layout, slopes, thresholds)
    paths: list[Path] = []
    multipliers: list[FloatArray] = []
    for domain in domains:
        steps = [_decision(groups, layout, network, domain, made) for made in domain.decisions]
        paths.append(tuple(decision for decision, _ in steps))
        multipliers.append(np.concatenate([np.zeros(0), *(factors for _, factors in steps)]))
    return table, paths, multipliers


def single_bounds(
    network: Network,
    groups: Sequence[MaxGroup],
    entries: IndexArray,
    slopes: Sequence[Bytes],
    thresholds: Sequence[Bytes],
) -> Single:
    """Bounds of entries of the last group, which were improved with slopes of their own.

    Args:
        network: the network.
        groups: up to the one that was bounded.
        entries: numbers in that group; the first half of the rows are upper bounds, the second lower ones.
        slopes: per group before it, (rows, entries).
        thresholds: per group before it, (rows, nodes).
    """
    group = groups[-1]
    elements = np.tile(group.contestants[entries], 2)
    sides = np.repeat([1, 0], len(entries))
    targets = np.stack([np.full(len(sides), group.source), elements, sides], axis=1)
    layout = Layout(
        tuple(np.cumsum([0, *(len(item.node) for item in groups[:-1])]).tolist()),
        tuple(np.cumsum([0, *(item.nodes for item in groups[:-1])]).tolist()),
    )
    none = np.zeros((len(targets), 0), dtype=np.uint8)
    rows = np.concatenate([none, *slopes], axis=1), np.concatenate([none, *thresholds], axis=1)
    return Single(targets, _slopes(network, groups[:-1], layout, *rows))


def _slopes(
    network: Network, groups: Sequence[MaxGroup], layout: Layout, slopes: Bytes, thresholds: Bytes
) -> Slopes:
    """Slopes (rows, all entries) and thresholds (rows, all nodes) by what they are slopes of."""
    relu, pool = {}, {}
    for number, group in enumerate(groups):
        operator = network.operators[group.value - 1]
        own = slopes[:, layout.entries_of(number)]
        if not isinstance(operator, MaxPool):
            relu[group.value] = ReluSlopes(group.outputs, own)
            continue
        weights = np.zeros((len(slopes), group.nodes, operator.windows.shape[1]), dtype=np.uint8)
        weights[:, group.node, _positions(operator, group)] = own
        pool[group.value] = PoolSlopes(group.outputs, thresholds[:, layout.nodes_of(number)], weights)
    return Slopes(len(slopes), relu, pool)


def _positions(operator: MaxPool, group: MaxGroup) -> IndexArray:
    """Where in its window every entry of a group of pools stands."""
    windows = operator.windows[group.outputs[group.node]]
    return np.asarray((windows == group.contestants[:, None]).argmax(axis=1))


def _decision(
    groups: Sequence[MaxGroup], layout: Layout, network: Network, domain: Domain, made: tuple[int, int, int]
) -> tuple[Decision, FloatArray]:
    """A decision and the multipliers of its constraints."""
    number, node, winner = made
    group = groups[number]
    operator = network.operators[group.value - 1]
    own = np.zeros(len(group.node))
    if domain.multipliers.size:
        own = domain.multipliers[layout.entries_of(number)].astype(np.float64)
    members = np.flatnonzero(group.node == node)
    place = int(group.outputs[node])
    if not isinstance(operator, MaxPool):
        side = int(Side.INACTIVE if winner == FLOOR else Side.ACTIVE)
        return Decision(group.value, place, side, 0.0), own[members] * group.scale
    factors = np.zeros(operator.windows.shape[1])
    factors[_positions(operator, group)[members]] = own[members]
    side = ZERO_WINS if winner == FLOOR else int(group.contestants[winner])
    return Decision(group.value, place, side, 0.0), factors


def rounded(slopes: FloatArray) -> Bytes:
    """Numbers in [0, 1] as bytes."""
    return np.round(np.clip(np.nan_to_num(slopes), 0.0, 1.0) * LEVELS).astype(np.uint8)
