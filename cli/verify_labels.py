"""``mlverify verify --all-labels``: what is shown and written about every label."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from ..errors import InputError
from ..verifier.decision import Threshold, TopK
from ..verifier.files import replacing
from ..verifier.image import save_array
from ..verifier.label_answers import LabelAnswer, LabelsProblem, LabelsResult, LabelVerdict
from ..verifier.label_rules import LabelRule, ThresholdRule, TopKRule
from ..verifier.region import Region
from ..verifier.result import Result, Verdict
from .documents import Fields, verify_fields
from .neighbourhood import Neighbourhood
from .options import OutputFormat, OutputOptions
from .properties import PropertyKind
from .question import Question
from .render import Tone, note, print_table
from .results import Schema, print_result, write_result

_TONES = {
    LabelVerdict.ALWAYS: Tone.GOOD,
    LabelVerdict.NEVER: Tone.PLAIN,
    LabelVerdict.EITHER: Tone.BAD,
    LabelVerdict.UNKNOWN: Tone.FAINT,
}
_REASONS = {
    Verdict.HOLDS: "no label can enter or leave the set",
    Verdict.VIOLATED: "labels can enter or leave the set, with a replayed image for each side",
}


def rule_of(question: Question) -> LabelRule:
    """The decision rule on logits.

    Raises:
        InputError: when it does not fit the network.
    """
    network, decision = question.network, question.decision
    if isinstance(decision, TopK):
        return TopKRule(len(network.labels), decision.k)
    assert isinstance(decision, Threshold)
    return ThresholdRule(tuple(decision.logits(len(network.labels), network.tail).tolist()))


def labels_problem(question: Question, region: Region) -> LabelsProblem:
    """The question about all labels of an image."""
    return LabelsProblem(question.network, region, rule_of(question), question.image)


def tell_label(names: Sequence[str], answer: LabelAnswer) -> None:
    """Progress on stderr: a label that needed an engine of its own is decided."""
    if answer.engine.startswith(("milp", "bab")):
        note(f"label {names[answer.label]}: {answer.verdict} ({answer.engine})")


def report_labels(
    question: Question,
    result: LabelsResult,
    around: Neighbourhood,
    output: OutputOptions,
    certificate: Fields | None = None,
) -> None:
    """Write the result file, if one is wanted, and show the answer; ``certificate`` is its field of that name."""
    rows = _witness_rows(result) if output.output is not None else {}
    fields = {
        **verify_fields(question.network, question.image_path, summary(result)),
        "property": f"for every label: {question.decision.text}, always, never or either",
        "question": {"kind": PropertyKind.ALL_LABELS, **_rule_fields(question)},
        "region": around.fields,
        "labels": [_label_fields(answer, question.network.labels, rows) for answer in result.answers],
        "certificate": certificate,
    }
    files: Fields = {"arrays": None, "witness": None}
    if output.output is not None:
        files = _write(output.output, fields, around, result, rows)
    if output.format is OutputFormat.JSON:
        print_result(Schema.VERIFY, {**fields, **files})
    else:
        _print(question, result)
        if certificate is not None:
            labels = certificate["labels"]
            assert isinstance(labels, list)
            click.echo(
                f"certificate {certificate['path']}: {len(labels)} labels, {certificate['leaves']} leaves"
            )


def summary(result: LabelsResult) -> Result:
    """All answers as one result, for what every result file has."""
    undecided = [answer for answer in result.answers if answer.verdict is LabelVerdict.UNKNOWN]
    reason = _REASONS.get(result.verdict) or f"{len(undecided)} labels are undecided: {undecided[0].reason}"
    engines = dict.fromkeys(answer.engine for answer in result.answers if answer not in undecided)
    return Result(
        verdict=result.verdict,
        reason=reason,
        engine=", ".join(engines) or "none",
        seconds=result.seconds,
        stages=result.stages,
        trusted=result.trusted,
    )


def _rule_fields(question: Question) -> Fields:
    decision, count = question.decision, len(question.network.labels)
    if isinstance(decision, TopK):
        return {"k": decision.k}
    assert isinstance(decision, Threshold)
    logits = decision.logits(count, question.network.tail)
    return {"thresholds": decision.per_label(count), "logits": logits}


def rule_from(fields: Mapping[str, Any], labels: int) -> LabelRule:
    """The rule that field ``question`` of a result describes.

    Raises:
        InputError: when it does not fit the network.
        KeyError: when a field is missing.
        ValueError: when a field is damaged.
    """
    if "k" in fields:
        return TopKRule(labels, int(fields["k"]))
    logits = tuple(float(value) for value in fields["logits"])
    if len(logits) != labels or not np.isfinite(logits).all():
        raise InputError(f"{len(logits)} thresholds for {labels} labels; write the result again")
    return ThresholdRule(logits)


def _witness_rows(result: LabelsResult) -> dict[int, int]:
    """The row of each witness in the file, by the witness's identity; one image serves many labels."""
    rows: dict[int, int] = {}
    for answer in result.answers:
        for witness in (answer.inside, answer.outside):
            if witness is not None:
                rows.setdefault(id(witness), len(rows))
    return rows


def _label_fields(answer: LabelAnswer, names: Sequence[str], rows: Mapping[int, int]) -> Fields:
    return {
        "label": names[answer.label],
        "number": answer.label,
        "verdict": answer.verdict,
        "engine": answer.engine,
        "reason": answer.reason,
        "witness_inside": rows.get(id(answer.inside)),
        "witness_outside": rows.get(id(answer.outside)),
    }


def _write(
    path: Path,
    fields: Fields,
    around: Neighbourhood,
    result: LabelsResult,
    rows: Mapping[int, int],
) -> Fields:
    """The JSON file, the arrays beside it, and all witnesses (rows, *input_shape) in one file."""
    beside = path.with_suffix(".npz")
    with replacing(beside) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **around.arrays)
    found = {
        rows[id(witness)]: witness.image
        for answer in result.answers
        for witness in (answer.inside, answer.outside)
        if witness is not None
    }
    witness = None
    if found:
        witness = path.with_suffix(".witness.npy")
        save_array(witness, np.stack([found[row] for row in range(len(found))]))
    files = {"arrays": beside.name, "witness": witness and witness.name}
    write_result(path, Schema.VERIFY, {**fields, **files})
    return files


def _print(question: Question, result: LabelsResult) -> None:
    names, clean = question.network.labels, set(question.predicted)
    click.echo(f"labels by {question.decision.text}, for every image of the neighbourhood")
    rows = [
        (
            names[answer.label],
            "in" if answer.label in clean else "out",
            answer.verdict.value,
            answer.engine if answer.verdict is not LabelVerdict.UNKNOWN else answer.reason,
        )
        for answer in result.answers
    ]
    print_table(("label", "clean", "set", "by"), rows, [_TONES[answer.verdict] for answer in result.answers])
    counts = Counter(answer.verdict for answer in result.answers)
    shown = ", ".join(f"{counts[verdict]} {verdict}" for verdict in LabelVerdict if counts[verdict])
    click.echo(f"{result.verdict}  {result.seconds:.1f} s  ({shown})")
