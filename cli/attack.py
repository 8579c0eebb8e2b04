"""``mlverify attack MODEL IMAGE``: change the predicted labels of an image, or of a whole folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import InputError
from .attack_names import MethodName
from .option_types import EnumChoice, EpsilonType
from .options import (
    DatasetOptions,
    DecisionOptions,
    EngineOptions,
    NetworkOptions,
    OutputFormat,
    OutputOptions,
    dataset_options,
    decision_options,
    engine_options,
    network_options,
    output_options,
    resize_option,
)

if TYPE_CHECKING:
    from ..attacks.ball import Ball
    from .attack_run import Wish


@dataclass(frozen=True, slots=True)
class AttackOptions:
    """The options that only this command has."""

    method: MethodName
    flip: tuple[str, ...]
    hide_all: bool
    show_most: bool
    keep_others: bool
    graph: str | None
    consistent: bool
    report: Path | None


def _wish(options: AttackOptions) -> "Wish":
    from .attack_run import Wish

    asked = sum((bool(options.flip), options.hide_all, options.show_most))
    if asked != 1:
        raise InputError("say what to change with one of --flip LABEL (repeatable), --hide-all, --show-most")
    return Wish(options.flip, options.hide_all, options.show_most, options.keep_others, options.consistent)


@click.command("attack")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("image", type=click.Path(path_type=Path))
@click.option(
    "--method",
    type=EnumChoice(MethodName),
    default=MethodName.APGD.value,
    show_default=True,
    help="The attack, by its name in the literature.",
)
@click.option("--flip", multiple=True, metavar="LABEL", help="Hide this label if present, else show it.")
@click.option("--hide-all", is_flag=True, help="Hide every label that is predicted.")
@click.option("--show-most", is_flag=True, help="Show as many labels as possible.")
@click.option("--keep-others", is_flag=True, help="Success asks that no other label changes.")
@click.option(
    "--eps",
    type=EpsilonType(),
    multiple=True,
    help="Largest change of a pixel, as 4/255; repeat for folders.",
)
@click.option(
    "--l2",
    type=click.FloatRange(min=0),
    metavar="R",
    help="Radius in the L2 norm instead of --eps (tkml-ap, ml-*, jma, mla-de).",
)
@click.option("--graph", help="Label graph for gmla and consistency: voc, coco or a JSON file of edges.")
@click.option("--consistent", is_flag=True, help="Flip what the graph asks for besides; hold all else.")
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    help="For a folder, .npz or data set: rates as CSV, and a PNG.",
)
@click.option(
    "--sample",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="Images of a data set, drawn by --seed.",
)
@dataset_options
@resize_option
@network_options
@decision_options
@engine_options
@output_options
def attack_command(
    model: Path,
    image: Path,
    eps: tuple[float, ...],
    l2: float | None,
    sample: int,
    dataset_options: DatasetOptions,
    resize: bool,
    network_options: NetworkOptions,
    decision_options: DecisionOptions,
    engine_options: EngineOptions,
    output_options: OutputOptions,
    **rest: object,
) -> None:
    """Attack MODEL on IMAGE: a picture, or with --report a folder, an .npz, or a data set as of `mlverify dataset`.

    MODEL is an ONNX file, a checkpoint of `mlverify train` (.safetensors) or a program of torch.export (.pt2).
    Success is counted on the written image, in onnxruntime or for torch files in torch. Exit codes: 1 the labels
    were flipped, 3 they were not, 0 a report was written. With -o OUT.json the adversarial image lies beside it
    as OUT.npy and OUT.adversarial.png, a figure as OUT.png.
    """
    from .attack_run import AttackRun, ManyImages, attack_many, attack_one
    from .attack_target import open_target
    from .attack_torch import is_torch_file, open_torch_target

    options = AttackOptions(**rest)  # type: ignore[arg-type]
    wish = _wish(options)
    balls = _balls(options.method, eps, l2)
    device = _device(engine_options)
    if is_torch_file(model):
        target = open_torch_target(model, network_options, decision_options, device)
    else:
        target = open_target(model, options.method, network_options, decision_options, device)
    run = AttackRun(
        target, options.method, wish, options.graph, engine_options.seed, engine_options.timeout, device
    )
    if options.report is not None:
        many = ManyImages(image, dataset_options, sample, resize)
        if not attack_many(run, many, balls, options.report):
            raise KeyboardInterrupt
        return
    if len(balls) != 1:
        raise InputError(
            "one image is attacked at one --eps; give several with --report and a folder or .npz"
        )
    as_json = output_options.format is OutputFormat.JSON
    attacked = attack_one(run, image, balls[0], output_options.output, as_json=as_json, resize=resize)
    if attacked.interrupted:
        raise KeyboardInterrupt
    click.get_current_context().exit(1 if attacked.record.success else 3)


def _balls(method: MethodName, eps: tuple[float, ...], l2: float | None) -> tuple["Ball", ...]:
    from ..attacks.ball import Ball, Norm

    if l2 is not None:
        if eps:
            raise InputError("--eps and --l2 are two ways to bound the change; give one")
        return (Ball(l2, Norm.L2),)
    if not eps and method.needs_budget:
        raise InputError(f"{method} needs to know how far pixels may move; give --eps, such as --eps 4/255")
    return tuple(Ball(epsilon) for epsilon in eps or (1.0,))


def _device(options: EngineOptions) -> str:
    import torch

    from .options import DeviceName

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    if options.device is DeviceName.AUTO:
        return "cuda" if torch.cuda.is_available() else "cpu"
    if options.device is DeviceName.CUDA and not torch.cuda.is_available():
        raise InputError("--device cuda, but torch sees no CUDA device; use --device cpu")
    return options.device.value
