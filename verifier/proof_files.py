"""Certificates as ``.npz`` files, one certificate per case of a question; read with everything checked."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import MOST_ARRAYS, read_arrays
from ..errors import InputError
from .files import replacing
from .proof_certificate import Certificate, Cut, Leaves, Part, Refutation, SubProblems
from .proof_forward import Inner, Single
from .proof_slopes import IndexArray, PoolSlopes, ReluSlopes, Slopes

FORMAT = "mlverify/certificate/2"
# Without what the latest adds.
FIRST_FORMAT = "mlverify/certificate/1"
# Larger files are refused before they are unpacked: a small archive can hold more than memory does.
MOST_BYTES = 2 * 1024**3
# What an array takes beyond its numbers.
HEADER_BYTES = 256

Arrays = Mapping[str, NDArray[Any]]


def write_certificates(path: Path, certificates: Sequence[Certificate]) -> bool:
    """Write the certificates of a question's cases.

    Returns:
        False where nothing was written, because :func:`read_certificates` would refuse it as too large.

    Raises:
        InputError: when ``path`` can't be written.
    """
    arrays: dict[str, Any] = {"format": np.array(FORMAT), "cases": np.array(len(certificates))}
    for number, certificate in enumerate(certificates):
        arrays.update(_prefixed(f"case{number}/", _certificate_arrays(certificate)))
    size = sum(HEADER_BYTES + array.nbytes for array in arrays.values())
    if size > MOST_BYTES or len(arrays) > MOST_ARRAYS:
        return False
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **arrays)
    return True


def read_certificates(path: Path) -> tuple[Certificate, ...]:
    """Read what :func:`write_certificates` wrote; whether it proves anything is for the checker to say.

    Raises:
        InputError: missing, damaged, too large, or of another format.
    """
    arrays = read_arrays(path, "a certificate", "write it again", ("format", "cases"), MOST_BYTES)
    try:
        if str(arrays["format"]) not in (FORMAT, FIRST_FORMAT):
            raise InputError(f"{path} has format '{arrays['format']}', this version reads {FORMAT}")
        is_latest = str(arrays["format"]) == FORMAT
        cases = _whole(arrays, "cases").item()
        return tuple(
            _read_certificate(_below(arrays, f"case{number}/"), is_latest=is_latest)
            for number in range(cases)
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, OverflowError, MemoryError) as error:
        raise InputError(f"{path} is damaged or no certificate ({error}); write it again") from None


def _certificate_arrays(certificate: Certificate) -> Arrays:
    inner = certificate.inner
    widest = max((len(item.atoms) for item in certificate.refutations), default=0)
    atoms = np.full((len(certificate.refutations), widest), -1, dtype=np.int32)
    for row, item in enumerate(certificate.refutations):
        atoms[row, : len(item.atoms)] = item.atoms
    found: dict[str, NDArray[Any]] = {
        "question": np.array(certificate.question),
        "clauses": np.array([item.clause for item in certificate.refutations], dtype=np.int32),
        "atoms": atoms,
        "tables": np.array([len(certificate.leaves), len(inner.shared), len(inner.single)]),
        "cuts": np.array([len(cut.parts) for cut in certificate.cuts], dtype=np.int32),
        "plain": np.array(int(inner.plain)),
    }
    for number, leaves in enumerate(certificate.leaves):
        found.update(_prefixed(f"leaves{number}/", _leaf_arrays(leaves)))
    for number, slopes in enumerate(inner.shared):
        found.update(_prefixed(f"shared{number}/", _slope_arrays(slopes)))
    for number, single in enumerate(inner.single):
        arrays = {"targets": single.targets.astype(np.int32), **_slope_arrays(single.slopes)}
        found.update(_prefixed(f"single{number}/", arrays))
    for number, cut in enumerate(certificate.cuts):
        found.update(_prefixed(f"cut{number}/", _cut_arrays(cut)))
    return found


def _cut_arrays(cut: Cut) -> Arrays:
    found: dict[str, NDArray[Any]] = {
        "refutation": np.array(cut.refutation, dtype=np.int32),
        "shares": cut.shares.astype(np.float64),
    }
    for number, part in enumerate(cut.parts):
        arrays: Arrays = {
            "places": part.places.astype(np.int32),
            "coefficients": part.coefficients.astype(np.float64),
            "joint": part.joint.astype(np.int32),
            **_table_arrays(part.tree),
        }
        found.update(_prefixed(f"part{number}/", arrays))
    return found


def _leaf_arrays(leaves: Leaves) -> Arrays:
    return {
        "refutation": leaves.refutation.astype(np.int32),
        "shares": leaves.shares.astype(np.float64),
        **_table_arrays(leaves),
    }


def _table_arrays(table: SubProblems) -> Arrays:
    return {
        "lengths": table.lengths.astype(np.int32),
        "steps": table.steps.astype(np.int32),
        "cuts": table.cuts.astype(np.float64),
        "multipliers": table.multipliers.astype(np.float32),
        **_slope_arrays(table.slopes),
    }


def _slope_arrays(slopes: Slopes) -> Arrays:
    found: dict[str, NDArray[Any]] = {"rows": np.array(slopes.rows)}
    for number, relu in slopes.relu.items():
        found[f"relu/{number}/neurons"] = relu.neurons.astype(np.int32)
        found[f"relu/{number}/positions"] = relu.positions
    for number, pool in slopes.pool.items():
        found[f"pool/{number}/outputs"] = pool.outputs.astype(np.int32)
        found[f"pool/{number}/thresholds"] = pool.thresholds
        found[f"pool/{number}/weights"] = pool.weights
    return found


def _read_certificate(arrays: Arrays, *, is_latest: bool) -> Certificate:
    clauses, atoms = _whole(arrays, "clauses"), _whole(arrays, "atoms")
    if clauses.ndim != 1 or atoms.ndim != 2 or len(clauses) != len(atoms):
        raise ValueError("clauses and atoms do not belong together")
    refutations = tuple(
        Refutation(clause, tuple(atom for atom in row if atom != -1))
        for clause, row in zip(clauses.tolist(), atoms.tolist(), strict=True)
    )
    tables, shared, single = _whole(arrays, "tables").tolist()
    # the first format has no parts, and all inner bounds by default slopes too
    plain = bool(_whole(arrays, "plain").item()) if is_latest else True
    inner = Inner(
        tuple(_read_slopes(_below(arrays, f"shared{number}/")) for number in range(shared)),
        tuple(_read_single(_below(arrays, f"single{number}/")) for number in range(single)),
        plain,
    )
    leaves = tuple(_read_leaves(_below(arrays, f"leaves{number}/")) for number in range(tables))
    parts = _whole(arrays, "cuts").tolist() if is_latest else []
    cuts = tuple(_read_cut(_below(arrays, f"cut{number}/"), count) for number, count in enumerate(parts))
    return Certificate(str(arrays["question"]), refutations, leaves, inner, cuts)


def _read_cut(arrays: Arrays, parts: int) -> Cut:
    return Cut(
        _whole(arrays, "refutation").item(),
        _numbers(arrays, "shares").astype(np.float64),
        tuple(_read_part(_below(arrays, f"part{number}/")) for number in range(parts)),
    )


def _read_part(arrays: Arrays) -> Part:
    return Part(
        _whole(arrays, "places"),
        _numbers(arrays, "coefficients").astype(np.float64),
        _whole(arrays, "joint"),
        _read_table(arrays),
    )


def _read_leaves(arrays: Arrays) -> Leaves:
    own = _read_table(arrays)
    return Leaves(
        own.lengths,
        own.steps,
        own.cuts,
        own.multipliers,
        own.slopes,
        _whole(arrays, "refutation"),
        _numbers(arrays, "shares").astype(np.float64),
    )


def _read_table(arrays: Arrays) -> SubProblems:
    return SubProblems(
        _whole(arrays, "lengths"),
        _whole(arrays, "steps"),
        _numbers(arrays, "cuts").astype(np.float64),
        _numbers(arrays, "multipliers").astype(np.float32),
        _read_slopes(arrays),
    )


def _read_single(arrays: Arrays) -> Single:
    return Single(_whole(arrays, "targets"), _read_slopes(arrays))


def _read_slopes(arrays: Arrays) -> Slopes:
    relus = sorted({int(name.split("/")[1]) for name in arrays if name.startswith("relu/")})
    pools = sorted({int(name.split("/")[1]) for name in arrays if name.startswith("pool/")})
    relu = {
        number: ReluSlopes(_whole(arrays, f"relu/{number}/neurons"), arrays[f"relu/{number}/positions"])
        for number in relus
    }
    pool = {
        number: PoolSlopes(
            _whole(arrays, f"pool/{number}/outputs"),
            arrays[f"pool/{number}/thresholds"],
            arrays[f"pool/{number}/weights"],
        )
        for number in pools
    }
    return Slopes(_whole(arrays, "rows").item(), relu, pool)


def _prefixed(prefix: str, arrays: Arrays) -> Arrays:
    return {f"{prefix}{name}": array for name, array in arrays.items()}


def _below(arrays: Arrays, prefix: str) -> Arrays:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _whole(arrays: Arrays, name: str) -> IndexArray:
    array = arrays[name]
    if array.dtype.kind not in "iu":
        raise ValueError(f"'{name}' is {array.dtype}, whole numbers were expected")
    return array.astype(np.int64)


def _numbers(arrays: Arrays, name: str) -> NDArray[Any]:
    array = arrays[name]
    if array.dtype.kind != "f":
        raise ValueError(f"'{name}' is {array.dtype}, numbers were expected")
    return array
