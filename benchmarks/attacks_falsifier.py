"""Counterexamples in a few seconds: APGD as the verifier uses it, on questions known to be violated.

``python -m mlverify.benchmarks.attacks_falsifier PEERS_DIR MODELS_DIR [--seconds 5]`` reads ``instances.csv``
of PEERS_DIR (name, onnx, image, mask, eps, target, k, expected) and prints when each violated question was
refuted, replayed in onnxruntime; open questions are tried too.
"""

import argparse
import csv
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..verifier.budget import Budget
from ..verifier.falsify import QUICK, THOROUGH, Falsifier
from ..verifier.image import load_image
from ..verifier.onnx_reader import load_network
from ..verifier.problem import Problem
from ..verifier.property import top_k
from ..verifier.region import Region
from ..verifier.replay import Replay
from ..verifier.torch_network import TorchNetwork
from .attacks_common import table


@dataclass(frozen=True, slots=True)
class Trial:
    """How the search for one counterexample went; ``margin`` is the largest one seen (>= 0: violated)."""

    found: bool
    seconds: float
    margin: float


def problem_of(row: Mapping[str, str], peers: Path, models: Path) -> Problem:
    """The question of one row."""
    network = load_network(models / row["onnx"])
    image = load_image(peers / row["image"], network.input_shape)
    moving = np.full(network.input_shape, float(row["eps"]))
    if row["mask"]:
        moving = moving * (load_image(peers / row["mask"], network.input_shape) > 0)
    question = top_k(len(network.labels), int(row["target"]), int(row["k"]))
    return Problem(network, Region.per_pixel(image, moving), question, image)


def search(problem: Problem, seconds: float) -> Trial:
    """A quick look, then thorough ones with new seeds until the time is over."""
    falsifier = Falsifier(TorchNetwork(problem.network), Replay(problem.network))
    begun = time.monotonic()
    budget = Budget.of_seconds(seconds)
    best = -np.inf
    seed = 0
    while not budget.exhausted:
        outcome = falsifier.search(problem, QUICK if seed == 0 else THOROUGH, seed, budget)
        best = max(best, outcome.margin)
        if outcome.witness is not None:
            return Trial(True, time.monotonic() - begun, outcome.margin)
        seed += 1
    return Trial(False, time.monotonic() - begun, best)


def report(peers: Path, models: Path, seconds: float) -> Iterator[str]:
    """One row per question that is not known to hold."""
    with (peers / "instances.csv").open(newline="", encoding="utf-8") as stream:
        questions = [row for row in csv.DictReader(stream) if row["expected"] != "holds"]
    rows = []
    for row in questions:
        trial = search(problem_of(row, peers, models), seconds)
        outcome = f"{trial.seconds:.2f} s" if trial.found else "-"
        rows.append([row["name"], row["expected"], outcome, f"{trial.margin:.4f}", row["abcrown_s"] or "-"])
    yield table(
        ("question", "expected", "counterexample", "largest margin", "alpha-beta-CROWN, whole run, s"), rows
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peers", type=Path)
    parser.add_argument("models", type=Path)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    for line in report(options.peers, options.models, options.seconds):
        print(line, flush=True)


if __name__ == "__main__":
    main()
