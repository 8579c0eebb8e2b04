"""What ``mlverify synth`` shows and writes besides its result file."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from ..synthesis.layers import ObjectLayers
from ..synthesis.problem import Phase
from ..synthesis.result import LayerStatus, Synthesis
from ..verifier.files import replacing
from .documents import witness_images
from .question import Question
from .render import Tone, print_table
from .results import Scene, write_scene
from .synth_question import Chosen


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
def showing_progress() -> Iterator[Phase]:
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


def print_synthesis(question: Question, chosen: Chosen, synthesis: Synthesis, output: Path) -> None:
    """A row per layer, how large the result is, and what it rests on."""
    names = question.network.labels
    layers = chosen.found.layers
    click.echo(
        f"'{names[chosen.target]}' stays visible whatever changes around {_perturbed(names, chosen)} up to:"
    )
    several = layers.items > 1
    rows = [
        (
            *((_object_name(names, chosen, part.item),) if several else ()),
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


def _perturbed(names: tuple[str, ...], chosen: Chosen) -> str:
    if not chosen.objects:
        return "the marked object" if chosen.found.layers.items == 1 else "the marked objects"
    if len(chosen.objects) == 1:
        return f"the object of '{names[chosen.objects[0]]}'"
    return f"the objects of {' and '.join(repr(names[label]) for label in chosen.objects)}"


def _object_name(names: tuple[str, ...], chosen: Chosen, item: int) -> str:
    return names[chosen.objects[item]] if chosen.objects else str(item + 1)


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
