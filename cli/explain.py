"""``mlverify explain MODEL SET``: how far each object may be perturbed without hiding each other label."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import click

from .. import __version__
from ..errors import InputError
from ..synthesis.layers import Bands
from ..synthesis.objective import Objective, Weighting
from ..synthesis.problem import SynthesisSettings
from ..synthesis.relations import labels_of, matrix, relations
from ..verifier.budget import Budget
from ..verifier.network import Network
from .documents import model_fields
from .explain_run import ExplainSettings, Pair, Plan, check_pairs, fingerprint, open_pairs, plan, work
from .image_set import ImageSet, read_image_set
from .labels import find_label
from .main import ExitCode
from .option_types import BandsType, EnumChoice
from .options import (
    EngineOptions,
    NetworkOptions,
    OutputFormat,
    OutputOptions,
    engine_options,
    network_options,
    output_options,
    resize_option,
)
from .question import open_network
from .render import note, print_table
from .results import Schema, print_result, read_result, write_result
from .row_log import Row, RowLog
from .session import check_outputs, interruptible, settings_of
from .show_relations import draw_relations, reaches_of, relation_fields

# Enough for a small network to reach most of what a minute gives.
DEFAULT_SECONDS = 20.0


@click.command("explain")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("images", type=click.Path(path_type=Path))
@click.option("--object", "objects", multiple=True, help="Perturb objects of this label only; repeatable.")
@click.option("--target", "targets", multiple=True, help="Keep this label only; repeatable.")
@click.option(
    "--masks",
    type=click.Path(path_type=Path),
    help="NPZ with names and objects (label + 1 per pixel)  [default: the set's own, else found]",
)
@click.option("--first", type=click.IntRange(min=1), metavar="N", help="Only the first N images.")
@click.option("--k", type=click.IntRange(min=1), help="Labels per image  [default: the set's, the file's, 2]")
@click.option(
    "--weights",
    type=EnumChoice(Weighting),
    default=Weighting.UNIFORM.value,
    show_default=True,
    help="Of the layers in the size and in the mean epsilon.",
)
@click.option(
    "--objective",
    type=EnumChoice(Objective),
    default=Objective.WEIGHTED_SUM.value,
    show_default=True,
    help="What is made large in each pair.",
)
@click.option(
    "--tie",
    type=BandsType(),
    metavar="N|D,D,...",
    help="Tie distances to one epsilon: the object and N - 1 rings, or bands that begin at distances 0,D,...",
)
@click.option(
    "--around",
    type=click.IntRange(min=0),
    metavar="D",
    help="Only pixels up to this distance from the object change; 0: the object alone.",
)
@click.option(
    "--keep", type=click.Path(path_type=Path), help="Folder for the result and proof of every pair."
)
@network_options
@resize_option
@engine_options
@output_options
def explain_command(
    model: Path,
    images: Path,
    objects: tuple[str, ...],
    targets: tuple[str, ...],
    masks: Path | None,
    first: int | None,
    k: int | None,
    weights: Weighting,
    objective: Objective,
    tie: Bands | int | None,
    around: int | None,
    keep: Path | None,
    network_options: NetworkOptions,
    resize: bool,
    engine_options: EngineOptions,
    output_options: OutputOptions,
) -> None:
    """How far may the object of each label be perturbed without hiding each other label from MODEL?

    IMAGES is a folder of pictures, or an .npz with images (and perhaps names, labels, objects). Every pair of
    labels that the network sees in an image is one synthesis of at most --timeout seconds (20); the answer is a
    matrix of mean certified epsilons, medians over the images, in OUT.json and OUT.png. What is done stands in
    OUT.rows.jsonl: the same command continues there, and Ctrl-C writes the matrix of what is done.
    """
    output = output_options.output or Path(f"{model.stem}-{images.stem}-relations.json")
    if output.suffix != ".json":
        raise InputError(f"{output} should end in .json; the figure and the rows take its name")
    figure, rows_file = output.with_suffix(".png"), output.with_suffix(".rows.jsonl")
    check_outputs([output, figure], [model, images, masks, network_options.labels])
    network = open_network(model, network_options)
    asked = read_image_set(images, network.input_shape, len(network.labels), resize=resize)
    asked = asked if masks is None else asked.with_objects(masks)
    settings = ExplainSettings(
        k=k,
        weighting=weights,
        objective=objective,
        bands=tie,
        around=around,
        seconds=engine_options.timeout or DEFAULT_SECONDS,
        synthesis=SynthesisSettings(settings_of(engine_options)),
    )
    run = {**_identity(network, network_options, asked), **settings.as_fields()}
    asked = asked.first(first)
    found = plan(network, asked, k, *(_numbers(network, names) for names in (objects, targets)))
    if not rows_file.exists():
        check_pairs(found)
    with closing(RowLog(rows_file, run)) as log:
        with interruptible(None) as (budget, was_pressed):
            _work_all(found, asked, settings, log, keep, budget, was_pressed)
        rows = list(log.rows)
    fields = {
        **_fields(network, rows, found),
        "settings": settings.as_fields(),
        "model": model_fields(network),
        "set": images,
        "keep": keep,
        "version": __version__,
    }
    write_result(output, Schema.EXPLAIN, fields)
    if fields["relations"]:
        draw_relations(read_result(output), figure)
    if output_options.format is OutputFormat.JSON:
        print_result(Schema.EXPLAIN, fields)
    else:
        _print(network, rows, fields["open"], output)
    raise SystemExit(_exit_code(rows, interrupted=was_pressed()))


def _numbers(network: Network, names: Sequence[str]) -> list[int]:
    return [find_label(network.labels, name) for name in names]


def _identity(network: Network, options: NetworkOptions, images: ImageSet) -> Row:
    return {
        "model": network.sha256,
        "mean": list(options.mean),
        "std": list(options.std),
        "layout": str(options.layout),
        "images": fingerprint(images),
    }


def _work_all(
    found: Plan,
    images: ImageSet,
    settings: ExplainSettings,
    log: RowLog,
    keep: Path | None,
    budget: Budget,
    was_pressed: Callable[[], bool],
) -> None:
    """Every pair that is not in the log yet; a pair that Ctrl-C cuts short is left out."""
    todo = list(open_pairs(found, log.rows))
    _tell_plan(found, len(todo))
    if keep is not None:
        _make(keep)
    with _progress(len(todo)) as advance:
        for pair in todo:
            row, outcome = work(pair, images, settings, budget)
            if was_pressed():
                return
            if keep is not None and outcome is not None:
                row = {**row, "result": outcome.keep(keep, settings.weighting)}
            log.add(row)
            advance(pair, row)


def _tell_plan(found: Plan, todo: int) -> None:
    for reason in sorted(set(found.skipped.values())):
        names = [name for name, why in found.skipped.items() if why == reason]
        shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        note(f"left out, {reason}: {shown} ({len(names)} in all)")
    if todo < len(found.pairs):
        note(f"{len(found.pairs) - todo} of {len(found.pairs)} pairs are done already")


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--keep {folder} can't be made: {error.strerror}") from None


@contextmanager
def _progress(total: int) -> Iterator[Callable[[Pair, Row], None]]:
    """A bar on stderr, or a line per pair where stderr is not a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        MofNCompleteColumn(),
        BarColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total)

        def advance(pair: Pair, row: Row) -> None:
            text = _row_text(pair, row)
            bar.update(task, advance=1, description=text)
            if not console.is_terminal:
                note(text)

        yield advance


def _row_text(pair: Pair, row: Row) -> str:
    names = pair.question.network.labels
    what = f"{pair.name}: '{names[pair.item]}' perturbed, '{names[pair.target]}' kept"
    if "failed" in row:
        return f"{what}: {row['failed']}"
    return f"{what}: mean epsilon {row['reach']:.4g} ({row['seconds']:.0f} s)"


# --- the answer -------------------------------------------------------------------------------------------


def _fields(network: Network, rows: Sequence[Row], found: Plan) -> Mapping[str, Any]:
    return {
        "open": sum(1 for _ in open_pairs(found, rows)),
        "labels": network.labels,
        "relations": relation_fields(relations(reaches_of(rows))),
        "rows": rows,
        "skipped": found.skipped,
    }


def _print(network: Network, rows: Sequence[Row], todo: int, output: Path) -> None:
    found = relations(reaches_of(rows))
    labels = labels_of(found)
    names = [network.labels[label] for label in labels]
    if found:
        click.echo("mean certified epsilon (median over the images) of the object in the row without hiding:")
        table = matrix(found, labels)
        print_table(
            ("object", *names),
            [
                (name, *("-" if value != value else f"{value:.4g}" for value in line))
                for name, line in zip(names, table, strict=True)
            ],
        )
        weak = min(found, key=lambda relation: relation.least)
        click.echo(
            f"least: '{network.labels[weak.target]}' under changes of '{network.labels[weak.item]}' in image "
            f"{weak.weakest}, {weak.least:.4g}"
        )
    failed = sum("failed" in row for row in rows)
    seconds = sum(row.get("seconds", 0.0) for row in rows)
    doubts = sum("doubt" in row for row in rows)
    if doubts:
        note(
            f"{doubts} of {len(rows)} pairs rest on an object that was found with doubt; see the rows, or give --masks"
        )
    about = f", {failed} failed" if failed else ""
    left = f", {todo} open: the same command continues" if todo else ""
    figure = f" and {output.with_suffix('.png')}" if found else ""
    click.echo(f"{len(rows)} pairs in {seconds:.0f} s{about}{left}; wrote {output}{figure}")


def _exit_code(rows: Sequence[Row], *, interrupted: bool) -> ExitCode:
    if interrupted:
        return ExitCode.INTERRUPTED
    return ExitCode.HOLDS if any(row.get("reach", 0.0) > 0 for row in rows) else ExitCode.UNKNOWN
