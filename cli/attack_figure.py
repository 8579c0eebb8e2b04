"""Figures of attacks: one image with its perturbation magnified, and success against epsilon."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..verifier.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Pixels = NDArray[np.float32]

_DPI = 120


@dataclass(frozen=True, slots=True, eq=False)
class AttackPicture:
    """One attacked image.

    Attributes:
        clean: pixels (channels, height, width) in [0, 1].
        adversarial: same shape.
        before: names of the labels before.
        after: names after.
        title: method and outcome in a line.
    """

    clean: Pixels
    adversarial: Pixels
    before: Sequence[str]
    after: Sequence[str]
    title: str

    def save(self, path: Path) -> None:
        """Draw clean image, magnified perturbation and adversarial image as PNG.

        Raises:
            InputError: when ``path`` can't be written.
        """
        figure = _figure(12.0, 4.6)
        change = self.adversarial - self.clean
        largest = float(np.abs(change).max())
        panels = (
            (self.clean, "clean: " + _listed(self.before)),
            (0.5 + change / (2 * largest or 1.0), f"change, {_factor(largest)} (grey: none)"),
            (self.adversarial, "attacked: " + _listed(self.after)),
        )
        for index, (pixels, title) in enumerate(panels):
            axes = figure.add_subplot(1, 3, index + 1)
            _draw(axes, np.asarray(pixels))
            axes.set_title(title, fontsize=11, wrap=True)
        figure.suptitle(self.title, fontsize=14, fontweight="bold")
        _save(figure, path)


def save_curve(path: Path, curves: Mapping[str, Sequence[tuple[float, float]]], title: str) -> None:
    """Draw rates against epsilon as PNG.

    Args:
        path: the PNG.
        curves: per name, points (epsilon, rate in [0, 1]).
        title: in a line.

    Raises:
        InputError: when ``path`` can't be written.
    """
    figure = _figure(7.0, 4.6)
    axes = figure.add_subplot(1, 1, 1)
    for name, points in curves.items():
        axes.plot(*zip(*points, strict=True), marker="o", label=name)
    axes.set_xlabel("epsilon [pixel units, 0..1]")
    axes.set_ylabel("share of images")
    axes.set_ylim(-0.03, 1.03)
    axes.grid(alpha=0.35)
    axes.legend()
    axes.set_title(title)
    _save(figure, path)


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: "Figure", path: Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=_DPI)


def _draw(axes: "Axes", pixels: Pixels) -> None:
    planes = np.clip(pixels, 0, 1)
    if len(planes) == 3:
        axes.imshow(np.moveaxis(planes, 0, -1), interpolation="nearest")
    else:
        axes.imshow(planes.mean(axis=0), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_axis_off()


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "no label"


def _factor(largest: float) -> str:
    return f"x {0.5 / largest:.3g}" if largest > 0 else "none"
