"""The answer of ``mlverify evaluate``: table, CSV, JSON and figure from one report."""

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import click

from .. import __version__
from ..evaluation.report import AtEpsilon, Certified, EvaluationReport
from ..evaluation.run import EvaluationSettings
from ..models.datasets.dataset import LabelledImages
from ..models.label_metrics import LabelMetrics
from ..models.marks import Mark
from ..verifier.files import replacing
from ..verifier.network import Network
from .documents import Fields, model_fields
from .evaluate_figure import Curve, LabelBar, save_figure
from .options import OutputFormat
from .render import print_table
from .results import Schema, print_result, write_result

_METRICS: Mapping[str, Callable[[LabelMetrics], float]] = {
    "mAP": lambda metrics: metrics.mean_average_precision,
    "CP": lambda metrics: metrics.sets.class_precision,
    "CR": lambda metrics: metrics.sets.class_recall,
    "CF1": lambda metrics: metrics.sets.class_f1,
    "OP": lambda metrics: metrics.sets.overall_precision,
    "OR": lambda metrics: metrics.sets.overall_recall,
    "OF1": lambda metrics: metrics.sets.overall_f1,
    "CP top 3": lambda metrics: metrics.top3.class_precision,
    "CR top 3": lambda metrics: metrics.top3.class_recall,
    "CF1 top 3": lambda metrics: metrics.top3.class_f1,
    "OP top 3": lambda metrics: metrics.top3.overall_precision,
    "OR top 3": lambda metrics: metrics.top3.overall_recall,
    "OF1 top 3": lambda metrics: metrics.top3.overall_f1,
    "micro F1": lambda metrics: metrics.micro_f1,
    "macro F1": lambda metrics: metrics.macro_f1,
    "Hamming loss": lambda metrics: metrics.hamming_loss,
    "ranking loss": lambda metrics: metrics.ranking_loss,
    "exact match": lambda metrics: metrics.exact_match,
}
_CERTIFIED: Mapping[str, Callable[[Certified], float]] = {
    "labels proved": lambda shares: shares.proved,
    "labels broken": lambda shares: shares.broken,
    "labels open": lambda shares: shares.open,
    "labels proved and right": lambda shares: shares.right,
    "label sets proved": lambda shares: shares.sets_proved,
    "label sets broken": lambda shares: shares.sets_broken,
    "label sets proved and right": lambda shares: shares.sets_right,
}


@dataclass(frozen=True, slots=True, eq=False)
class Evaluated:
    """A report with what it is about; ``seconds`` of this run, not of the one it continued."""

    model: Path
    network: Network
    source: str
    data: LabelledImages
    rule: str
    settings: EvaluationSettings
    report: EvaluationReport
    seconds: float


@dataclass(frozen=True, slots=True)
class _Column:
    """One column of the table: clean images, or those at an epsilon."""

    title: str
    metrics: LabelMetrics | None
    certified: Certified | None = None

    @property
    def images(self) -> int:
        return 0 if self.metrics is None else self.metrics.images

    def value(self, row: str) -> float | None:
        """The number of a row, None where the column has none."""
        if row in _METRICS:
            return None if self.metrics is None else _METRICS[row](self.metrics)
        return None if self.certified is None else _CERTIFIED[row](self.certified)


def show(evaluated: Evaluated, form: OutputFormat) -> None:
    """Print the answer on stdout."""
    if form is OutputFormat.JSON:
        print_result(Schema.EVALUATE, _fields(evaluated))
        return
    columns = _columns(evaluated.report)
    rows = [["images", *(str(column.images) for column in columns)]]
    rows += [[row, *(_text(column.value(row)) for column in columns)] for row in _rows(columns)]
    print_table(("", *(column.title for column in columns)), rows)
    click.echo("")
    for line in _lines(evaluated):
        click.echo(line)


def write(path: Path, evaluated: Evaluated, *, interrupted: bool) -> None:
    """Write JSON, CSV and figure.

    Raises:
        InputError: a file can't be written.
    """
    _write_csv(path.with_suffix(".table.csv"), _columns(evaluated.report))
    curves, bars = _drawing(evaluated)
    title = f"{evaluated.model.name} on {evaluated.data.title}"
    save_figure(path.with_suffix(".png"), title, curves, bars)
    files = {"csv": path.with_suffix(".table.csv").name, "arrays": path.with_suffix(".npz").name}
    write_result(path, Schema.EVALUATE, {**_fields(evaluated), **files, "interrupted": interrupted})


def _columns(report: EvaluationReport) -> list[_Column]:
    """Clean images, the clean sample when it is not the same, and the epsilons."""
    columns = [_Column("clean", report.clean)]
    if report.robust and report.done < report.measured:
        columns.append(_Column("clean, sample", report.clean_sample))
    return [
        *columns,
        *(_Column(f"eps {item.epsilon:.4g}", item.attacked, item.certified) for item in report.robust),
    ]


def _rows(columns: Sequence[_Column]) -> list[str]:
    certified = list(_CERTIFIED) if any(column.certified is not None for column in columns) else []
    return [*_METRICS, *certified]


def _text(value: float | None) -> str:
    if value is None:
        return "-"
    return "undefined" if math.isnan(value) else f"{value:.4f}"


def _lines(evaluated: Evaluated) -> list[str]:
    report = evaluated.report
    lines = [
        f"{evaluated.data.title}: {report.images} images, {len(evaluated.data.names)} labels, {evaluated.rule}"
    ]
    if report.clean is not None and report.clean.without_positive:
        names = ", ".join(evaluated.data.names[label] for label in report.clean.without_positive)
        lines.append(f"no positive example, hence in no mean over labels: {names}")
    if report.d_score is not None:
        score = report.d_score
        lines.append(
            f"D-Score-like {score.score:.4f} = fitness {score.fitness:.4f} - robustness {score.robustness:.4f} "
            f"({report.done} images; our formulas, not comparable with published D-Scores)"
        )
    state = "complete" if report.complete else "incomplete"
    return [*lines, f"{state}  {evaluated.seconds:.1f} s"]


def _fields(evaluated: Evaluated) -> Fields:
    report, settings = evaluated.report, evaluated.settings
    return {
        "model": {**model_fields(evaluated.network), "path": evaluated.model},
        "dataset": {
            "source": evaluated.source,
            "title": evaluated.data.title,
            "images": report.images,
            "labels": list(evaluated.data.names),
        },
        "decision": evaluated.rule,
        "complete": report.complete,
        "images": {
            "scored": report.measured,
            "left": report.images - report.measured,
            "sample": report.sample,
            "sample_done": report.done,
            "sample_left": report.sample - report.done,
        },
        "settings": {
            "epsilons": settings.epsilons,
            "seed": settings.seed,
            "attack": str(settings.attack),
            "proof_seconds": settings.proof_seconds,
        },
        "clean": _metric_fields(report.clean),
        "clean_sample": _metric_fields(report.clean_sample),
        "epsilons": [
            {
                "epsilon": item.epsilon,
                "attacked": _metric_fields(item.attacked),
                "certified": asdict(item.certified),
            }
            for item in report.robust
        ],
        "labels": _label_fields(evaluated),
        "d_score_like": _d_score_fields(report),
        "seconds": evaluated.seconds,
        "version": __version__,
    }


def _metric_fields(metrics: LabelMetrics | None) -> Fields | None:
    if metrics is None:
        return None
    plain = {field.name: getattr(metrics, field.name) for field in fields(metrics)}
    return {**plain, "sets": asdict(metrics.sets), "top3": asdict(metrics.top3)}


def _label_fields(evaluated: Evaluated) -> list[Fields]:
    report, marks = evaluated.report, evaluated.data.marks
    return [
        {
            "label": name,
            "positives": int((marks[:, label] == Mark.PRESENT).sum()),
            "unknown": int((marks[:, label] == Mark.UNKNOWN).sum()),
            "average_precision": None if report.clean is None else report.clean.average_precision[label],
            "proved": [item.proved_by_label[label] for item in report.robust],
            "broken": [item.broken_by_label[label] for item in report.robust],
        }
        for label, name in enumerate(evaluated.data.names)
    ]


def _d_score_fields(report: EvaluationReport) -> Fields | None:
    if report.d_score is None:
        return None
    return {
        "fitness": report.d_score.fitness,
        "robustness": report.d_score.robustness,
        "d": report.d_score.score,
        "note": "formulas of mlverify (models/dscore.py); not comparable with published D-Scores",
    }


def _write_csv(path: Path, columns: Sequence[_Column]) -> None:
    rows = _rows(columns)
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("images of", "images", *rows))
        for column in columns:
            writer.writerow((column.title, column.images, *(_cell(column.value(row)) for row in rows)))


def _cell(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else repr(value)


def _drawing(evaluated: Evaluated) -> tuple[list[Curve], list[LabelBar]]:
    report = evaluated.report
    curves = []
    if report.robust:
        clean = [] if report.clean_sample is None else [(0.0, report.clean_sample)]
        attacked = [*clean, *((item.epsilon, item.attacked) for item in report.robust)]
        for name in ("mAP", "OF1", "exact match"):
            points = tuple((epsilon, _METRICS[name](metrics)) for epsilon, metrics in attacked)
            curves.append(Curve(f"{name}, attacked", points, dashed=True))
        for name in ("labels proved", "label sets proved and right", "labels broken"):
            curves.append(Curve(name, _certified_points(report.robust, name), dashed=False))
    precisions = () if report.clean is None else report.clean.average_precision
    bars = [LabelBar(*pair) for pair in zip(evaluated.data.names, precisions, strict=False)]
    return curves, bars


def _certified_points(robust: Sequence[AtEpsilon], name: str) -> tuple[tuple[float, float], ...]:
    return tuple((item.epsilon, _CERTIFIED[name](item.certified)) for item in robust)
