"""``mlverify synth MODEL IMAGE``: the largest certified layered neighbourhood around an object."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..synthesis.cutting import Cutting
from ..synthesis.layers import Bands, ObjectLayers
from ..synthesis.maximality import TOLERANCE, ClosingSettings
from ..synthesis.objective import Objective, Weighting, check_weights, weights_of
from ..synthesis.problem import Phase, SynthesisProblem, SynthesisSettings
from ..synthesis.result import LayerStatus, Synthesis
from ..synthesis.shape import Order, Shape
from ..synthesis.synthesize import synthesize
from ..verifier.decision import TopK
from ..verifier.files import replacing
from ..verifier.operators import FloatArray
from ..verifier.region import Layered
from .documents import synth_fields, witness_images
from .main import ExitCode
from .objects import FoundObjects, find_objects
from .options import (
    DecisionOptions,
    DecisionRule,
    EngineOptions,
    EnumChoice,
    EpsilonType,
    NetworkOptions,
    OutputFormat,
    OutputOptions,
    engine_options,
    find_label,
    network_options,
    output_options,
    parse_bands,
    resize_option,
)
from .question import Question, ask
from .render import Tone, note, print_json, print_table
from .results import Scene, Schema, read_result, to_json, write_result, write_scene
from .session import check_outputs, interruptible, settings_of
from .show import draw_synthesis

# What a first-time user waits for; longer runs find a little more.
DEFAULT_SECONDS = 60.0


@click.command("synth")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("image", type=click.Path(path_type=Path))
@click.option("--target", help="Label that must stay  [default: the most confident one]")
@click.option(
    "--object",
    "objects",
    multiple=True,
    help="Label whose object is perturbed; repeat for several objects  [default: the runner-up]",
)
@click.option(
    "--mask",
    "masks",
    multiple=True,
    type=click.Path(path_type=Path),
    help="PNG: its non-zero pixels are a perturbed object; repeat for several.",
)
@click.option("--k", type=click.IntRange(min=1), help="Labels per image  [default: the file's k, else 2]")
@click.option(
    "--objective",
    type=EnumChoice(Objective),
    default=Objective.WEIGHTED_SUM.value,
    show_default=True,
    help="What is made large.",
)
@click.option(
    "--weights",
    help="Of the layers in the size: uniform, pixels, distance, or a text file with one number per layer  "
    "[default: pixels for log-volume and mean-width, else uniform]",
)
@click.option(
    "--tie",
    metavar="N|D,D,...",
    help="Tie layers into N bands of one epsilon each, or into bands that begin at distances 0,D,...",
)
@click.option(
    "--order",
    type=EnumChoice(Order),
    default=Order.FREE.value,
    show_default=True,
    help="How epsilons go with the distance from the object.",
)
@click.option(
    "--tolerance",
    type=EpsilonType(),
    default=str(TOLERANCE),
    show_default=True,
    help="A layer is maximal when a witness breaks it within this much.",
)
@click.option(
    "--cutting",
    type=EnumChoice(Cutting),
    default=Cutting.FIXED.value,
    show_default=True,
    help="How neighbourhoods that are not robust are shrunk.",
)
@network_options
@resize_option
@engine_options
@output_options
def synth_command(
    model: Path,
    image: Path,
    target: str | None,
    objects: tuple[str, ...],
    masks: tuple[Path, ...],
    k: int | None,
    objective: Objective,
    weights: str | None,
    tie: str | None,
    order: Order,
    tolerance: float,
    cutting: Cutting,
    network_options: NetworkOptions,
    resize: bool,
    engine_options: EngineOptions,
    output_options: OutputOptions,
) -> None:
    """How far may the pixels around objects of IMAGE change without hiding another label from MODEL?

    Grows one epsilon per layer of pixels at the same distance from an object, and certifies the result.
    Writes OUT.json with the files that belong to it (OUT.png the heat map, OUT.npz the layers,
    OUT.certificate.npz the proof); OUT is MODEL-IMAGE in the current folder unless -o says otherwise. Runs for
    at most 60 s unless --timeout says otherwise; Ctrl-C ends it early with the best result so far.
    """
    output = output_options.output or Path(f"{model.stem}-{image.stem}.json")
    if output.suffix != ".json":
        raise InputError(
            f"{output} should end in .json; the figure and arrays take its name with their suffix"
        )
    check_outputs(_outputs(output), _given(model, image, *masks, network_options.labels, weights))
    decision = DecisionOptions(DecisionRule.TOP_K, k, None)
    question = ask(model, image, network_options, decision, resize=resize)
    several = max(len(masks), len(objects)) > 1
    scene = _choose(question, target, objects, masks, parse_bands(tie) if tie and several else None)
    weighting, numbers = _weights(weights or objective.weighting.value, scene.found.layers)
    shape = _shape(None if several else tie, order, scene.found.layers)
    problem = _problem(question, scene, numbers, objective, shape)
    closing = ClosingSettings(_tolerance(tolerance))
    settings = SynthesisSettings(settings_of(engine_options), cutting=cutting, closing=closing)
    seconds = engine_options.timeout or DEFAULT_SECONDS
    with interruptible(seconds) as (budget, was_pressed), _progress() as progress:
        synthesis = synthesize(problem, settings, budget, note, progress)
    if synthesis.warning is not None:
        note(f"{synthesis.warning}; --order non-increasing or --weights distance avoid that")
    fields = synth_fields(
        question,
        scene.found,
        synthesis,
        scene.target,
        scene.objects,
        problem.k,
        weighting,
        numbers.tolist(),
    )
    files = write_arrays(output, question.image, scene.found.layers, synthesis)
    write_result(output, Schema.SYNTH, {**fields, **files})
    draw_synthesis(read_result(output), output.with_suffix(".png"))
    if output_options.format is OutputFormat.JSON:
        print_json(
            {"schema": Schema.SYNTH.value, **{name: to_json(v) for name, v in {**fields, **files}.items()}}
        )
    else:
        _print(question, scene, synthesis, output)
    raise SystemExit(_exit_code(synthesis, interrupted=was_pressed()))


def _given(*inputs: Path | str | None) -> list[Path | None]:
    return [None if item is None else Path(item) for item in inputs]


def _shape(tie: str | None, order: Order, around: ObjectLayers) -> Shape:
    """The shape that --tie and --order ask for; several objects are tied in their layers already.

    Raises:
        InputError: for --tie that is neither a number nor distances, or an order where there are several objects.
        PropertyError: for bands that do not fit the layers.
    """
    if order is not Order.FREE and around.items > 1:
        raise InputError(f"--order {order} speaks of the distance from one object; leave it out for several")
    layers = around.count
    if tie is None:
        return Shape(Shape.free(layers).bands, order)
    try:
        numbers = [int(part) for part in tie.split(",")]
    except ValueError:
        raise InputError(
            f"--tie {tie}: give a number of bands, or the distances at which they begin, such as 0,3,10"
        ) from None
    return (
        Shape.tied(layers, numbers[0], order) if len(numbers) == 1 else Shape.starting(layers, numbers, order)
    )


def _tolerance(value: float) -> float:
    if value <= 0:
        raise InputError("--tolerance must be above 0: a witness lies strictly beyond what is proved")
    return value


def _outputs(path: Path) -> list[Path]:
    return [path, *(path.with_suffix(suffix) for suffix in (".png", ".npz", ".certificate.npz"))]


@dataclass(frozen=True, slots=True, eq=False)
class _Scene:
    target: int
    objects: tuple[int, ...]
    found: FoundObjects


def _choose(
    question: Question,
    target: str | None,
    objects: Sequence[str],
    masks: Sequence[Path],
    bands: Bands | int | None,
) -> _Scene:
    """Which label is protected and which objects are perturbed.

    Raises:
        InputError: when a label is both or named twice, or no second label is left to choose.
    """
    names = question.network.labels
    wanted = None if target is None else find_label(names, target)
    perturbed = tuple(find_label(names, text) for text in objects)
    _check_objects(question, perturbed, masks)
    if wanted is None:
        wanted = next((label for label in question.predicted if label not in perturbed), None)
    if not perturbed and not masks:
        perturbed = tuple(label for label in question.predicted if label != wanted)[:1]
    if wanted is None or not (perturbed or masks):
        raise InputError(
            "the network sees only one label here; name the object with --object or mark it with --mask"
            if wanted is not None or not perturbed
            else "all labels that the network sees here are perturbed; name the --target that must stay"
        )
    if wanted in perturbed:
        raise InputError(
            f"label '{names[wanted]}' can't be both the target and the perturbed object; choose another"
        )
    found = find_objects(question, perturbed, masks, bands)
    if found.doubt is not None:
        note(found.doubt)
    return _Scene(wanted, perturbed, found)


def _check_objects(question: Question, objects: Sequence[int], masks: Sequence[Path]) -> None:
    names = question.network.labels
    twice = next((label for label in objects if objects.count(label) > 1), None)
    if twice is not None:
        raise InputError(f"--object {names[twice]} is given twice; name each object once")
    if masks and objects and len(masks) != len(objects):
        raise InputError(
            f"{len(masks)} --mask and {len(objects)} --object: give one mask per object, in the same order, "
            "or masks alone"
        )
    unseen = next((label for label in objects if label not in question.predicted), None)
    if unseen is not None and not masks:
        raise InputError(
            f"the network does not see label '{names[unseen]}' here (it sees "
            f"{', '.join(names[label] for label in question.predicted)}), so it can't find its object; "
            "mark it with --mask"
        )


def _weights(text: str, layers: ObjectLayers) -> tuple[Weighting | Path, FloatArray]:
    """Weights by name, or from a text file.

    Raises:
        InputError: for a file that can't be read as numbers.
        PropertyError: for numbers that make no size.
    """
    if text in set(Weighting):
        weighting = Weighting(text)
        return weighting, weights_of(weighting, layers)
    path = Path(text)
    try:
        numbers = np.loadtxt(path, dtype=np.float64, ndmin=1, delimiter=None).reshape(-1)
    except (OSError, ValueError) as error:
        raise InputError(
            f"--weights {text}: neither {' nor '.join(Weighting)} nor a file with one number per layer ({error})"
        ) from None
    check_weights(numbers, layers.count)
    return path, numbers


def _problem(
    question: Question, scene: _Scene, weights: FloatArray, objective: Objective, shape: Shape
) -> SynthesisProblem:
    assert isinstance(question.decision, TopK)
    layers = scene.found.layers
    where = Layered(question.image, layers.layers, np.zeros(layers.count))
    return SynthesisProblem(
        question.network, where, scene.target, question.decision.k, weights, objective, shape
    )


def write_arrays(
    output: Path, image: NDArray[np.float32], layers: ObjectLayers, synthesis: Synthesis
) -> Mapping[str, object]:
    """Write the arrays of a result beside it; the fields that name them."""
    arrays = write_scene(output, Scene(image, layers.layers, layers.objects, witness_images(synthesis)))
    if synthesis.certificate is None:
        return {"arrays": arrays, "certificate": None}
    certificate = output.with_suffix(".certificate.npz")
    with replacing(certificate) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **synthesis.certificate.arrays())
    return {"arrays": arrays, "certificate": certificate.name}


@contextmanager
def _progress() -> Iterator[Phase]:
    """A line of progress on stderr; nothing when it is not a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description:<8}"),
        BarColumn(),
        TextColumn("certified size {task.fields[size]:.4f}"),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("start", total=1.0, size=0.0)

        def show(name: str, share: float, size: float) -> None:
            bar.update(task, description=name, completed=share, size=size)

        yield show


def _print(question: Question, scene: _Scene, synthesis: Synthesis, output: Path) -> None:
    names = question.network.labels
    layers = scene.found.layers
    click.echo(
        f"'{names[scene.target]}' stays visible whatever changes around {_perturbed(names, scene)} up to:"
    )
    several = layers.items > 1
    rows = [
        (
            *((_object_name(names, scene, part.item),) if several else ()),
            *(part.span, str(part.pixels), f"{epsilon:.6g}", f"{255 * epsilon:.2f}", item.status.value),
        )
        for item, part, epsilon in zip(synthesis.maximality, layers.parts, synthesis.epsilons, strict=True)
    ]
    columns = (*(("object",) if several else ()), "layer", "pixels", "epsilon", "of 255", "status")
    print_table(columns, rows, [Tone.PLAIN] * len(rows))
    click.echo(_how_large(synthesis))
    click.echo(f"size {synthesis.size:.6g}; wrote {output} and the heat map {output.with_suffix('.png')}")
    ended = "" if synthesis.stopped == "done" else f", stopped: {synthesis.stopped}"
    click.echo(f"{synthesis.proof.verdict}  {synthesis.seconds:.1f} s  ({synthesis.proof.engine}){ended}")


def _perturbed(names: tuple[str, ...], scene: _Scene) -> str:
    if not scene.objects:
        return "the marked object" if scene.found.layers.items == 1 else "the marked objects"
    if len(scene.objects) == 1:
        return f"the object of '{names[scene.objects[0]]}'"
    return f"the objects of {' and '.join(repr(names[label]) for label in scene.objects)}"


def _object_name(names: tuple[str, ...], scene: _Scene, item: int) -> str:
    return names[scene.objects[item]] if scene.objects else str(item + 1)


def _how_large(synthesis: Synthesis) -> str:
    """The objective against its bound, and how many layers are maximal."""
    closed = sum(item.status is not LayerStatus.OPEN for item in synthesis.maximality)
    layers = (
        f"{closed} of {len(synthesis.maximality)} layers at their cap or tight within {synthesis.tolerance:g}"
    )
    if synthesis.upper_bound is None:
        return layers
    gap = "" if synthesis.gap is None else f", gap {synthesis.gap:.1%}"
    value = (
        f"{synthesis.objective} {synthesis.value:.6g}, at most {synthesis.upper_bound:.6g} is possible{gap}"
    )
    return f"{value}; {layers}"


def _exit_code(synthesis: Synthesis, *, interrupted: bool) -> ExitCode:
    if interrupted:
        return ExitCode.INTERRUPTED
    return ExitCode.HOLDS if synthesis.size > 0 else ExitCode.UNKNOWN
