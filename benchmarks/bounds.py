"""Own CROWN and alpha-CROWN beside auto_LiRPA's, in one run: values, seconds and memory.

``python -m mlverify.benchmarks.bounds DATA_DIR`` bounds, on each of MuLLoC's networks in DATA_DIR, the lead of every
other label over the first one of sample images. Each tool runs in a process of its own, on one thread, and is
called once before it is timed; what a network needs once (tracing, weights as tensors) is not timed. CROWN is in
float64 on both sides; auto_LiRPA's alpha-CROWN only runs in float32 (20 steps), our slopes are found in float32 and
every bound is one of float64. ``to theirs`` is what the least effort took us after which every bound is as tight as
auto_LiRPA's alpha-CROWN, and how often that fits into its time.
"""

import argparse
import resource
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from ..errors import InputError, SolverUnavailableError
from ..verifier.bounds_engine import BoundsEngine
from ..verifier.budget import Budget
from ..verifier.descent import BRISK
from ..verifier.lirpa import LirpaBounds, lirpa_status
from ..verifier.max_engine import Branching
from ..verifier.max_search import SearchSettings
from ..verifier.network import Network
from ..verifier.onnx_reader import load_network
from ..verifier.operators import FloatArray
from ..verifier.property import Clause, Property, top_k
from ..verifier.region import Region
from ..verifier.session import Judge
from .mulloc import FAMILIES, read_samples

# Pixel units: where CROWN still says something and proves little.
EPSILONS = {"dmnist": 0.01, "tmnist": 0.002, "pascal-voc": 0.001}
THEIR_STEPS = 20
Effort = tuple[int, int]
THEIRS: Effort = (0, THEIR_STEPS)
# Steps of slopes that only the scores see, on the network as it is.
BRIEF: Effort = (0, BRISK.steps)
# Steps on inner values and on the scores, in the order of their cost; all but the first on what bounds leave of the
# network, and (8, 20) is the portfolio's.
OUR_STEPS = (BRIEF, (0, 5), (0, 10), (4, 12), (8, 20), (12, 30), (20, 40))
# Atoms are raised by this before slopes are optimised, so that none is proved and all are bounded to the end.
RAISED = 1e4
# Bounds this much apart, as a share of their size, are the same: float32 on one side.
SAME = 1e-4


@dataclass(frozen=True, slots=True)
class Task:
    """What is bounded: the lead of every other label over the first one, around some images."""

    network: Path
    samples: Path
    epsilon: float
    batch: int

    def load(self) -> tuple[Network, list[Region], FloatArray]:
        """The network, regions around its first images, and weights (rows, labels)."""
        torch.set_num_threads(1)
        network = load_network(self.network)
        samples = read_samples(self.samples)
        images = [samples[number % len(samples)].image for number in range(self.batch)]
        scores = Judge(network).logits(images[0][None])[0]
        weights = top_k(len(scores), int(np.argmax(scores)), 1).clauses[0].weights
        return network, [Region.linf(image, self.epsilon) for image in images], weights


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What one tool needed, and its bounds (rows,) on the first region.

    Attributes:
        crown: values of CROWN.
        crown_seconds: for one region.
        batch_seconds: for a batch, per region.
        alpha: values of alpha-CROWN by effort.
        alpha_seconds: the same.
        peak: megabytes of the whole process.
    """

    crown: FloatArray
    crown_seconds: float
    batch_seconds: float
    alpha: dict[Effort, FloatArray]
    alpha_seconds: dict[Effort, float]
    peak: float


def ours(task: Task) -> Measured:
    """Own propagation."""
    network, regions, weights = task.load()
    engine = BoundsEngine(network)
    linear = engine.linear

    def crown(count: int) -> FloatArray:
        with torch.no_grad():
            bounds = linear.propagate(*linear.box(regions[:count]))
            rows = linear.tensor(weights).unsqueeze(0).expand(count, -1, -1)
            return np.asarray(linear.upper(network.output, rows, bounds).numpy())

    clause = Clause(weights, np.full(len(weights), RAISED), 1)

    def alpha(steps: Effort) -> FloatArray:
        question = Property((clause,), "")
        first = engine.crown(regions[0], question)
        if steps == BRIEF:
            found = engine.descend(question, first, Budget(), brisk=True)
            return found.clauses[0].atom_upper - RAISED
        effort = SearchSettings(tighten_steps=steps[0], root_steps=steps[1])
        search = Branching(network, first.values, clause, first.clauses[0], effort)
        return search.bound(Budget()).clause.atom_upper - RAISED

    values, seconds = {}, {}
    for steps in OUR_STEPS:
        seconds[steps], values[steps] = _timed(partial(alpha, steps), repeats=3)
    return _measured(crown, len(regions), values, seconds)


def theirs(task: Task) -> Measured:
    """auto_LiRPA."""
    network, regions, weights = task.load()
    exact, single = LirpaBounds(network), LirpaBounds(network, torch.float32)

    def crown(count: int) -> FloatArray:
        return exact.uppers(regions[:count], weights)

    values, seconds = {}, {}
    found = partial(single.uppers, regions[:1], weights, THEIR_STEPS)
    seconds[THEIRS], values[THEIRS] = _timed(found, repeats=3)
    values[THEIRS] = values[THEIRS][0]
    return _measured(crown, len(regions), values, seconds)


def _measured(
    crown: Callable[[int], FloatArray],
    batch: int,
    alpha: dict[Effort, FloatArray],
    alpha_seconds: dict[Effort, float],
) -> Measured:
    seconds, values = _timed(partial(crown, 1), repeats=5)
    batch_seconds, _ = _timed(partial(crown, batch), repeats=5)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    megabytes = peak / (2**20 if sys.platform == "darwin" else 2**10)
    return Measured(values[0], seconds, batch_seconds / batch, alpha, alpha_seconds, megabytes)


def _timed(call: Callable[[], FloatArray], repeats: int) -> tuple[float, FloatArray]:
    """The shortest of some calls after a first one, and the value."""
    value = call()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        value = call()
        times.append(time.perf_counter() - started)
    return min(times), value


HEADER = (
    f"{'network':<20}{'CROWN ms':>18}{'looser':>20}{'per region of batch ms':>24}{'alpha s':>16}"
    f"{'to theirs s':>18}{'looser':>20}{'peak MB':>14}"
)


def line(name: str, mine: Measured, other: Measured) -> str:
    """For the table: ours / theirs; ``looser`` counts rows in which ours is the looser one, and by how much at most."""
    reached = [steps for steps in OUR_STEPS if not _looser(mine.alpha[steps], other.alpha[THEIRS])]
    last = OUR_STEPS[-1]
    to_theirs = "-"
    if reached:
        seconds = mine.alpha_seconds[reached[0]]
        to_theirs = f"{seconds:.3f} ({other.alpha_seconds[THEIRS] / seconds:.1f}x)"
    return (
        f"{name:<20}"
        f"{_pair(1e3 * mine.crown_seconds, 1e3 * other.crown_seconds, 18)}"
        f"{_gap(mine.crown, other.crown):>20}"
        f"{_pair(1e3 * mine.batch_seconds, 1e3 * other.batch_seconds, 24)}"
        f"{_pair(mine.alpha_seconds[last], other.alpha_seconds[THEIRS], 16, 2)}"
        f"{to_theirs:>18}"
        f"{_gap(mine.alpha[last], other.alpha[THEIRS]):>20}"
        f"{_pair(mine.peak, other.peak, 14, 0)}"
    )


def _looser(mine: FloatArray, other: FloatArray) -> int:
    return int((mine > other + SAME * (1 + np.abs(other))).sum())


def _gap(mine: FloatArray, other: FloatArray) -> str:
    count = _looser(mine, other)
    most = f" by {float((mine - other).max()):.2g}" if count else ""
    return f"{count} of {len(mine)}{most}"


def _pair(mine: float, other: float, width: int, digits: int = 1) -> str:
    return f"{f'{mine:.{digits}f} / {other:.{digits}f}':>{width}}"


def _apart(function: Callable[[Task], Measured], task: Task) -> Measured:
    """In a process of its own, so that memory is its own too."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, task).result()


def tasks(options: argparse.Namespace) -> list[tuple[str, Task]]:
    """The networks that the options select."""
    found = []
    for family in FAMILIES:
        for name in family.networks:
            epsilon = options.eps or next(value for key, value in EPSILONS.items() if name.startswith(key))
            task = Task(
                options.folder / f"{name}.onnx", options.folder / family.samples, epsilon, options.batch
            )
            if options.only in name:
                found.append((name, task))
    return found


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Own bounds beside auto_LiRPA's.")
    parser.add_argument("folder", type=Path, metavar="DATA_DIR")
    parser.add_argument("--only", default="", metavar="TEXT", help="networks whose name contains TEXT")
    parser.add_argument("--eps", type=float, help="in place of 0.01 (DMNIST), 0.002 (TMNIST) and 0.001 (VOC)")
    parser.add_argument("--batch", type=int, default=16, help="regions bounded together (16)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    options = _arguments(arguments)
    status = lirpa_status()
    if not status.usable:
        raise SystemExit(f"error: auto_LiRPA is {status.message}")
    print(HEADER, flush=True)
    for name, task in tasks(options):
        try:
            mine, other = _apart(ours, task), _apart(theirs, task)
        except (InputError, SolverUnavailableError) as error:
            print(f"{name:<20}{error}", flush=True)
            continue
        print(line(name, mine, other), flush=True)


if __name__ == "__main__":
    main()
