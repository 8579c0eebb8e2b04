"""The exact maximum of a clause's margin over a region, by enumeration of linear pieces.

It shares nothing with the verifier but the forward evaluation of single operators, which the load compares
with onnxruntime: no bounds, no relaxations, no big-M.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from mlverify.verifier.network import Network
from mlverify.verifier.operators import FloatArray, MaxPool, Relu
from mlverify.verifier.property import Clause
from mlverify.verifier.region import Region
from mlverify.verifier.torch_network import TorchNetwork
from scipy import optimize
from torch import Tensor

# The enumeration gives up beyond this many linear programs.
MOST_PROGRAMS = 4000


class TooManyError(Exception):
    """The network has more linear pieces than can be enumerated."""


@dataclass(frozen=True, slots=True)
class Maximum:
    """The largest margin and where it is taken (input_shape)."""

    value: float
    point: FloatArray


@dataclass(frozen=True, slots=True)
class _Piece:
    """Values as affine functions of the moving pixels, on the part of the region where ``rows @ x <= limits``.

    A value is a tensor (1 + pixels, *shape): the constant, then one coefficient tensor per pixel.
    """

    values: tuple[Tensor, ...]
    rows: tuple[FloatArray, ...]
    limits: tuple[float, ...]

    def extended(
        self, value: Tensor, rows: Sequence[FloatArray] = (), limits: Sequence[float] = ()
    ) -> "_Piece":
        return _Piece((*self.values, value), (*self.rows, *rows), (*self.limits, *limits))


class BruteForce:
    """Enumerates the linear pieces of one network over one region."""

    def __init__(self, network: Network, region: Region) -> None:
        self._network = network
        self._module = TorchNetwork(network, torch.float64)
        self._region = region
        self._moving = np.flatnonzero(region.moving)
        self._box = np.stack([region.lower.reshape(-1), region.upper.reshape(-1)], axis=1)[self._moving]
        self._programs = 0

    def maximum(self, clause: Clause) -> Maximum:
        """The largest margin of ``clause`` over the region.

        Raises:
            TooManyError: when there are too many pieces.
        """
        best = Maximum(-np.inf, self._region.lower)
        for piece in self._pieces(self._input(), 0):
            scores = piece.values[self._network.output].numpy()
            atoms = scores @ clause.weights.T
            atoms[0] += clause.offsets
            for chosen in itertools.combinations(range(clause.atoms), clause.needed):
                found = self._largest_minimum(piece, atoms[:, list(chosen)])
                if found is not None and found.value > best.value:
                    best = found
        return best

    def _input(self) -> _Piece:
        constant = self._region.lower.copy().reshape(-1)
        constant[self._moving] = 0.0
        rows = np.zeros((len(self._moving), constant.size))
        rows[np.arange(len(self._moving)), self._moving] = 1.0
        both = np.concatenate([constant[None], rows]).reshape(-1, *self._region.shape)
        return _Piece((torch.tensor(both),), (), ())

    def _pieces(self, piece: _Piece, position: int) -> Iterator[_Piece]:
        if position == len(self._network.operators):
            yield piece
            return
        operator = self._network.operators[position]
        inputs = [piece.values[source] for source in operator.inputs]
        if isinstance(operator, Relu):
            branches = self._relu(piece, inputs[0], operator)
        elif isinstance(operator, MaxPool):
            branches = self._pool(piece, inputs[0], operator)
        else:
            branches = iter([piece.extended(self._affine(position, inputs))])
        for branch in branches:
            yield from self._pieces(branch, position + 1)

    def _affine(self, position: int, inputs: list[Tensor]) -> Tensor:
        """The operator is affine: what it makes of zero is taken from the coefficients."""
        operator, batch = self._network.operators[position], 1 + len(self._moving)
        found = self._module.step(position, operator, inputs, batch).clone()
        zeros = [torch.zeros_like(value[:1]) for value in inputs]
        found[1:] -= self._module.step(position, operator, zeros, 1)
        return found

    def _relu(self, piece: _Piece, value: Tensor, operator: Relu) -> Iterator[_Piece]:
        flat = value.flatten(1).numpy()
        for sides, rows, limits in self._signs(piece, flat, 0, (), (), ()):
            factor = np.where(np.array(sides, dtype=bool), 1.0, operator.negative_slope)
            yield piece.extended((value.flatten(1) * torch.tensor(factor)).reshape(value.shape), rows, limits)

    def _signs(
        self, piece: _Piece, flat: FloatArray, element: int, sides: tuple[bool, ...], rows: tuple[FloatArray, ...],
        limits: tuple[float, ...],
    ) -> Iterator[tuple[tuple[bool, ...], tuple[FloatArray, ...], tuple[float, ...]]]:  # fmt: skip
        if element == flat.shape[1]:
            yield sides, rows, limits
            return
        constant, slope = float(flat[0, element]), flat[1:, element]
        low, high = self._reach(constant, slope)
        for side in (True, False):
            if (high < 0) if side else (low > 0):
                continue
            if (low >= 0) if side else (high <= 0):
                yield from self._signs(piece, flat, element + 1, (*sides, side), rows, limits)
                return
            sign = -1.0 if side else 1.0
            new_rows, new_limits = (*rows, sign * slope), (*limits, -sign * constant)
            if self._feasible(piece, new_rows, new_limits):
                yield from self._signs(piece, flat, element + 1, (*sides, side), new_rows, new_limits)

    def _pool(self, piece: _Piece, value: Tensor, operator: MaxPool) -> Iterator[_Piece]:
        flat = value.flatten(1).numpy()
        for winners, rows, limits in self._winners(piece, flat, operator, 0, (), (), ()):
            yield piece.extended(
                torch.tensor(flat[:, list(winners)]).reshape(-1, *operator.shape), rows, limits
            )

    def _winners(
        self, piece: _Piece, flat: FloatArray, operator: MaxPool, window: int, winners: tuple[int, ...],
        rows: tuple[FloatArray, ...], limits: tuple[float, ...],
    ) -> Iterator[tuple[tuple[int, ...], tuple[FloatArray, ...], tuple[float, ...]]]:  # fmt: skip
        if window == len(operator.windows):
            yield winners, rows, limits
            return
        members = [int(member) for member in operator.windows[window] if member >= 0]
        for winner in members:
            gaps = [flat[:, rival] - flat[:, winner] for rival in members if rival != winner]
            reach = [self._reach(float(gap[0]), gap[1:]) for gap in gaps]
            if any(low > 0 for low, _ in reach):
                continue
            needed = [gap for gap, (_, high) in zip(gaps, reach, strict=True) if high > 0]
            new_rows = (*rows, *(gap[1:] for gap in needed))
            new_limits = (*limits, *(-float(gap[0]) for gap in needed))
            if not needed or self._feasible(piece, new_rows, new_limits):
                yield from self._winners(
                    piece, flat, operator, window + 1, (*winners, winner), new_rows, new_limits
                )
            if not needed:
                return

    def _reach(self, constant: float, slope: FloatArray) -> tuple[float, float]:
        ends = slope[:, None] * self._box
        return constant + float(ends.min(axis=1).sum()), constant + float(ends.max(axis=1).sum())

    def _feasible(self, piece: _Piece, rows: Sequence[FloatArray], limits: Sequence[float]) -> bool:
        return (
            self._solve(np.zeros(len(self._moving)), (*piece.rows, *rows), (*piece.limits, *limits))
            is not None
        )

    def _solve(
        self, cost: FloatArray, rows: Sequence[FloatArray], limits: Sequence[float]
    ) -> FloatArray | None:
        self._programs += 1
        if self._programs > MOST_PROGRAMS:
            raise TooManyError
        if not len(cost):
            return np.zeros(0)
        matrix, bound = (np.array(rows), np.array(limits)) if len(rows) else (None, None)
        box = np.concatenate([self._box, np.full((len(cost) - len(self._box), 2), np.inf) * [-1.0, 1.0]])
        found = optimize.linprog(cost, A_ub=matrix, b_ub=bound, bounds=box, method="highs")
        return np.asarray(found.x) if found.status == 0 else None

    def _largest_minimum(self, piece: _Piece, atoms: FloatArray) -> Maximum | None:
        """Largest value of the smallest of some atoms on a piece."""
        pixels = len(self._moving)
        if not pixels:
            return Maximum(float(atoms[0].min()), self._region.lower)
        rows = [np.append(row, 0.0) for row in piece.rows]
        rows += [np.append(-atoms[1:, atom], 1.0) for atom in range(atoms.shape[1])]
        limits = [*piece.limits, *atoms[0].tolist()]
        cost = np.zeros(pixels + 1)
        cost[-1] = -1.0
        found = self._solve(cost, rows, limits)
        if found is None:
            return None
        point = self._region.lower.copy()
        point.reshape(-1)[self._moving] = found[:-1]
        return Maximum(float(found[-1]), np.clip(point, self._region.lower, self._region.upper))
