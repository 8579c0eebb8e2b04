"""Counterexamples in a few seconds: the verifier's falsifier beside the attack stage of alpha-beta-CROWN.

``python -m mlverify.benchmarks.attacks_falsifier [--peers PEERS_DIR NETWORKS_DIR] [--vnncomp DATA_DIR]`` asks the
questions of ``instances.csv`` in PEERS_DIR that are violated or open, and the instances of ``verdicts.csv`` in
DATA_DIR that are sat (layouts as in the benchmarks peers and vnncomp). Both attacks get the same seconds, in turns,
on one thread; a counterexample counts once onnxruntime has replayed it. The stage is written anew from its published
schedule, see published_attack. Ctrl-C sums up what is done.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from ..errors import InputError, MlverifyError
from ..verifier.budget import Budget
from ..verifier.falsify import QUICK, THOROUGH, Falsifier
from ..verifier.problem import Problem
from ..verifier.replay import Replay
from ..verifier.torch_network import TorchNetwork
from . import peers, vnncomp
from .peers_rows import Peer
from .published_attack import PublishedAttack

_HEADER = f"{'question':<72}{'expected':<10}{'ours':>8}{'schedule':>10}"


@dataclass(frozen=True, slots=True)
class Question:
    """Something that may have a counterexample.

    Attributes:
        source: of the question, for the summary.
        name: of the question.
        expected: violated or open.
        problems: opens its cases; it is violated when one of them is.
    """

    source: str
    name: str
    expected: str
    problems: Callable[[], AbstractContextManager[list[Problem]]]


@dataclass(frozen=True, slots=True)
class Trial:
    """Seconds until a replayed counterexample of each attack, None without one."""

    question: Question
    ours: float | None
    schedule: float | None

    @property
    def line(self) -> str:
        """For the terminal."""
        cells = ["-" if seconds is None else f"{seconds:.2f}" for seconds in (self.ours, self.schedule)]
        return f"{self.question.name:<72}{self.question.expected:<10}{cells[0]:>8}{cells[1]:>10}"


def falsify(problems: Sequence[Problem], seconds: float) -> bool:
    """Whether our falsifier finds a counterexample: a quick look, then thorough ones with new seeds."""
    network = problems[0].network
    falsifier = Falsifier(TorchNetwork(network), Replay(network))
    budget = Budget.of_seconds(seconds)
    seed = 0
    while not budget.exhausted:
        attack = QUICK if seed == 0 else THOROUGH
        if any(falsifier.search(problem, attack, seed, budget).witness is not None for problem in problems):
            return True
        seed += 1
    return False


def follow_schedule(problems: Sequence[Problem], seconds: float) -> bool:
    """Whether the attack stage finds one; it starts anew until the time is over."""
    network = problems[0].network
    stage = PublishedAttack(TorchNetwork(network), Replay(network))
    budget = Budget.of_seconds(seconds)
    seed = 0
    while not budget.exhausted:
        if any(stage.search(problem, seed, budget) for problem in problems):
            return True
        seed += 1
    return False


def measure(question: Question, seconds: float, ours_first: bool) -> Trial:
    """Both attacks on a question.

    Raises:
        MlverifyError: when it can't be read.
        OSError: when a file is missing.
    """
    found: dict[Callable[[Sequence[Problem], float], bool], float | None] = {}
    with question.problems() as problems:
        for attack in (falsify, follow_schedule) if ours_first else (follow_schedule, falsify):
            begun = time.monotonic()
            success = attack(problems, seconds)
            found[attack] = time.monotonic() - begun if success else None
    return Trial(question, found[falsify], found[follow_schedule])


def questions(options: argparse.Namespace) -> Iterator[Question]:
    """Those of the command line.

    Raises:
        InputError: when a table can't be read.
    """
    if options.peers is not None:
        folder, networks = options.peers
        for peer in peers.read_instances(folder):
            if peer.expected != "holds":
                yield Question("peers", peer.name, peer.expected, partial(_peer, folder, networks, peer))
    if options.vnncomp is not None:
        for row in vnncomp.read_instances(options.vnncomp):
            if row.verdict == "sat":
                name = (
                    f"{row.benchmark} {row.onnx.removesuffix('.onnx')} {row.vnnlib.removesuffix('.vnnlib')}"
                )
                yield Question(row.benchmark, name, "violated", partial(vnncomp.opened, options.vnncomp, row))


def _peer(folder: Path, networks: Path, peer: Peer) -> AbstractContextManager[list[Problem]]:
    return nullcontext([peers.problem_of(folder, networks, peer)])


def run(asked: Sequence[Question], seconds: float) -> list[Trial]:
    """Try all, print each; one that can't be read is named and left out."""
    print(_HEADER, flush=True)
    trials: list[Trial] = []
    try:
        for number, question in enumerate(asked):
            try:
                trials.append(measure(question, seconds, ours_first=number % 2 == 0))
                print(trials[-1].line, flush=True)
            except (MlverifyError, OSError) as error:
                print(f"{question.name:<72}left out: {error}", flush=True)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    return trials


def summary(trials: Sequence[Trial]) -> Iterator[str]:
    """How many each found, by source, of the violated ones and of the open ones."""
    kinds = dict.fromkeys((trial.question.source, trial.question.expected) for trial in trials)
    for source, expected in [*kinds, ("all", "violated")]:
        part = [
            trial
            for trial in trials
            if source in (trial.question.source, "all") and trial.question.expected == expected
        ]
        if part:
            ours, schedule = (
                sum(getattr(trial, name) is not None for trial in part) for name in ("ours", "schedule")
            )
            yield f"{source}, {expected}: ours {ours} of {len(part)}, alpha-beta-CROWN's schedule {schedule}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for each question and the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=Path, nargs=2, metavar=("PEERS_DIR", "NETWORKS_DIR"))
    parser.add_argument("--vnncomp", type=Path, metavar="DATA_DIR")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each attack and question (5)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        asked = list(questions(options))
        if not asked:
            raise InputError("no question is asked; name --peers or --vnncomp")
    except InputError as error:
        raise SystemExit(f"error: {error}") from None
    trials = run(asked, options.seconds)
    print("\n".join(summary(trials)))


if __name__ == "__main__":
    main()
