"""``mlverify synth MODEL IMAGE``: the largest certified layered neighbourhood around an object."""

from pathlib import Path

import click

from ..errors import InputError
from ..synthesis.cutting import Cutting
from ..synthesis.layers import Bands
from ..synthesis.maximality import TOLERANCE, ClosingSettings
from ..synthesis.objective import Objective
from ..synthesis.problem import SynthesisSettings
from ..synthesis.result import Synthesis
from ..synthesis.shape import Order
from ..synthesis.synthesize import synthesize
from .documents import synth_fields
from .main import ExitCode
from .option_types import BandsType, EnumChoice, EpsilonType
from .options import (
    DecisionOptions,
    DecisionRule,
    EngineOptions,
    NetworkOptions,
    OutputFormat,
    OutputOptions,
    engine_options,
    network_options,
    output_options,
    resize_option,
)
from .question import ask
from .render import note
from .results import Schema, print_result, read_result, write_result
from .session import check_outputs, interruptible, settings_of
from .show import draw_synthesis
from .synth_output import print_synthesis, showing_progress, write_arrays
from .synth_question import choose, read_weights, shape_of, synthesis_problem

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
    type=BandsType(),
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
    tie: Bands | int | None,
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
    chosen = choose(question, target, objects, masks, tie)
    weighting, numbers = read_weights(weights or objective.weighting.value, chosen.found.layers)
    shape = shape_of(tie, order, chosen.found.layers)
    problem = synthesis_problem(question, chosen, numbers, objective, shape)
    closing = ClosingSettings(_tolerance(tolerance))
    settings = SynthesisSettings(settings_of(engine_options), cutting=cutting, closing=closing)
    seconds = engine_options.timeout or DEFAULT_SECONDS
    with interruptible(seconds) as (budget, was_pressed), showing_progress() as progress:
        synthesis = synthesize(problem, settings, budget, note, progress)
    if synthesis.warning is not None:
        note(f"{synthesis.warning}; --order non-increasing or --weights distance avoid that")
    fields = synth_fields(
        question,
        chosen.found,
        synthesis,
        chosen.target,
        chosen.objects,
        problem.k,
        weighting,
        numbers.tolist(),
    )
    files = write_arrays(output, question.image, chosen.found.layers, synthesis)
    write_result(output, Schema.SYNTH, {**fields, **files})
    draw_synthesis(read_result(output), output.with_suffix(".png"))
    if output_options.format is OutputFormat.JSON:
        print_result(Schema.SYNTH, {**fields, **files})
    else:
        print_synthesis(question, chosen, synthesis, output)
    raise SystemExit(_exit_code(synthesis, interrupted=was_pressed()))


def _given(*inputs: Path | str | None) -> list[Path | None]:
    return [None if item is None else Path(item) for item in inputs]


def _tolerance(value: float) -> float:
    if value <= 0:
        raise InputError("--tolerance must be above 0: a witness lies strictly beyond what is proved")
    return value


def _outputs(path: Path) -> list[Path]:
    return [path, *(path.with_suffix(suffix) for suffix in (".png", ".npz", ".certificate.npz"))]


def _exit_code(synthesis: Synthesis, *, interrupted: bool) -> ExitCode:
    if interrupted:
        return ExitCode.INTERRUPTED
    return ExitCode.HOLDS if synthesis.size > 0 else ExitCode.UNKNOWN
