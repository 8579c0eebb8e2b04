"""The heat maps of the thesis's figures 3 and 4: fixed and sensitivity cutting weights, for the three defences.

``python -m mlverify.benchmarks.thesis_figures DATA_DIR -o figures.png`` takes one sample image that all three
networks see rightly (the thesis shows one image and does not say which; its target is the label with the smaller
number, the perturbed object the true mask of the other digit, weights are uniform) and draws, per network, the
epsilons of each layer as reached by the loop of Mour (2023) with either cutting weights and the MILP alone, by our
loop with either and the whole portfolio, but without the ascent on bounds that comes before it, and by all of it.
The thesis prints no numbers; sizes stand above the maps here. Every result is verified once more by a portfolio
that has seen nothing, or from its certificate. With ``--csv`` the next run continues where this one was stopped.
"""

import argparse
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..synthesis.ascent import AscentSettings
from ..synthesis.cutting import Cutting
from ..synthesis.heatmap import COLOURS, colour_scale, draw_outline, layer_colours
from ..synthesis.layers import ObjectLayers
from ..synthesis.problem import SynthesisProblem, SynthesisSettings
from ..synthesis.synthesize import synthesize
from ..verifier.files import check_writable, replacing
from ..verifier.operators import FloatArray
from ..verifier.portfolio import Settings, Verifier
from .limits import COLUMNS as LIMIT_COLUMNS
from .limits import Limits, add_limits
from .row_file import Row, RowFile
from .samples import NETWORKS, Sample, read_network, synthesis_problem
from .synth_table import prove_again
from .thesis import LoopSettings, ThesisLoop
from .thesis_loop import seen_samples

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = ("network", "image", "way", "cutting", "size", "seconds", "again", *LIMIT_COLUMNS, "epsilons")
TITLES: Mapping[str, str] = {"noDef": "no defence", "L0Def": "L0 defence", "LInfDef": "L-infinity defence"}
_CELL, _DPI, _FONT = 3.4, 100, 13


class Way(StrEnum):
    """Which loop."""

    THESIS = "thesis"
    LOOP = "our-loop"
    FULL = "mlverify"


MAPS = (
    *((way, cutting) for way in (Way.THESIS, Way.LOOP) for cutting in Cutting),
    (Way.FULL, Cutting.FIXED),
)


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """One heat map.

    Attributes:
        network: name of the network.
        way: which loop.
        cutting: its cutting weights.
        epsilons: (layers,) pixel units.
        size: their sum.
    """

    network: str
    way: Way
    cutting: Cutting
    epsilons: FloatArray
    size: float


@dataclass(frozen=True, slots=True, eq=False)
class Reached:
    """Epsilons (layers,) that one way reaches, the seconds it took, and the verdict on them when asked again."""

    epsilons: FloatArray
    seconds: float
    again: str


def reach(problem: SynthesisProblem, way: Way, cutting: Cutting, limits: Limits) -> Reached:
    """Run one way, and verify what it returns once more."""
    started, settings = limits.clock(), Settings(threads=limits.threads)
    if way is Way.THESIS:
        loop = ThesisLoop(
            problem, LoopSettings(cutting=cutting, threads=limits.threads), limits.budget()
        ).run()
        fresh = Verifier(problem.network, settings)
        again = fresh.verify(problem.at(loop.epsilons), limits.budget()).verdict.value
        return Reached(loop.epsilons, loop.seconds, again)
    ascent = AscentSettings() if way is Way.FULL else AscentSettings(steps=0)
    result = synthesize(problem, SynthesisSettings(settings, ascent, cutting=cutting), limits.budget())
    seconds = limits.clock() - started
    again = prove_again(problem, result, settings, limits.budget())
    return Reached(result.epsilons, seconds, again)


def work(sample: Sample, folder: Path, rows: RowFile, limits: Limits) -> None:
    """Every map that is not in the file yet, a line for each."""
    target, item = sorted(sample.masks)
    for name in NETWORKS:
        problem = synthesis_problem(read_network(folder, name), sample, target, item)
        for way, cutting in MAPS:
            key = {"network": name, "image": sample.name, "way": way.value, "cutting": cutting.value}
            if rows.key_of(key) not in rows.done:
                rows.add({**key, **_measured(problem, way, cutting, limits)})
            print(line(rows.done[rows.key_of(key)]), flush=True)


def _measured(problem: SynthesisProblem, way: Way, cutting: Cutting, limits: Limits) -> Mapping[str, str]:
    found = reach(problem, way, cutting, limits)
    return {
        "size": f"{float(problem.weights @ found.epsilons):.6g}",
        "seconds": f"{found.seconds:.1f}",
        "again": found.again,
        **limits.fields,
        "epsilons": " ".join(repr(float(epsilon)) for epsilon in found.epsilons),
    }


HEADER = f"{'network':<9}{'image':<9}{'loop':<10}{'cutting':<13}{'size':>9}{'seconds':>9}  verified again"


def line(row: Row) -> str:
    """A row for the terminal."""
    return (
        f"{row['network']:<9}{row['image']:<9}{row['way']:<10}{row['cutting']:<13}{float(row['size']):>9.4f}"
        f"{row['seconds']:>9}  {row['again']}"
    )


def panels(rows: Sequence[Row]) -> list[Panel]:
    """What the rows say."""
    return [
        Panel(
            row["network"],
            Way(row["way"]),
            Cutting(row["cutting"]),
            np.array([float(number) for number in row["epsilons"].split()]),
            float(row["size"]),
        )
        for row in rows
    ]


def draw(sample: Sample, shown: Sequence[Panel], path: Path) -> None:
    """One row per network: the image, then a map per loop and cutting weights, on the row's own scale."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = 1 + len(MAPS)
    with rc_context({"font.size": _FONT}):
        figure = Figure(figsize=(_CELL * columns + 1, _CELL * len(NETWORKS) + 0.8), layout="constrained")
        FigureCanvasAgg(figure)
        grid: Any = figure.subplots(len(NETWORKS), columns, squeeze=False)
        for row, name in enumerate(NETWORKS):
            _draw_row(figure, grid[row], sample, name, [panel for panel in shown if panel.network == name])
        target, item = sorted(sample.masks)
        figure.suptitle(
            f"image {sample.name}: how far pixels around the {item} may move while the {target} stays in the top 2"
        )
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=_DPI)


def _draw_row(figure: Any, row: Sequence["Axes"], sample: Sample, name: str, shown: Sequence[Panel]) -> None:
    from matplotlib.cm import ScalarMappable

    _, item = sorted(sample.masks)
    around = ObjectLayers.around(sample.masks[item])
    row[0].imshow(sample.image[0], cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest")
    row[0].set_title(TITLES[name])
    for axes in row:
        axes.set_xticks([])
        axes.set_yticks([])
        draw_outline(axes, around.mask)
    if not shown:
        return
    scale = colour_scale(np.concatenate([panel.epsilons for panel in shown]))
    for axes, panel in zip(row[1:], shown, strict=False):
        axes.imshow(layer_colours(panel.epsilons, scale)[around.layers][..., :3], interpolation="nearest")
        weights = "" if panel.way is Way.FULL else f", {panel.cutting}"
        axes.set_title(f"{panel.way}{weights}\nsize {panel.size:.3g}")
    figure.colorbar(ScalarMappable(scale, cmap=COLOURS), ax=row[-1], label="epsilon [0..1]")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the sizes, draw the maps."""
    parser = argparse.ArgumentParser(description="The heat maps of the thesis's figures 3 and 4.")
    parser.add_argument("folder", type=Path, metavar="DATA_DIR")
    parser.add_argument("-o", "--output", type=Path, default=Path("thesis_figures.png"), help="the picture")
    parser.add_argument("--image", help="name of the sample image (the first that all networks see)")
    add_limits(parser)
    parser.add_argument("--csv", type=Path, metavar="OUT.csv", help="rows; beside the picture by default")
    options = parser.parse_args(arguments)
    path: Path = options.csv or options.output.with_suffix(".csv")
    limits = Limits.of_options(options)
    try:
        check_writable(options.output)
        sample = _sample(options.folder, options.image)
        with closing(RowFile(path, COLUMNS, COLUMNS[:4], limits.fields)) as rows:
            print(HEADER, flush=True)
            try:
                work(sample, options.folder, rows, limits)
            except KeyboardInterrupt:
                print("interrupted", flush=True)
            done = [row for row in rows.done.values() if row["image"] == sample.name]
            draw(sample, panels(done), options.output)
    except InputError as error:
        raise SystemExit(f"error: {error}") from None
    print(f"wrote {options.output} and {path}")


def _sample(folder: Path, name: str | None) -> Sample:
    seen = seen_samples(folder)
    wanted = next((sample for sample in seen if name in (None, sample.name)), None)
    if wanted is None:
        raise InputError(f"no sample image {name} that all networks see rightly in {folder}")
    return wanted


if __name__ == "__main__":
    main()
