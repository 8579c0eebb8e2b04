"""``mlverify predict MODEL IMAGE``: what the user's file says of an image, in onnxruntime."""

from pathlib import Path

import click

from ..verifier.decision import ranking
from .options import (
    DecisionOptions,
    NetworkOptions,
    OutputFormat,
    decision_options,
    format_option,
    network_options,
    resize_option,
)
from .question import Question, ask
from .render import Tone, print_json, print_table

SCHEMA = "mlverify/predict/1"


@click.command("predict")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("image", type=click.Path(path_type=Path))
@network_options
@decision_options
@resize_option
@format_option
def predict_command(
    model: Path,
    image: Path,
    network_options: NetworkOptions,
    decision_options: DecisionOptions,
    resize: bool,
    format: OutputFormat,
) -> None:
    """Scores of MODEL for IMAGE (PNG, JPEG or NPY), highest first, and the predicted label set."""
    question = ask(model, image, network_options, decision_options, resize=resize)
    if format is OutputFormat.JSON:
        print_json(_document(question))
    else:
        _print(question)


def _print(question: Question) -> None:
    names, chosen = question.network.labels, set(question.predicted)
    order = ranking(question.logits)
    rows = [
        (names[label], f"{question.scores[label]:.6g}", "yes" if label in chosen else "") for label in order
    ]
    print_table(
        ("label", "score", "predicted"),
        rows,
        [Tone.GOOD if label in chosen else Tone.PLAIN for label in order],
    )
    click.echo()
    labels = ", ".join(names[label] for label in question.predicted) or "no label"
    click.echo(f"{labels}  ({question.decision.text})")


def _document(question: Question) -> dict[str, object]:
    network = question.network
    return {
        "schema": SCHEMA,
        "model": {"path": str(network.path), "sha256": network.sha256},
        "image": str(question.image_path),
        "decision": question.decision.text,
        "predicted": [network.labels[label] for label in question.predicted],
        "scores": [
            {"label": network.labels[label], "number": label, "score": float(question.scores[label])}
            for label in ranking(question.logits)
        ],
    }
