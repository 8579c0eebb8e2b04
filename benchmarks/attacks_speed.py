"""What a step costs: PGD against foolbox and torchattacks, and GMLA as the number of labels grows.

``python -m mlverify.benchmarks.attacks_speed DATA_DIR`` uses two DOUBLE-MNIST networks of DATA_DIR, on one
thread. foolbox and torchattacks are measured when they are installed (``pip install foolbox torchattacks``); they
know single labels only, so they attack the strongest one.
"""

import argparse
import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..attacks.apgd import Apgd
from ..attacks.ball import Ball
from ..attacks.decision import Threshold
from ..attacks.flips import Flips
from ..attacks.gmla import Gmla
from ..attacks.loss_attack import LossAttack
from ..attacks.losses import flip_cross_entropy
from ..attacks.mla import MlaU
from ..attacks.pgd import Pgd
from .attacks_common import read_images, read_module, table

_STEPS = 40
_EPSILON = 8 / 255
_REPEATS = 15


def seconds_of(*runs: Callable[[], object]) -> NDArray[np.float64]:
    """Processor seconds of a few calls of each, shape (repeats, runs).

    They take turns in random order, and other programs' time does not count.
    """
    order = random.Random(0)
    spent = np.empty((_REPEATS, len(runs)))
    for row in spent:
        for index in order.sample(range(len(runs)), len(runs)):
            begun = time.process_time()
            runs[index]()
            row[index] = time.process_time() - begun
    return spent


def contenders(network: nn.Module, images: Tensor, steps: int) -> Iterator[tuple[str, Callable[[], object]]]:
    """PGD of equal steps by every library that is here."""
    strongest = network(images).argmax(dim=1)
    flips = Flips(-nn.functional.one_hot(strongest, 10).to(torch.int8))
    for name, engine in (("PGD", Pgd(steps, exhaust=True)), ("APGD", Apgd(steps, exhaust=True))):
        mine = LossAttack(engine, flip_cross_entropy)
        yield f"mlverify {name}", partial(mine.attack, network, images, flips, ball=Ball(_EPSILON))
    try:
        foolbox = import_module("foolbox")
        model = foolbox.PyTorchModel(network, bounds=(0, 1))
        theirs = foolbox.attacks.LinfPGD(steps=steps, random_start=False)
        yield "foolbox PGD", lambda: theirs(model, images, strongest, epsilons=_EPSILON)
    except ImportError:
        pass
    try:
        other = import_module("torchattacks").PGD(network, eps=_EPSILON, steps=steps, random_start=False)
        yield "torchattacks PGD", lambda: other(images, strongest)
    except ImportError:
        pass


def libraries(path: Path, images: Tensor) -> str:
    """Milliseconds per step: of a whole attack, and of each step added to one; ours as a share of theirs.

    A whole attack has its fixed cost in it: ours predicts the clean images and recounts the result.
    """
    network = read_module(path)
    short, long = (list(contenders(network, images, steps)) for steps in (_STEPS, 2 * _STEPS))
    spent = seconds_of(*(run for _, run in (*short, *long)))
    whole, added = spent[:, : len(short)], spent[:, len(short) :] - spent[:, : len(short)]
    rows = [
        [
            name,
            f"{1000 * whole[:, index].min() / _STEPS:.2f}",
            f"{np.median(whole[:, 0] / whole[:, index]):.2f}",
            f"{1000 * np.median(added[:, index]) / _STEPS:.2f}",
            f"{np.median(added[:, 0]) / np.median(added[:, index]):.2f}",
        ]
        for index, (name, _) in enumerate(short)
    ]
    columns = ("library", "ms per step", "ours/it (median of pairs)", "ms per added step", "ours/it")
    return f"{path.stem}, {len(images)} images\n" + table(columns, rows)


def labels(counts: tuple[int, ...]) -> str:
    """Seconds per step of MLA-U (one backward pass) and GMLA (two) on networks with more and more labels."""
    rows = []
    for count in counts:
        torch.manual_seed(0)
        body = nn.Sequential(
            nn.Conv2d(3, 16, 5, 4), nn.ReLU(), nn.Conv2d(16, 32, 5, 4), nn.ReLU(), nn.Flatten()
        )
        network = nn.Sequential(body, nn.Linear(32 * 13 * 13, count)).eval().requires_grad_(False)
        images = torch.rand(4, 3, 224, 224)
        present = Threshold().present(network(images))
        targets = torch.zeros_like(present).scatter_(1, present.int().argmax(1, keepdim=True), True)
        flips = Flips.toggle(present, targets)
        engine = Pgd(10, exhaust=True)
        cells = [str(count)]
        for method in (MlaU(engine), Gmla(engine=engine)):
            run = partial(method.attack, network, images, flips, ball=Ball(0.01))
            spent, record = seconds_of(run).min(), run()
            cells += [f"{1000 * spent / record.steps:.1f}", f"{record.gradients / record.steps:g}"]
        rows.append(cells)
    return table(("labels", "MLA-U ms/step", "backward/step", "GMLA ms/step", "backward/step"), rows)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="the folder with networks and samples")
    folder = parser.parse_args().folder
    torch.set_num_threads(1)
    images = read_images(folder / "dmnist_samples.npz")[0]
    for name in ("dmnist_noDef_x3", "dmnist_noDef_x1k"):
        print(libraries(folder / f"{name}.onnx", images), "\n", flush=True)
    print(labels((20, 100, 1000, 9600)), flush=True)


if __name__ == "__main__":
    main()
