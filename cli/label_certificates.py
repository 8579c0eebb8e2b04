"""``verify --all-labels --certificate``: one certificate per label that was proved, in one file."""

from collections.abc import Mapping
from pathlib import Path

from ..errors import DisagreementError, InputError
from ..verifier.budget import Budget
from ..verifier.label_answers import LabelsProblem, LabelsResult, LabelVerdict
from ..verifier.network import Network
from ..verifier.portfolio import Verifier
from ..verifier.problem import Problem
from ..verifier.proof_certificate import Certificate
from ..verifier.proof_program import Program
from ..verifier.result import Verdict
from .certificates import kept_certificates, prove, written_fields
from .documents import Fields
from .render import note
from .results import ResultFile

_SIDES = {LabelVerdict.ALWAYS: True, LabelVerdict.NEVER: False}


def check_certifiable(network: Network) -> None:
    """Find out before the work whether proofs about a network can be kept.

    Raises:
        UnsupportedOperatorError: when the checker does not know an operator.
    """
    Program.of(network)


def keep_label_certificates(
    path: Path, verifier: Verifier, problem: LabelsProblem, result: LabelsResult, budget: Budget
) -> Fields | None:
    """Prove every label that is always or never in the set once more, so that the proof can be kept, and write them.

    Args:
        path: of the file.
        verifier: one that keeps certificates.
        problem: what was asked.
        result: its answers.
        budget: of all proofs; says in one line which labels have none.

    Returns:
        The field ``certificate`` of the result file, None when nothing was written.

    Raises:
        InputError: when the file can't be written.
        DisagreementError: when a label that was proved is refuted.
    """
    found: dict[int, Certificate] = {}
    leaves, names = 0, problem.network.labels
    claims = {answer.label: answer.verdict for answer in result.answers if answer.verdict in _SIDES}
    for label, claim in claims.items():
        asked = _question(problem, label, claim)
        proof = verifier.verify(asked, budget)
        if proof.verdict is Verdict.VIOLATED:
            raise DisagreementError(
                f"label {names[label]} was proved to be {claim.value}, and a replayed witness contradicts that; "
                "please report this network and question"
            )
        checked = prove((asked,), proof.certificates) if proof.certificates else None
        if checked is not None and checked.proved:
            found[label] = proof.certificates[0]
            leaves += checked.leaves
    without = [names[label] for label in claims if label not in found]
    if without:
        note(f"no certificate for {len(without)} of {len(claims)} proved labels: {', '.join(without)}")
    if not found:
        note(f"{path} is not written: no label has a certificate")
        return None
    fields = written_fields(path, list(found.values()), leaves)
    return None if fields is None else {**fields, "labels": list(found)}


def confirm_by_certificates(
    result: ResultFile, problem: LabelsProblem, claims: Mapping[int, LabelVerdict]
) -> set[int]:
    """Labels whose claim the certificates beside a result prove; empty where there are none.

    Raises:
        InputError: when the file is missing, damaged, or speaks of other questions.
    """
    certificates = kept_certificates(result)
    if certificates is None:
        return set()
    labels = result.get("certificate", dict).get("labels")
    if not isinstance(labels, list) or len(labels) != len(certificates):
        raise InputError(f"{result.path}: field 'certificate' names no label per certificate; write it again")
    confirmed = set()
    for label, certificate in zip(labels, certificates, strict=True):
        if not isinstance(label, int) or claims.get(label) not in _SIDES:
            raise InputError(
                f"{result.path}: a certificate for label {label}, which is not proved; write it again"
            )
        checked = prove((_question(problem, label, claims[label]),), (certificate,))
        if checked.proved:
            confirmed.add(label)
        else:
            note(f"the certificate does not prove label {problem.network.labels[label]} ({checked.reason})")
    return confirmed


def _question(problem: LabelsProblem, label: int, claim: LabelVerdict) -> Problem:
    return problem.about(problem.rule.stays(label, inside=_SIDES[claim], name=problem.network.labels[label]))
