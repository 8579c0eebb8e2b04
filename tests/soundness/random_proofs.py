"""Random certificates of random problems: trees, slopes and multipliers that nobody has optimised."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from mlverify.verifier.operators import FloatArray
from mlverify.verifier.problem import Problem
from mlverify.verifier.proof_affine import Affine
from mlverify.verifier.proof_certificate import Certificate, Cut, Decision, Part, Path, Side
from mlverify.verifier.proof_forward import Inner, Single, propagate
from mlverify.verifier.proof_maxima import PADDING, ZERO_WINS, Maxima
from mlverify.verifier.proof_program import Bounds, Program
from mlverify.verifier.proof_record import Recorder, leaf_table, pool_slopes, sub_problems
from mlverify.verifier.proof_slopes import ReluSlopes, Slopes


@dataclass(frozen=True, slots=True)
class RandomProofs:
    """Makes certificates of one problem."""

    rng: np.random.Generator
    problem: Problem
    program: Program
    root: Bounds

    @classmethod
    def of(cls, rng: np.random.Generator, problem: Problem) -> "RandomProofs":
        program = Program.of(problem.network)
        region = problem.region
        root = propagate(program, region.lower.reshape(1, -1), region.upper.reshape(1, -1), Inner())
        return cls(rng, problem, program, root)

    def certificate(self, depth: int, *, complete: bool = True) -> Certificate:
        """One random tree per needed set of atoms; without ``complete``, sides are missing here and there."""
        recorder = Recorder()
        for number, clause in enumerate(self.problem.property.clauses):
            for atoms in self._sets(clause.atoms, clause.needed):
                refutation = recorder.refute(number, atoms)
                paths = self.tree(depth, complete=complete)
                shares = [self.rng.random(len(atoms)) + 0.01 for _ in paths]
                multipliers = [self.multipliers(path) for path in paths]
                slopes = self.slopes(len(paths))
                recorder.add_leaves(leaf_table([refutation] * len(paths), shares, slopes, paths, multipliers))
        return self._with_inner(recorder)

    def cut_certificate(self, depth: int, parts: int, *, complete: bool = True) -> Certificate:
        """The same by parts: random functions of all values, each with a random tree and random windows."""
        recorder = Recorder()
        for number, clause in enumerate(self.problem.property.clauses):
            for atoms in self._sets(clause.atoms, clause.needed):
                refutation, shares = recorder.refute(number, atoms), self.rng.random(len(atoms)) + 0.01
                row = shares / shares.sum() @ clause.weights[atoms]
                found = [self.part(row, depth, complete=complete) for _ in range(parts)]
                recorder.add_cut(Cut(refutation, shares, tuple(found)))
        return self._with_inner(recorder)

    def part(self, row: FloatArray, depth: int, *, complete: bool = True) -> Part:
        """Some of a function of the logits, and terms at random places; a tree, and ReLUs by windows."""
        output = self.program.output
        terms: dict[tuple[int, int], float] = {}
        if self.rng.integers(2):
            share = float(self.rng.choice([0.5, 1.0]))
            terms = {(output, label): share * weight for label, weight in enumerate(row.tolist())}
        for _ in range(int(self.rng.integers(0, 8))):
            value = int(self.rng.integers(len(self.program.sizes)))
            place = value, int(self.rng.integers(self.program.sizes[value]))
            terms[place] = float(self.rng.normal() * 10.0 ** self.rng.integers(-12, 1))
        joint = self._joint()
        for value, neuron, _ in joint[self.rng.random(len(joint)) < 0.7].tolist():
            terms[value, neuron] = float(self.rng.normal())
        paths = self.tree(depth, complete=complete)
        multipliers = [self.multipliers(path) for path in paths]
        places = np.array(list(terms), dtype=np.int64).reshape(-1, 2)
        coefficients = np.array(list(terms.values()), dtype=np.float64)
        tree = sub_problems(paths, multipliers, self.slopes(len(paths)))
        return Part(places, coefficients, joint, tree)

    def _joint(self) -> np.ndarray:
        """ReLUs over affine functions of the input, in windows of at most three."""
        relaxed, rows = self.program.relaxed(), []
        for value, step in enumerate(self.program.steps, start=1):
            if isinstance(step, Maxima) and step.relu and step.source not in relaxed:
                chosen = np.flatnonzero(self.rng.random(len(step.windows)) < self.rng.choice([0.0, 0.3, 0.9]))
                rows += [(value, int(neuron)) for neuron in self.rng.permutation(chosen)]
        return np.array([(*row, number // 3) for number, row in enumerate(rows)], dtype=np.int64).reshape(
            -1, 3
        )

    def _with_inner(self, recorder: Recorder) -> Certificate:
        """What is recorded with bounds of inner values improved here and there."""
        if self.rng.integers(2):
            recorder.share(self.slopes(int(self.rng.integers(1, 3))))
        if self.rng.integers(2):
            targets = self._targets(4)
            recorder.improve(Single(targets, self.slopes(len(targets))))
        certificate = recorder.certificate(self.problem)
        inner = replace(certificate.inner, plain=bool(self.rng.integers(4)))
        return replace(certificate, inner=inner)

    def _sets(self, atoms: int, needed: int) -> list[list[int]]:
        """All cyclic windows of atoms; enough for the few atoms of tests, not always a proof."""
        order = self.rng.permutation(atoms)
        return [sorted({int(order[(start + i) % atoms]) for i in range(needed)}) for start in range(atoms)]

    def _targets(self, count: int) -> np.ndarray:
        values = self.rng.integers(1, len(self.program.sizes), size=count)
        places = [int(self.rng.integers(self.program.sizes[value])) for value in values]
        return np.stack([values, places, self.rng.integers(0, 2, size=count)], axis=1)

    def slopes(self, rows: int) -> Slopes:
        """Random positions and weights, of some neurons and outputs."""
        relu, pool = {}, {}
        for number, step in enumerate(self.program.steps, start=1):
            if not isinstance(step, Maxima) or not self.rng.integers(4):
                continue
            outputs, width = step.windows.shape
            chosen = np.flatnonzero(self.rng.random(outputs) < 0.8)
            if step.relu:
                positions = self.rng.integers(-64, 320, size=(rows, len(chosen)))
                relu[number] = ReluSlopes(chosen, positions.clip(0, 255).astype(np.uint8))
            else:
                weights = self._extreme((rows, len(chosen), width)) + 1e-9
                weights *= self._extreme((rows, len(chosen), 1)) / weights.sum(axis=2, keepdims=True)
                pool[number] = pool_slopes(chosen, self._extreme((rows, len(chosen))), weights)
        return Slopes(rows, relu, pool)

    def _extreme(self, shape: tuple[int, ...]) -> FloatArray:
        """Numbers in [0, 1], many of them 0 or 1."""
        return np.clip(self.rng.random(shape) * 2 - 0.5, 0.0, 1.0)

    def tree(self, depth: int, *, complete: bool) -> list[Path]:
        """Paths of all leaves."""
        if depth == 0:
            return [()]
        options = [
            number for number, step in enumerate(self.program.steps, start=1) if isinstance(step, Maxima)
        ]
        moving = np.flatnonzero(self.root.upper[0][0] > self.root.lower[0][0])
        value = int(self.rng.choice([0, *options, *options])) if options else 0
        if value == 0:
            if not len(moving):
                return [()]
            place = int(self.rng.choice(moving))
            cut = float(self.rng.uniform(self.root.lower[0][0, place], self.root.upper[0][0, place]))
            sides = [0, 1]
        else:
            step = self.program.steps[value - 1]
            assert isinstance(step, Maxima)
            place, cut = self._place(step), 0.0
            sides = self._sides(step, place)
        if not complete and self.rng.integers(2):
            sides = [side for side in sides if self.rng.integers(3)] or sides[:1]
        return [
            (Decision(value, place, side, cut), *path)
            for side in sides
            for path in self.tree(depth - 1, complete=complete)
        ]

    def _place(self, step: Maxima) -> int:
        """An output, preferably one that the bounds leave open."""
        window = step.windows
        low = np.where(window == PADDING, -np.inf, self.root.lower[step.source][0][window])
        high = np.where(window == PADDING, -np.inf, self.root.upper[step.source][0][window])
        open_ones = np.flatnonzero((high > np.maximum(low.max(axis=1), 0)[:, None]).any(axis=1))
        return int(self.rng.choice(open_ones if len(open_ones) else len(window)))

    def _sides(self, step: Maxima, place: int) -> list[int]:
        if step.relu:
            return [Side.INACTIVE, Side.ACTIVE]
        members = [int(member) for member in step.windows[place] if member != PADDING]
        return [*members, ZERO_WINS] if step.floored else members

    def multipliers(self, path: Path) -> FloatArray:
        """Random multipliers of all constraints of a path, many of them 0."""
        widths = [
            step.windows.shape[1]
            for step in (self.program.steps[item.value - 1] for item in path if item.value)
            if isinstance(step, Maxima)
        ]
        return self._extreme((sum(widths),)) * 10.0 ** self.rng.integers(-2, 2)


def exact_values(program: Program, point: Sequence[float]) -> list[list[Fraction]]:
    """All values of the network at one input, in rational arithmetic."""
    values = [[Fraction(float(number)) for number in point]]
    for step in program.steps:
        values.append(
            _exact_affine(step, values) if isinstance(step, Affine) else _exact_maxima(step, values)
        )
    return values


def _exact_affine(step: Affine, values: list[list[Fraction]]) -> list[Fraction]:
    found = [Fraction(float(number)) for number in step.constant]
    for source, matrix in zip(step.inputs, step.matrices, strict=True):
        entries = matrix.tocoo()
        for row, column, number in zip(entries.row, entries.col, entries.data, strict=True):
            found[row] += Fraction(float(number)) * values[source][column]
    return found


def _exact_maxima(step: Maxima, values: list[list[Fraction]]) -> list[Fraction]:
    source = values[step.source]
    if step.relu:
        return [max(x, Fraction(0)) + Fraction(step.slope) * min(x, Fraction(0)) for x in source]
    found = []
    for window in step.windows:
        members = [source[member] for member in window if member != PADDING]
        found.append(max([*members, Fraction(0)] if step.floored else members))
    return found


def leaf_of(program: Program, paths: Sequence[Path], values: Sequence[Sequence[Fraction]]) -> list[int]:
    """The leaves in whose sub-problem a point lies, by its values."""
    return [
        number
        for number, path in enumerate(paths)
        if all(_agrees(program, decision, values) for decision in path)
    ]


def _agrees(program: Program, decision: Decision, values: Sequence[Sequence[Fraction]]) -> bool:
    value, place, side, cut = decision
    if value == 0:
        number = values[0][place]
        return number <= Fraction(cut) if side == Side.BELOW else number >= Fraction(cut)
    step = program.steps[value - 1]
    assert isinstance(step, Maxima)
    source = values[step.source]
    members = {int(member): source[member] for member in step.windows[place] if member != PADDING}
    if step.relu:
        return source[place] >= 0 if side == Side.ACTIVE else source[place] <= 0
    if side == ZERO_WINS:
        return max(members.values()) <= 0
    return members[side] == max(members.values()) and (not step.floored or members[side] >= 0)


def tampered(rng: np.random.Generator, arrays: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """A copy of a file's arrays with one of them changed in one of many ways."""
    array = arrays[name]
    if array.dtype.kind == "U":
        return {**arrays, name: (np.array("other"), np.array(3.0), np.full(2, array))[int(rng.integers(3))]}
    changes = [
        lambda: array[:0] if array.ndim else array[None],
        lambda: array[..., :-1] if array.ndim else array + 1,
        lambda: np.concatenate([array, array]) if array.ndim else array,
        lambda: array.astype(np.float64),
        lambda: array.astype(np.int64),
        lambda: np.full(array.shape, "text"),
        lambda: array[None],
        lambda: array.reshape(-1)[:1].sum().astype(array.dtype),
        lambda: np.zeros_like(array),
    ]
    if array.dtype.kind == "f":
        changes += [lambda: -array - 1, lambda: array * np.nan, lambda: array + np.inf]
        changes += [lambda: array * np.float32(100), lambda: rng.permutation(array)]
    if array.dtype.kind in "iu" and array.ndim:
        changes += [lambda: _one_changed(rng, array), lambda: rng.permutation(array), lambda: array + 1]
        changes += [lambda: np.full_like(array, np.iinfo(array.dtype).max)]
    return {**arrays, name: changes[int(rng.integers(len(changes)))]()}


def _one_changed(rng: np.random.Generator, array: np.ndarray) -> np.ndarray:
    changed = array.copy()
    if changed.size:
        place = int(rng.integers(changed.size))
        changed.reshape(-1)[place] = rng.integers(-1 if array.dtype.kind == "i" else 0, 60)
    return changed


def question_changed(certificate: Certificate, problem: Problem) -> Certificate:
    """The same numbers offered as a proof of another problem."""
    from mlverify.verifier.proof_certificate import question_digest

    return replace(certificate, question=question_digest(problem))
