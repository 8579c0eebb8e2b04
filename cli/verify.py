"""``mlverify verify MODEL IMAGE``: does the property hold for every image of a neighbourhood?"""

from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..synthesis.layers import read_mask
from ..verifier.decision import Threshold, TopK
from ..verifier.files import replacing
from ..verifier.image import save_array
from ..verifier.network import Tail
from ..verifier.operators import FloatArray
from ..verifier.portfolio import Verifier
from ..verifier.problem import Problem
from ..verifier.property import Property, threshold, top_k
from ..verifier.result import Result, Verdict
from .documents import Fields, moving_region, question_fields, verify_fields
from .main import ExitCode
from .options import (
    DecisionOptions,
    EngineOptions,
    EpsilonType,
    NetworkOptions,
    OutputFormat,
    OutputOptions,
    decision_options,
    engine_options,
    find_label,
    network_options,
    output_options,
    resize_option,
)
from .question import Question, ask
from .render import Tone, note, print_json, print_table
from .results import Schema, read_result, read_scene, to_json, write_result
from .session import check_outputs, interruptible, settings_of

_EXIT = {
    Verdict.HOLDS: ExitCode.HOLDS,
    Verdict.VIOLATED: ExitCode.VIOLATED,
    Verdict.UNKNOWN: ExitCode.UNKNOWN,
}


@click.command("verify")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("image", type=click.Path(path_type=Path))
@click.option("--eps", type=EpsilonType(), help="Largest change of a pixel, 0 to 1; may be written 2/255.")
@click.option(
    "--epsilons", type=click.Path(path_type=Path), help="Per layer, from a result of `mlverify synth`."
)
@click.option(
    "--mask", type=click.Path(path_type=Path), help="PNG: only its non-zero pixels change (with --eps)."
)
@click.option("--target", help="Label that must stay  [default: the most confident one]")
@click.option("--second-opinion", is_flag=True, help="Also ask auto_LiRPA for bounds, where it is installed.")
@network_options
@decision_options
@resize_option
@engine_options
@output_options
def verify_command(
    model: Path,
    image: Path,
    eps: float | None,
    epsilons: Path | None,
    mask: Path | None,
    target: str | None,
    second_opinion: bool,
    network_options: NetworkOptions,
    decision_options: DecisionOptions,
    resize: bool,
    engine_options: EngineOptions,
    output_options: OutputOptions,
) -> None:
    """Does the target label of IMAGE stay in the label set of MODEL for every image of a neighbourhood?

    The neighbourhood is every image whose pixels differ by at most --eps, clipped to [0, 1]; or the layered
    one of --epsilons. Exit codes: 0 holds, 1 violated, 3 unknown.
    """
    if output_options.output is not None:
        inputs = [model, image, mask, network_options.labels, *_companions(epsilons)]
        check_outputs(_outputs(output_options.output), inputs)
    question = ask(model, image, network_options, decision_options, resize=resize)
    box = _box(question, eps, epsilons, mask)
    asked, described = _property(question, target)
    region = moving_region(question.image, box.layers, box.epsilons)
    problem = Problem(question.network, region, asked, question.image)
    with interruptible(engine_options.timeout) as (budget, was_pressed):
        settings = replace(settings_of(engine_options), second_opinion=second_opinion)
        result = Verifier(question.network, settings, note).verify(problem, budget)
    fields = {**verify_fields(question, network_options, result), **described, "region": box.fields}
    files: Fields = {"arrays": None, "witness": None}
    if output_options.output is not None:
        files = _write(output_options.output, fields, question.image, box, problem, result)
    if output_options.format is OutputFormat.JSON:
        print_json({"schema": Schema.VERIFY.value, **{k: to_json(v) for k, v in {**fields, **files}.items()}})
    else:
        _print(question, result, asked)
    raise SystemExit(ExitCode.INTERRUPTED if was_pressed() else _EXIT[result.verdict])


def _outputs(path: Path) -> list[Path]:
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the name of a file in it")
    return [path, path.with_suffix(".npz"), path.with_suffix(".witness.npy")]


def _companions(synthesis: Path | None) -> list[Path]:
    """The files of a synthesis result."""
    return [] if synthesis is None else [synthesis, synthesis.with_suffix(".npz")]


@dataclass(frozen=True, slots=True, eq=False)
class _Box:
    """How far every input may move: by the epsilon of its layer; -1 is no layer.

    Attributes:
        layers: of the input's shape.
        epsilons: per layer, pixel units.
        fields: the same for the result file.
    """

    layers: NDArray[np.int64]
    epsilons: FloatArray
    fields: Fields


def _box(question: Question, eps: float | None, epsilons: Path | None, mask: Path | None) -> _Box:
    if (eps is None) == (epsilons is None):
        raise InputError("give either --eps EPSILON or --epsilons SYNTH.json")
    if epsilons is not None:
        return _layered(question, epsilons, mask)
    shape = question.image.shape
    layers = np.zeros(shape, dtype=np.int64)
    if mask is not None:
        if len(shape) != 3:
            raise InputError("--mask needs a network that reads images")
        layers = np.broadcast_to(read_mask(mask, shape[1:]), shape).astype(np.int64) - 1
    fields = {"kind": "linf", "epsilon": eps, "mask": mask}
    return _Box(layers, np.array([eps], dtype=np.float64), fields)


def _layered(question: Question, path: Path, mask: Path | None) -> _Box:
    if mask is not None:
        raise InputError("--mask goes with --eps; the layers of --epsilons are in its file")
    result = read_result(path, Schema.SYNTH)
    scene, values = read_scene(result), result.numbers("epsilons")
    if scene.layers.shape != question.image.shape[1:] or len(values) != int(scene.layers.max()) + 1:
        raise InputError(f"{path}: its layers do not fit the image {question.image_path}")
    layers = np.broadcast_to(scene.layers, question.image.shape)
    return _Box(layers, values, {"kind": "layered", "epsilons": values, "from": path})


def _property(question: Question, target: str | None) -> tuple[Property, Fields]:
    """The question about the target, which must be true of the clean image; and its fields.

    Raises:
        InputError: when the network does not predict the target there.
    """
    names = question.network.labels
    if target is None and not question.predicted:
        raise InputError("the network predicts no label here; name one with --target")
    label = question.predicted[0] if target is None else find_label(names, target)
    if isinstance(question.decision, TopK):
        if label not in question.predicted:
            raise InputError(
                f"the network does not predict label '{names[label]}' on the clean image (it predicts "
                f"{', '.join(names[item] for item in question.predicted)}): there is nothing to protect"
            )
        k = question.decision.k
        asked = top_k(len(names), label, k, names[label])
        return asked, question_fields(asked, target=names[label], target_number=label, k=k)
    assert isinstance(question.decision, Threshold)
    above = label in question.predicted
    value = question.decision.value
    logit = _logit(question, value)
    asked = threshold(len(names), label, above=above, logit=logit, name=names[label])
    return asked, question_fields(
        asked, target=names[label], target_number=label, threshold=value, above=above, logit=logit
    )


def _logit(question: Question, value: float) -> float:
    """The threshold on the file's scores as one on its logits."""
    if not np.isfinite(value):
        raise InputError(f"--threshold {value:g} is not a number that scores can be compared with")
    match question.network.tail:
        case Tail.NONE:
            return value
        case Tail.SIGMOID if 0.0 < value < 1.0:
            return float(np.log(value) - np.log1p(-value))
        case Tail.SIGMOID:
            raise InputError(
                f"--threshold {value:g} is not between 0 and 1, the range of this network's scores"
            )
        case _:
            raise InputError(
                "a threshold on softmax scores is not linear in the logits; use --decision top-k, or a network "
                "that ends in a sigmoid"
            )


def _write(
    path: Path, fields: Fields, image: NDArray[np.float32], box: _Box, problem: Problem, result: Result
) -> Fields:
    """The JSON file, the region beside it, and the witness if there is one."""
    arrays, witness = path.with_suffix(".npz"), None
    with replacing(arrays) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(
            stream,
            image=image,
            layers=box.layers,
            lower=problem.region.lower,
            upper=problem.region.upper,
            weights=problem.property.clauses[0].weights,
            offsets=problem.property.clauses[0].offsets,
            needed=np.array(problem.property.clauses[0].needed),
        )
    if result.witness is not None:
        witness = path.with_suffix(".witness.npy")
        save_array(witness, result.witness.image)
    files = {"arrays": arrays.name, "witness": None if witness is None else witness.name}
    write_result(path, Schema.VERIFY, {**fields, **files})
    return files


def _print(question: Question, result: Result, asked: Property) -> None:
    click.echo(asked.text)
    rows = [
        (stage.engine, stage.verdict.value, f"{stage.seconds:.2f} s", stage.detail) for stage in result.stages
    ]
    print_table(
        ("engine", "verdict", "time", "detail"), rows, [_tone(stage.verdict) for stage in result.stages]
    )
    if result.witness is not None:
        scores, names = result.witness.scores, question.network.labels
        order = np.argsort(-scores, kind="stable")[: min(len(scores), 4)]
        listed = ", ".join(f"{names[label]} {scores[label]:.4g}" for label in order)
        click.echo(f"witness scores: {listed}")
    if result.verdict is Verdict.UNKNOWN:
        click.echo(f"reason: {result.reason}")
    click.echo(f"{result.verdict}  {result.seconds:.1f} s  ({result.engine})")


def _tone(verdict: Verdict) -> Tone:
    return {Verdict.HOLDS: Tone.GOOD, Verdict.VIOLATED: Tone.BAD, Verdict.UNKNOWN: Tone.PLAIN}[verdict]
