"""Top-k questions on published networks, beside what other verifiers needed for them.

``python -m mlverify.benchmarks.peers PEERS_DIR NETWORKS_DIR`` reads ``instances.csv`` in PEERS_DIR (columns name,
onnx, image, mask, eps, target, k, expected, and the seconds of other tools) with its images and masks, and the
networks from NETWORKS_DIR. ``ratio`` is our time over that of the fastest third-party tool, whole process on a
similar machine; ``--process`` measures ours as a whole process too, start of Python included. Ctrl-C sums up what is
done; with ``--csv`` the next run continues there. The exit status is 1 when a verdict contradicts ``expected``.
"""

import argparse
import csv
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..errors import InputError, MlverifyError
from ..synthesis.layers import read_mask
from ..verifier.budget import Budget
from ..verifier.image import load_image
from ..verifier.onnx_reader import load_network
from ..verifier.portfolio import Settings, Verifier
from ..verifier.problem import Problem
from ..verifier.property import top_k
from ..verifier.region import Region
from .peers_rows import COLUMNS, HEADER, Outcome, Peer, summary_lines
from .row_file import RowFile

_VERDICTS = {0: "holds", 1: "violated", 3: "unknown"}
# A process that does not end this long after its time limit is given up.
_GRACE = 60.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What an instance may use; ``process`` measures from the start of Python."""

    timeout: float
    threads: int
    process: bool


def read_instances(folder: Path) -> list[Peer]:
    """Rows of ``instances.csv``.

    Raises:
        InputError: when the file can't be read or lacks a column.
    """
    path = folder / "instances.csv"
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            return [Peer.of(row) for row in csv.DictReader(stream)]
    except (OSError, KeyError, ValueError) as error:
        raise InputError(
            f"{path}: no usable rows of name,onnx,image,eps,target,k,expected ({error!r})"
        ) from None


def measure(folder: Path, networks: Path, instance: Peer, limits: Limits) -> Outcome:
    """Ask one instance; one that can't be read or asked is an error and says why."""
    started = time.monotonic()
    ask = _ask_process if limits.process else _ask
    try:
        verdict, engine = ask(folder, networks, instance, limits)
    except (MlverifyError, OSError, subprocess.TimeoutExpired) as error:
        verdict, engine = "error", f"{type(error).__name__}: {error}"
    return Outcome(instance, verdict, time.monotonic() - started, engine)


def _ask(folder: Path, networks: Path, instance: Peer, limits: Limits) -> tuple[str, str]:
    budget = Budget.of_seconds(limits.timeout)
    problem = problem_of(folder, networks, instance)
    verifier = Verifier(problem.network, Settings(threads=limits.threads))
    result = verifier.verify(problem, budget)
    return result.verdict.value, result.engine


def problem_of(folder: Path, networks: Path, instance: Peer) -> Problem:
    """The question of a row.

    Raises:
        InputError: when a file can't be read.
    """
    network = load_network(networks / instance.onnx)
    image = load_image(folder / instance.image, network.input_shape)
    moving = np.ones(image.shape)
    if instance.mask is not None:
        moving = np.broadcast_to(read_mask(folder / instance.mask, image.shape[1:]), image.shape).astype(
            float
        )
    region = Region.per_pixel(image, moving * instance.eps)
    question = top_k(len(network.labels), instance.target, instance.k)
    return Problem(network, region, question, image)


def _ask_process(folder: Path, networks: Path, instance: Peer, limits: Limits) -> tuple[str, str]:
    arguments = [networks / instance.onnx, folder / instance.image]
    options: dict[str, object] = {
        "--eps": instance.eps,
        "--target": instance.target,
        "--k": instance.k,
        "--timeout": limits.timeout,
        "--threads": limits.threads,
    }
    if instance.mask is not None:
        options["--mask"] = folder / instance.mask
    command = [sys.executable, "-m", "mlverify", "verify", *map(str, arguments)]
    command += [str(part) for pair in options.items() for part in pair]
    found = subprocess.run(
        command, capture_output=True, text=True, timeout=limits.timeout + _GRACE, check=False
    )
    if found.returncode not in _VERDICTS:
        return "error", f"exit {found.returncode}: {found.stderr.strip()[-200:]}"
    last = found.stdout.strip().splitlines()[-1]
    return _VERDICTS[found.returncode], last[last.rfind("(") + 1 : -1]


def _outcomes(
    options: argparse.Namespace, instances: Sequence[Peer], limits: Limits, kept: RowFile | None
) -> Iterator[Outcome]:
    for instance in instances:
        known = None if kept is None else kept.done.get((instance.name,))
        if known is not None:
            yield Outcome.of(instance, known)
            continue
        outcome = measure(options.folder, options.networks, instance, limits)
        if kept is not None:
            kept.add(outcome.row(limits.timeout, process=limits.process))
        yield outcome


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Top-k questions beside what other verifiers needed.")
    parser.add_argument("folder", type=Path, metavar="PEERS_DIR")
    parser.add_argument("networks", type=Path, metavar="NETWORKS_DIR")
    parser.add_argument("--only", default="", metavar="TEXT", help="instances whose name contains TEXT")
    parser.add_argument("--timeout", type=float, default=100.0, help="seconds per instance (100)")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch and solver (2)")
    parser.add_argument("--process", action="store_true", help="whole processes, start of Python included")
    parser.add_argument("--csv", type=Path, metavar="OUT.csv", help="write rows here; continue where it ends")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table and its summary."""
    options = _arguments(arguments)
    torch.set_num_threads(options.threads)
    limits = Limits(options.timeout, options.threads, options.process)
    same = {"timeout": f"{limits.timeout:g}", "process": str(int(limits.process))}
    try:
        instances = [item for item in read_instances(options.folder) if options.only in item.name]
        if not instances:
            raise InputError(f"no instance has '{options.only}' in its name; look at --only")
        kept = None if options.csv is None else RowFile(options.csv, COLUMNS, ("name",), same)
    except InputError as error:
        raise SystemExit(f"error: {error}") from None
    print(HEADER, flush=True)
    outcomes: list[Outcome] = []
    with nullcontext() if kept is None else closing(kept):
        try:
            for outcome in _outcomes(options, instances, limits, kept):
                outcomes.append(outcome)
                print(outcome.line, flush=True)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    print("\n".join(summary_lines(outcomes)))
    raise SystemExit(int(any(outcome.wrong for outcome in outcomes)))


if __name__ == "__main__":
    main()
