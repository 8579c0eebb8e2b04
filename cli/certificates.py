"""Certificates on the command line: written only after they were checked, and checked again from a result."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import DisagreementError, InputError
from ..verifier.files import sha256_of
from ..verifier.network import Network
from ..verifier.onnx_reader import AGREEMENT_ABSOLUTE, AGREEMENT_RELATIVE
from ..verifier.problem import Problem
from ..verifier.proof_certificate import Certificate
from ..verifier.proof_checker import Checked, check_certificate
from ..verifier.proof_files import read_certificates, write_certificates
from ..verifier.proof_program import Program, logits
from ..verifier.region import Region
from ..verifier.result import Result, Verdict
from ..verifier.session import Judge
from .documents import Fields
from .render import note
from .results import ResultFile

# Points of a region at which the checker's own reading of the network is compared with onnxruntime.
SAMPLES = 8
# With more leaves than this, checking takes long enough to be announced.
MANY_LEAVES = 2000


def keep_certificate(path: Path, problems: Sequence[Problem], result: Result) -> Fields | None:
    """Check the certificates of a result and write them; says in one line why there is nothing to write.

    Returns:
        The field ``certificate`` of the result file, None when nothing was written.

    Raises:
        InputError: when the file can't be written.
    """
    if result.verdict is not Verdict.HOLDS:
        note(f"{path} is not written: only a verdict that holds has a certificate")
        return None
    if not result.certificates:
        note(f"{path} is not written: a proof by {result.engine} can't be certified")
        return None
    checked = prove(problems, result.certificates)
    if not checked.proved:
        note(f"{path} is not written: the proof does not stand up to the checker ({checked.reason})")
        return None
    return written_fields(path, result.certificates, checked.leaves)


def written_fields(path: Path, certificates: Sequence[Certificate], leaves: int) -> Fields | None:
    """Write certificates; says in one line where they are too large to be read again.

    Returns:
        The field ``certificate`` of the result file, None when nothing was written.

    Raises:
        InputError: when the file can't be written.
    """
    if not write_certificates(path, certificates):
        note(f"{path} is not written: a proof of {leaves} leaves is larger than `check` reads")
        return None
    return {"path": path, "sha256": sha256_of(path), "leaves": leaves}


def check_again(result: ResultFile, problems: Sequence[Problem]) -> Checked | None:
    """What the certificate of a result shows of its question; None where the result names no certificate.

    Raises:
        InputError: when the file is missing, damaged, or another one than the result names.
    """
    certificates = kept_certificates(result)
    return None if certificates is None else prove(problems, certificates)


def kept_certificates(result: ResultFile) -> tuple[Certificate, ...] | None:
    """The certificates that a result names, None where it names none.

    Raises:
        InputError: when the file is missing, damaged, or another one than the result names.
    """
    if result.fields.get("certificate") is None:
        return None
    return read_certificates(result.find(result.get("certificate", dict)))


def prove(problems: Sequence[Problem], certificates: Sequence[Certificate]) -> Checked:
    """What certificates show together, one for every case of a question.

    Raises:
        InputError: when they don't belong to these cases.
        DisagreementError: when the checker's reading of the network is not what onnxruntime computes.
    """
    if len(problems) != len(certificates):
        raise InputError(f"the question has {len(problems)} cases, the certificate has {len(certificates)}")
    leaves = sum(item.size for item in certificates)
    if leaves > MANY_LEAVES:
        note(f"checking {leaves} leaves")
    found = []
    for problem, certificate in zip(problems, certificates, strict=True):
        _compare_reading(problem.network, problem.region)
        found.append(check_certificate(problem, certificate))
        if not found[-1].proved:
            return found[-1]
    worst = max(item.margin_bound for item in found)
    return Checked(True, f"{leaves} leaves", worst, sum(item.leaves for item in found))


def _compare_reading(network: Network, region: Region) -> None:
    """The checker's matrices give the scores that onnxruntime gives, at random points of the region."""
    random = np.random.default_rng(0)
    lower, upper = region.lower, region.upper
    points = lower + random.random((SAMPLES, *region.shape)) * (upper - lower)
    images = np.stack([region.project(point) for point in points])
    judged = Judge(network).logits(images)
    ours = logits(Program.of(network), images.reshape(len(images), -1).astype(np.float64))
    allowed = AGREEMENT_ABSOLUTE + AGREEMENT_RELATIVE * max(1.0, float(np.abs(judged).max()))
    gap = float(np.abs(ours - judged.reshape(ours.shape)).max())
    if not gap <= allowed:
        raise DisagreementError(
            f"{network.path}: the checker and onnxruntime differ by {gap:.3g} (allowed {allowed:.3g}); "
            "please report this network"
        )
