"""Certificates of linear bounds: the slopes that prove a clause, small enough to be kept and proved again.

Any slopes in range give valid bounds, so nothing in a certificate is trusted: it only saves the search.
Positions are kept as bytes; the bounds are computed from the rounded values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError
from .bound_types import Freedom
from .bounds_engine import mixed_rows
from .cover import is_proved
from .freedom import FreeSlopes
from .linear_bounds import LinearBounds
from .margins import proof_margin
from .network import Network
from .operators import FloatArray, MaxPool, Relu
from .property import Clause, Property
from .region import Region
from .relaxation import PoolFreedom
from .result import Result, Stage, Verdict
from .window_bounds import WindowBounds

_LEVELS = 255
# Names of the engine in results: from the slopes alone, and with searches behind windows.
CERTIFIED, WINDOWED = "bounds/certificate", "bounds/windows"
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Proof:
    """What checking a certificate shows.

    Attributes:
        proved: whether the clause is proved on the region.
        margin_bound: the largest row, an upper bound on the clause's margin when proved.
    """

    proved: bool
    margin_bound: float


def certified(proof: Proof, seconds: float, *, windows: bool = False) -> Result:
    """The verdict of a certificate that proves its clause, with or without searches behind windows."""
    reason = "linear bounds with the kept slopes exclude every violation"
    trusted = ("float64 arithmetic of the bounds, with a margin for rounding",)
    engine, bound = WINDOWED if windows else CERTIFIED, proof.margin_bound
    stage = Stage(engine, Verdict.HOLDS, seconds, f"margin at most {bound:.4g}")
    return Result(Verdict.HOLDS, reason, engine, seconds, bound, stages=(stage,), trusted=trusted)


@dataclass(frozen=True, slots=True, eq=False)
class BoundCertificate:
    """Slopes and combinations of atoms for one clause.

    Attributes:
        subsets: the atoms of each row.
        shares: (rows, widest) convex weights before normalisation, in [0, 1].
        relu: (rows, *shape) bytes by the ReLU's value number.
        inner: (*shape) bytes likewise, for bounds of inner values.
        thresholds: (rows, outputs) bytes by the pool's value number.
        weights: (rows, outputs, window + 1) float16 logits by the pool's value number.
    """

    subsets: tuple[tuple[int, ...], ...]
    shares: FloatArray
    relu: Arrays
    inner: Arrays
    thresholds: Arrays
    weights: Arrays

    @classmethod
    def of(cls, slopes: FreeSlopes | None, subsets: Sequence[tuple[int, ...]], shares: Tensor) -> Self:
        """Round slopes to what is kept; None stands for the default slopes."""
        relu = {} if slopes is None else slopes.rows.relu
        inner = {} if slopes is None else slopes.inner.relu
        pool = {} if slopes is None else slopes.rows.pool
        return cls(
            tuple(subsets),
            np.round(shares.detach().cpu().double().numpy() * _LEVELS) / _LEVELS,
            {str(number): _bytes(item) for number, item in relu.items()},
            {str(number): _bytes(item) for number, item in inner.items()},
            {str(number): _bytes(item.threshold) for number, item in pool.items()},
            {
                str(number): item.weights.detach().cpu().numpy()[0].astype(np.float16)
                for number, item in pool.items()
            },
        )

    def check(
        self, linear: LinearBounds, region: Region, question: Property, windows: WindowBounds | None = None
    ) -> Proof:
        """Prove a question of one clause on the region afresh, from these slopes, in float64.

        Args:
            linear: of the network, in float64.
            region: the inputs.
            question: of one clause.
            windows: of the network, to start from its better inner bounds.

        Raises:
            InputError: when the certificate does not fit the network or the question; it says nothing of any clause
                but the one that it was made for.
        """
        if len(question.clauses) != 1:
            raise InputError(
                f"the certificate proves questions of one clause, this one has {len(question.clauses)}; "
                "verify it without the certificate"
            )
        clause = question.clauses[0]
        slopes = self.slopes(linear, clause)
        try:
            return self._prove(linear, region, clause, slopes, windows)
        except (RuntimeError, LookupError, ValueError) as error:
            raise InputError(f"the certificate does not fit the network ({error}); write it again") from None

    def slopes(self, linear: LinearBounds, clause: Clause) -> FreeSlopes:
        """The slopes as float64 tensors, every shape checked; default ones where none were kept.

        Raises:
            InputError: when the certificate does not fit the network or the clause.
        """
        if linear.dtype is not torch.float64:
            raise ValueError("certificates are checked in float64")
        if any(not 0 <= atom < clause.atoms for subset in self.subsets for atom in subset):
            raise InputError("the certificate names atoms that the question does not have; write it again")
        try:
            self.check_shapes(linear.network)
            return self._slopes(linear)
        except (RuntimeError, LookupError, ValueError) as error:
            raise InputError(f"the certificate does not fit the network ({error}); write it again") from None

    def _prove(
        self,
        linear: LinearBounds,
        region: Region,
        clause: Clause,
        slopes: FreeSlopes,
        windows: WindowBounds | None,
    ) -> Proof:
        with torch.no_grad():
            bounds = linear.propagate(*linear.box([region]), slopes.inner)
            if windows is not None:
                bounds = windows.improved(linear, bounds)
            weights, offsets = mixed_rows(linear, clause, self.subsets, linear.tensor(self.shares))
            upper = (
                linear.upper(linear.network.output, weights.unsqueeze(0), bounds, slopes.rows)[0] + offsets
            )
        values = upper.cpu().numpy()
        margin = proof_margin(bounds, linear.network.output)
        refuted = [
            frozenset(subset) for subset, value in zip(self.subsets, values, strict=True) if value < -margin
        ]
        proved = is_proved(clause.atoms, clause.needed, refuted)
        # where refuted subsets exclude the clause, no margin exceeds the largest of their bounds
        counted = values[values < -margin] if proved else values
        return Proof(proved, float(counted.max()))

    def check_shapes(self, network: Network) -> None:
        """See that there is one number per neuron: other shapes could still broadcast, and mean something else.

        Raises:
            ValueError: when the certificate does not fit the network.
        """
        operators, rows = network.operators, len(self.subsets)
        for group, kind in (
            (self.relu, Relu),
            (self.inner, Relu),
            (self.thresholds, MaxPool),
            (self.weights, MaxPool),
        ):
            if any(not 1 <= int(number) <= len(operators) for number in group):
                raise ValueError("it names values that the network does not have")
            if any(not isinstance(operators[int(number) - 1], kind) for number in group):
                raise ValueError("it has slopes for operators without any")
        for number, array in self.inner.items():
            _expect(array, operators[int(number) - 1].shape)
        for number, array in self.relu.items():
            _expect(array, (rows, *operators[int(number) - 1].shape))
        if set(self.thresholds) != set(self.weights):
            raise ValueError("thresholds and weights of its pools do not belong together")
        for number, array in self.weights.items():
            pool = operators[int(number) - 1]
            assert isinstance(pool, MaxPool)
            outputs, window = pool.windows.shape
            _expect(self.thresholds[number], (rows, outputs))
            _expect(array, (rows, outputs, window + 1))

    def _slopes(self, linear: LinearBounds) -> FreeSlopes:
        pool = {
            int(number): PoolFreedom(
                _positions(linear, item), linear.tensor(self.weights[number]).unsqueeze(0)
            )
            for number, item in self.thresholds.items()
        }
        relu = {int(number): _positions(linear, item) for number, item in self.relu.items()}
        inner = {int(number): _positions(linear, item) for number, item in self.inner.items()}
        return FreeSlopes(Freedom(relu, pool), Freedom(inner))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Arrays for one ``.npz`` file."""
        widest = self.shares.shape[1]
        subsets = np.full((len(self.subsets), widest), -1, dtype=np.int64)
        for row, subset in enumerate(self.subsets):
            subsets[row, : len(subset)] = subset
        found: dict[str, NDArray[Any]] = {"subsets": subsets, "shares": self.shares}
        for kind, group in self._groups():
            found.update({f"{kind}/{number}": array for number, array in group.items()})
        return found

    def _groups(self) -> tuple[tuple[str, Arrays], ...]:
        return (
            ("relu", self.relu),
            ("inner", self.inner),
            ("threshold", self.thresholds),
            ("weight", self.weights),
        )

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """Read what :meth:`arrays` wrote.

        Raises:
            InputError: when arrays are missing or of the wrong kind.
        """
        try:
            subsets = tuple(tuple(int(atom) for atom in row if atom >= 0) for row in arrays["subsets"])
            shares = np.asarray(arrays["shares"], dtype=np.float64)
            groups = [_group(arrays, kind) for kind in ("relu", "inner", "threshold", "weight")]
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"the certificate is damaged ({error}); write the result again") from None
        bytes_only = all(item.dtype == np.uint8 for group in groups[:3] for item in group.values())
        finite = all(bool(np.isfinite(item).all()) for item in groups[3].values())
        in_range = (
            shares.ndim == 2 and bool(((shares >= 0) & (shares <= 1)).all()) and len(shares) == len(subsets)
        )
        in_range = in_range and all(len(subset) <= shares.shape[1] for subset in subsets)
        if not (bytes_only and finite and in_range and all(subsets)):
            raise InputError("the certificate is damaged (numbers out of range); write the result again")
        return cls(subsets, shares, *groups)


def _expect(array: NDArray[Any], shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise ValueError(f"slopes of shape {array.shape}, the network has {shape}")


def _group(arrays: Arrays, kind: str) -> Arrays:
    prefix = f"{kind}/"
    return {
        str(int(name.removeprefix(prefix))): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


def _bytes(positions: Tensor) -> NDArray[np.uint8]:
    return np.asarray(np.round(positions.detach().cpu().numpy()[0] * _LEVELS), dtype=np.uint8)


def _positions(linear: LinearBounds, array: NDArray[Any]) -> Tensor:
    return linear.tensor(array.astype(np.float64) / _LEVELS).unsqueeze(0)
