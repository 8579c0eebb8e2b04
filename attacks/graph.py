"""The label knowledge graph: which label sets make sense, and what else must flip when some labels do."""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class LabelGraph:
    """A directed acyclic graph on labels, edges from the general to the special.

    A label set is *consistent* when every present label with parents has a present one among them, and
    every present inner node has a present child, unless the node may stand alone (a class of the data
    set that happens to have sub-classes).

    Attributes:
        names: one name per node, in the order of the network's outputs.
        parents: per node, its parents' numbers.
        children: per node, its children's numbers.
        standalone: nodes that may be present without a present child; leaves always may.
    """

    names: tuple[str, ...]
    parents: tuple[tuple[int, ...], ...]
    children: tuple[tuple[int, ...], ...]
    standalone: frozenset[int] = frozenset()

    @classmethod
    def of_edges(
        cls, names: Sequence[str], edges: Iterable[tuple[int, int]], standalone: Iterable[int] = ()
    ) -> "LabelGraph":
        """Build from (parent, child) pairs of node numbers.

        Raises:
            InputError: two nodes share a name, an edge leads nowhere, or the edges close a cycle.
        """
        if len(set(names)) != len(names):
            twice = sorted({name for name in names if list(names).count(name) > 1})
            raise InputError(f"the label graph names {', '.join(twice)} twice; names must differ")
        parents: list[list[int]] = [[] for _ in names]
        children: list[list[int]] = [[] for _ in names]
        for parent, child in dict.fromkeys(edges):
            if not (0 <= parent < len(names) and 0 <= child < len(names)):
                raise InputError(f"the edge ({parent}, {child}) of the label graph leads to no node")
            parents[child].append(parent)
            children[parent].append(child)
        graph = cls(
            tuple(names),
            tuple(tuple(row) for row in parents),
            tuple(tuple(row) for row in children),
            frozenset(standalone),
        )
        graph._refuse_cycles()
        return graph

    def number(self, name: str) -> int:
        """The number of a node.

        Raises:
            InputError: no node has this name.
        """
        try:
            return self.names.index(name)
        except ValueError:
            raise InputError(f"the label graph has no node '{name}'; check the spelling") from None

    def consistent_targets(self, targets: Iterable[int], present: BoolArray) -> frozenset[int]:
        """The smallest set of labels to flip with the targets so that consistency is not broken.

        Hiding a label takes along each present child that keeps no present parent, and each present
        parent that keeps no present child. Showing one takes along a parent where none is present, and
        a child where none is and the node can't stand alone (the first one listed).

        Args:
            targets: labels to flip.
            present: the predicted label set, shape (nodes,), bool.

        Returns:
            The consistent target set, a superset of the targets.

        Raises:
            InputError: a target does not exist, or the targets contradict one another on this graph.

        Reference:
            H. Mahmood and E. Elhamifar, "Semantic-aware multi-label adversarial attacks", 2024,
            algorithm 1. The algorithm as printed keeps a node when two others on the far side are on
            and not being flipped; the node whose hiding it follows is meant to be one of them, but only
            the target itself still is, so below the first level it hides nodes that could stay. Here
            one that remains is enough at every level, which agrees at the first.
        """
        flips = _Closure(self, present)
        wanted = list(targets)
        for target in wanted:
            if not 0 <= target < len(self.names):
                raise InputError(f"there is no label {target}; the graph has {len(self.names)} labels")
        flips.run(wanted)
        return frozenset(flips.flipped)

    def consistent(self, present: BoolArray) -> BoolArray:
        """Which label sets are consistent.

        Args:
            present: shape (rows, nodes), bool.

        Returns:
            Shape (rows,), bool.
        """
        return np.logical_not(self.offenders(present).any(axis=1))

    def offenders(self, present: BoolArray) -> BoolArray:
        """The present labels that lack a parent or a child, shape (rows, nodes), bool."""
        bad = np.zeros_like(present, dtype=bool)
        for node in range(len(self.names)):
            lacking = np.zeros(len(present), dtype=bool)
            if self.parents[node]:
                lacking |= ~present[:, list(self.parents[node])].any(axis=1)
            if self.children[node] and node not in self.standalone:
                lacking |= ~present[:, list(self.children[node])].any(axis=1)
            bad[:, node] = present[:, node] & lacking
        return bad

    def closed_upwards(self, present: BoolArray) -> BoolArray:
        """Add every ancestor of the present labels, shape (rows, nodes): labels for training."""
        closed = present.copy()
        for node in self._children_first():
            for parent in self.parents[node]:
                closed[:, parent] |= closed[:, node]
        return closed

    def _children_first(self) -> list[int]:
        waiting = [len(row) for row in self.children]
        ready = deque(node for node, count in enumerate(waiting) if count == 0)
        order = []
        while ready:
            node = ready.popleft()
            order.append(node)
            for parent in self.parents[node]:
                waiting[parent] -= 1
                if waiting[parent] == 0:
                    ready.append(parent)
        return order

    def _refuse_cycles(self) -> None:
        order = self._children_first()
        if len(order) < len(self.names):
            stuck = sorted(set(range(len(self.names))) - set(order))
            names = ", ".join(self.names[node] for node in stuck[:5])
            raise InputError(
                f"the label graph has a cycle (among or above: {names}); remove one of its edges"
            )


class _Closure:
    """The flips forced by flips, found by a work list: each edge is looked at a few times."""

    def __init__(self, graph: LabelGraph, present: BoolArray) -> None:
        self._graph = graph
        self._on: list[bool] = present.tolist()
        self._queue: deque[int] = deque()
        self.flipped: set[int] = set()

    def run(self, targets: Sequence[int]) -> None:
        for target in targets:
            self._flip(target)
        while self._queue:
            node = self._queue.popleft()
            if self._on[node]:
                self._support(node)
            else:
                self._release(node)

    def _flip(self, node: int) -> None:
        if node not in self.flipped:
            self.flipped.add(node)
            self._on[node] = not self._on[node]
            self._queue.append(node)

    def _release(self, hidden: int) -> None:
        graph, on = self._graph, self._on
        for child in graph.children[hidden]:
            if on[child]:
                # A loop, since any() of a generator takes twice as long and large graphs have many edges.
                for parent in graph.parents[child]:
                    if on[parent]:
                        break
                else:
                    self._hide(child, hidden)
        for parent in graph.parents[hidden]:
            needs_child = on[parent] and parent not in graph.standalone
            if needs_child and not any(on[child] for child in graph.children[parent]):
                self._hide(parent, hidden)

    def _hide(self, node: int, cause: int) -> None:
        if node in self.flipped:
            self._contradiction(node, cause)
        self._flip(node)

    def _support(self, shown: int) -> None:
        graph, on = self._graph, self._on
        if graph.parents[shown] and not any(on[parent] for parent in graph.parents[shown]):
            self._show_one_of(graph.parents[shown], shown)
        needs_child = bool(graph.children[shown]) and shown not in graph.standalone
        if needs_child and not any(on[child] for child in graph.children[shown]):
            self._show_one_of(graph.children[shown], shown)

    def _show_one_of(self, nodes: Sequence[int], cause: int) -> None:
        free = [node for node in nodes if node not in self.flipped]
        if not free:
            self._contradiction(nodes[0], cause)
        self._flip(free[0])

    def _contradiction(self, node: int, cause: int) -> None:
        names = self._graph.names
        raise InputError(
            f"the flips contradict the label graph: '{names[cause]}' asks '{names[node]}' to stay on its "
            "side, but other flips change it; drop one of them"
        )
