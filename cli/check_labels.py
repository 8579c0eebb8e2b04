"""``mlverify check`` of a result about all labels: every witness is replayed, every proof found again."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DisagreementError, InputError
from ..verifier.all_labels import ask_all_labels
from ..verifier.label_answers import LabelsProblem, LabelVerdict, verdict_of
from ..verifier.network import Network
from ..verifier.portfolio import Verifier
from ..verifier.replay import Rejection, Replay
from .documents import region_of
from .label_certificates import confirm_by_certificates
from .options import EngineOptions
from .render import note
from .results import ResultFile, load_arrays
from .session import interruptible, settings_of
from .verify_labels import rule_from

_PROVED = {LabelVerdict.ALWAYS, LabelVerdict.NEVER}


def check_labels(result: ResultFile, network: Network, options: EngineOptions) -> tuple[bool, str]:
    """Whether all labels of a result are confirmed, and in words how far.

    Raises:
        InputError: when the result is damaged.
        DisagreementError: when something contradicts it.
        KeyboardInterrupt: when Ctrl-C ended the search for proofs.
    """
    arrays = load_arrays(result.companion("arrays"))
    claims = _claims(result, len(network.labels))
    try:
        rule = rule_from(result.get("question", dict), len(network.labels))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{result.path} is damaged ({error!r}); write the result again") from None
    image = arrays["image"].astype(np.float32)
    problem = LabelsProblem(network, region_of(result, arrays), rule, image)
    replayed = _replay(result, problem, claims)
    proofs = {label: verdict for label, verdict in claims.items() if verdict in _PROVED}
    certified = confirm_by_certificates(result, problem, proofs)
    rest = {label: verdict for label, verdict in proofs.items() if label not in certified}
    confirmed = len(certified) + _prove(problem, rest, options)
    unknown = sum(verdict is LabelVerdict.UNKNOWN for verdict in claims.values())
    text = f"{replayed} witnesses replayed in onnxruntime, {confirmed} of {len(proofs)} proofs found again"
    if certified:
        text += f", {len(certified)} of them by the independent checker"
    if unknown:
        text += f", {unknown} labels are unknown in the result itself"
    return confirmed == len(proofs) and not unknown, text


def _claims(result: ResultFile, labels: int) -> dict[int, LabelVerdict]:
    try:
        entries = result.get("labels", list)
        claims = {int(entry["number"]): LabelVerdict(entry["verdict"]) for entry in entries}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{result.path}: field 'labels' is damaged ({error!r}); write the result again"
        ) from None
    if sorted(claims) != list(range(labels)) or len(entries) != labels:
        raise InputError(f"{result.path}: field 'labels' should speak of each of {labels} labels once")
    if result.get("verdict", str) != verdict_of(claims.values()):
        raise DisagreementError(f"{result.path}: its verdict is not that of its labels together")
    return claims


def _replay(result: ResultFile, problem: LabelsProblem, claims: Mapping[int, LabelVerdict]) -> int:
    """Replay the witnesses of every label that has some; labels that are on either side need both."""
    images = _images(result, problem.region.shape)
    replay, count = Replay(problem.network), 0
    for entry in result.get("labels", list):
        label = int(entry["number"])
        for inside in (True, False):
            row = entry.get("witness_inside" if inside else "witness_outside")
            if row is None:
                if claims[label] is LabelVerdict.EITHER:
                    raise DisagreementError(
                        f"{result.path}: label {label} is on either side, but has no witness for each"
                    )
                continue
            if not isinstance(row, int) or not 0 <= row < len(images):
                raise InputError(f"{result.path}: label {label} names a witness that is not there")
            _judge(result, problem, replay, images[row], label, inside=inside)
            count += 1
    return count


def _judge(
    result: ResultFile,
    problem: LabelsProblem,
    replay: Replay,
    image: NDArray[np.float32],
    label: int,
    *,
    inside: bool,
) -> None:
    where = f"{result.path}: the witness of label {label} {'in' if inside else 'out of'} the set"
    if not problem.region.contains(image):
        raise DisagreementError(f"{where} lies outside the region")
    judged = replay.judge(problem.region, problem.rule.stays(label, inside=not inside), image)
    if isinstance(judged, Rejection):
        raise DisagreementError(f"{where}: {judged.reason}")


def _images(result: ResultFile, shape: Sequence[int]) -> NDArray[np.float32]:
    if result.fields.get("witness") is None:
        return np.zeros((0, *shape), np.float32)
    path = result.companion("witness")
    try:
        images: NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} can't be read as witnesses ({error})") from None
    if images.shape[1:] != tuple(shape) or images.dtype != np.float32:
        raise InputError(f"{path} is {images.dtype} {images.shape}; float32 inputs were expected")
    return images


def _prove(problem: LabelsProblem, proofs: Mapping[int, LabelVerdict], options: EngineOptions) -> int:
    """How many proofs are found again."""
    if not proofs:
        return 0
    with interruptible(options.timeout) as (budget, was_pressed):
        found = ask_all_labels(Verifier(problem.network, settings_of(options), note), problem, budget)
    answers = {answer.label: answer.verdict for answer in found.answers}
    for label, claimed in proofs.items():
        if answers[label] not in (claimed, LabelVerdict.UNKNOWN):
            raise DisagreementError(
                f"the result claims that label {label} is {claimed} in the set, and it is {answers[label]}"
            )
    confirmed = sum(answers[label] is claimed for label, claimed in proofs.items())
    if confirmed < len(proofs) and was_pressed():
        raise KeyboardInterrupt
    return confirmed
