"""What is left of a network over a region, as maxima of affine expressions: the form branch and bound reads.

Stable neurons, pixels that do not move and decided windows are gone (see milp_reduction); every ReLU and
every window that is still open is one node ``y = max(entries)`` or ``y = max(0, entries)`` over the pixels
and earlier nodes. A few hundred nodes with sparse rows take the place of whole convolutional layers.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from .affine import AffineMap, IndexArray
from .interval import Interval, ValueBounds
from .milp_reduction import PoolPlan, ReluPlan, reduce_network
from .network import Network
from .operators import FloatArray
from .property import Clause
from .reduced_values import ReducedValues


@dataclass(frozen=True, slots=True, eq=False)
class MaxGroup:
    """Nodes that do not read each other; node i is the largest of its entries, and of zero if floored.

    Attributes:
        value: number of the value that the nodes are elements of.
        outputs: (nodes,) flat indices into it.
        source: number of the value that the entries are elements of.
        contestants: (entries,) flat indices into it.
        scale: the entries are the contestants times this.
        first: column of the first node.
        floored: (nodes,) whether zero competes.
        node: (entries,) the node of each entry, ascending.
        entries: expressions over the columns before ``first``.
        bounds: (entries,) on the entries.
    """

    value: int
    outputs: IndexArray
    source: int
    contestants: IndexArray
    scale: float
    first: int
    floored: NDArray[np.bool_]
    node: IndexArray
    entries: AffineMap
    bounds: Interval

    @property
    def nodes(self) -> int:
        """Number of nodes."""
        return len(self.outputs)


@dataclass(frozen=True, slots=True, eq=False)
class MaxProgram:
    """A reduced network and some linear functions of its output.

    Attributes:
        pixels: (moving,) flat input indices, the first columns.
        box: (moving,) their bounds.
        groups: in order; their columns follow the pixels.
        atoms: the functions, over all columns.
    """

    pixels: IndexArray
    box: Interval
    groups: tuple[MaxGroup, ...]
    atoms: AffineMap

    @property
    def nodes(self) -> int:
        """Number of nodes of all groups."""
        return sum(group.nodes for group in self.groups)

    def image(self, region: Interval, point: FloatArray) -> FloatArray:
        """The input (input_shape) at pixels (moving,); those that do not move are where the region has them."""
        found = region.lower.copy()
        found.reshape(-1)[self.pixels] = point
        return np.clip(found, region.lower, region.upper)


class _MaxEncoder:
    """Collects groups; see :class:`~.reduced_values.Encoder`."""

    def __init__(self) -> None:
        self.columns = 0
        self.box = Interval(np.zeros(0), np.zeros(0))
        self.groups: list[MaxGroup] = []
        # value numbers of the groups are filled in by the caller, who knows the plans
        self.targets: dict[int, int] = {}

    def pixels(self, lower: FloatArray, upper: FloatArray) -> None:
        self.columns = len(lower)
        self.box = Interval(lower, upper)

    def relu(self, plan: ReluPlan, unstable: AffineMap, bounds: Interval) -> AffineMap:
        keep = 1.0 - plan.slope
        count = len(plan.unstable)
        nodes = self._add(
            self.targets[id(plan)],
            plan.unstable,
            plan.source,
            plan.unstable,
            keep,
            np.ones(count, dtype=np.bool_),
            np.arange(count),
            unstable,
            bounds,
        )
        if not plan.slope:
            return nodes
        # p x + max(0, (1 - p) x) is the leaky ReLU of slope p
        below = unstable.widened(self.columns)
        return AffineMap(
            sparse.csr_matrix(nodes.matrix + plan.slope * below.matrix), plan.slope * below.constant
        )

    def pool(self, plan: PoolPlan, contestants: AffineMap, bounds: Interval) -> AffineMap:
        return self._add(
            self.targets[id(plan)],
            plan.open,
            plan.source,
            plan.contestants,
            1.0,
            plan.floored,
            plan.window,
            contestants,
            bounds,
        )

    def _add(
        self,
        value: int,
        outputs: IndexArray,
        source: int,
        contestants: IndexArray,
        scale: float,
        floored: NDArray[np.bool_],
        node: IndexArray,
        inner: AffineMap,
        bounds: Interval,
    ) -> AffineMap:
        reach = Interval(
            scale * bounds.lower.reshape(-1)[contestants], scale * bounds.upper.reshape(-1)[contestants]
        )
        entries = AffineMap(sparse.csr_matrix(scale * inner.matrix), scale * inner.constant)
        first = self.columns
        self.columns += len(outputs)
        if len(outputs):
            self.groups.append(
                MaxGroup(value, outputs, source, contestants, scale, first, floored, node, entries, reach)
            )
        return self._variables(first, len(outputs))

    def _variables(self, first: int, count: int) -> AffineMap:
        columns = np.arange(first, first + count)
        matrix = sparse.csr_matrix((np.ones(count), (np.arange(count), columns)), shape=(count, self.columns))
        return AffineMap(matrix, np.zeros(count))


def max_program(network: Network, bounds: ValueBounds, clause: Clause) -> MaxProgram:
    """Reduce a network to what some atoms depend on over a region.

    Args:
        network: the network.
        bounds: valid bounds on every value; ``bounds[0]`` is the region.
        clause: the atoms.
    """
    outputs = np.unique(np.nonzero(clause.weights)[1])
    reduction = reduce_network(network, bounds, outputs)
    encoder = _MaxEncoder()
    encoder.targets = {id(plan): number for number, plan in enumerate(reduction.plans, start=1)}
    values = ReducedValues(encoder, network, bounds, reduction, network.output)
    scores = values.combined(network.output, sparse.csr_matrix(clause.weights))
    atoms = AffineMap(scores.matrix, scores.constant + clause.offsets)
    return MaxProgram(np.flatnonzero(reduction.needed[0]), encoder.box, tuple(encoder.groups), atoms)
