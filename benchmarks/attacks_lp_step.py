"""One step of MLA-LP: decomposition over the l rows against the published program with 2d + l rows.

``python -m mlverify.benchmarks.attacks_lp_step DATA_DIR [--limit S]`` linearises the VOC network of DATA_DIR
(3x300x300, 20 labels) at its images and solves "hide one label, keep the others" both ways. The explicit
program goes to HiGHS, simplex and interior point, each with a time limit, at which it counts as not faster.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linprog

from ..attacks.ball import Ball
from ..attacks.base import Task
from ..attacks.flips import Flips
from ..attacks.jacobian import margins_and_jacobian
from ..attacks.lp_step import smallest_step
from .attacks_common import best_threshold, read_images, read_module, table

Floats = NDArray[np.float64]

_EPSILON = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """min z with A r <= b, lower <= r <= upper, |r_i| <= z."""

    rows: Floats
    limits: Floats
    lower: Floats
    upper: Floats


def programs(folder: Path, count: int) -> Iterator[Program]:
    """Linear programs of the first images."""
    images, present = read_images(folder / "voc_samples.npz")
    network = read_module(folder / "pascal-voc_noDef_x3.onnx")
    decision = best_threshold(network, images, present)
    for index in range(count):
        image = images[index : index + 1]
        label = int(network(image)[0].argmax())
        seen = decision.present(network(image))
        flips = Flips.of(1, seen.shape[1], hide=[label])
        task = Task(network, image, flips, Ball(_EPSILON), decision, seen, torch.Generator())
        margins, jacobian = margins_and_jacobian(task, image)
        side = (task.wanted + task.kept)[0]
        lower, upper = (bound.flatten().double() for bound in Ball(_EPSILON).box(image))
        pixels = image.flatten().double()
        yield Program(
            (-side[:, None] * jacobian[0]).double().numpy(),
            (side * margins[0]).double().numpy(),
            (lower - pixels).numpy(),
            (upper - pixels).numpy(),
        )


def explicit(program: Program, method: str, limit: float) -> tuple[float, float]:
    """Seconds and z of the program written out; z is nan when the limit was hit."""
    count = program.rows.shape[1]
    eye = sparse.identity(count, format="csr")
    ones = -np.ones((count, 1))
    matrix = sparse.vstack(
        [
            sparse.hstack([eye, ones]),
            sparse.hstack([-eye, ones]),
            sparse.hstack([sparse.csr_matrix(program.rows), np.zeros((len(program.rows), 1))]),
        ]
    ).tocsr()
    right = np.concatenate([np.zeros(2 * count), program.limits])
    bounds = np.column_stack([np.append(program.lower, 0.0), np.append(program.upper, np.inf)])
    begun = time.perf_counter()
    answer = linprog(
        np.append(np.zeros(count), 1.0),
        matrix,
        right,
        bounds=bounds,
        method=method,
        options={"time_limit": limit},
    )
    return time.perf_counter() - begun, float(answer.fun) if answer.status == 0 else float("nan")


def report(folder: Path, count: int, limit: float) -> Iterator[str]:
    """One row per image."""
    rows = []
    for index, program in enumerate(programs(folder, count)):
        begun = time.perf_counter()
        step = smallest_step(program.rows, program.limits, program.lower, program.upper, gap=1e-3)
        seconds = time.perf_counter() - begun
        cells = [
            str(index),
            step.status.value,
            f"{step.size:.6f}",
            f"{step.bound:.6f}",
            str(step.columns),
            f"{seconds:.2f}",
        ]
        for method in ("highs-ds", "highs-ipm"):
            spent, size = explicit(program, method, limit)
            cells.append(f"{spent:.1f} (z {size:.6f}, x{spent / seconds:.0f})")
        rows.append(cells)
    yield table(
        (
            "image",
            "status",
            "z",
            "proven",
            "columns",
            "seconds",
            "2d rows, simplex",
            "2d rows, interior point",
        ),
        rows,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="the folder with the VOC network and samples")
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--limit", type=float, default=120.0, help="seconds for each explicit program")
    options = parser.parse_args()
    for line in report(options.folder, options.images, options.limit):
        print(line, flush=True)


if __name__ == "__main__":
    main()
