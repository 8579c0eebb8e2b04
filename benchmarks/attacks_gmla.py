"""Table 1 and figures 5 and 7 of the GMLA paper, on networks that know a hierarchy of digits.

``python -m mlverify.benchmarks.attacks_gmla MNIST_DIR [--steps 1500]`` trains three small networks on
two-digit images (minutes on a CPU), attacks one or two present labels of every test image by each method,
and prints FR_N, FR_S, NT_R and SSIM over epsilon, then how the perturbations transfer. Methods of the paper
spend all steps of APGD, as there; the published row (ML-GCN, PASCAL-VOC, eps 0.01) is beside.
"""

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..attacks.apgd import Apgd
from ..attacks.ball import Ball
from ..attacks.base import Attack, AttackRecord
from ..attacks.consistent import Consistent
from ..attacks.decision import Threshold
from ..attacks.flips import Flips
from ..attacks.gmla import Direction, Gmla
from ..attacks.graph import LabelGraph
from ..attacks.loss_attack import LossAttack
from ..attacks.losses import hinge_sum
from ..attacks.metrics import replay, score, target_hits
from ..attacks.mla import MlaC, MlaU
from ..attacks.mla_lp import MlaLp
from .attacks_common import table
from .digit_hierarchy import Digits, architectures, digit_graph, train

_EPSILONS = (0.02, 0.05, 0.1, 0.2)
_TRANSFER_EPSILON = 0.3


@dataclass(frozen=True, slots=True)
class Method:
    """An attack and its published FR_N / FR_S / NT_R for one target label.

    Attributes:
        name: in the table.
        attack: the method.
        published: on ML-GCN and PASCAL-VOC.
    """

    name: str
    attack: Attack
    published: str


def methods(graph: LabelGraph, steps: int) -> tuple[Method, ...]:
    """The paper's four, our direction, and the consistent set without projection."""
    engine = Apgd(steps, exhaust=True)
    return (
        Method("MLA-U", MlaU(engine), "100 / 75.5 / 4.9"),
        Method("MLA-C", MlaC(engine), "99.9 / 68.9 / 3.0"),
        Method("MLA-LP as published", MlaLp.as_published(), "56.1 / 6.7 / 0.1"),
        Method("GMLA", Gmla(graph, engine), "100 / 99.4 / 2.7"),
        Method("GMLA, optimal direction", Gmla(graph, engine, Direction.OPTIMAL), "-"),
        Method("MLA-U on the consistent set", Consistent(MlaU(engine), graph), "-"),
        Method("MLA-C on the consistent set", Consistent(MlaC(engine), graph), "-"),
        Method("hinge on the consistent set", Consistent(LossAttack(Apgd(steps), hinge_sum), graph), "-"),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """Trained networks and the test images all of them get right."""

    networks: Mapping[str, nn.Module]
    images: Tensor
    present: Tensor

    @classmethod
    def prepare(cls, folder: Path, steps: int, count: int) -> "Bench":
        """Train, and keep the images whose whole label set every network predicts."""
        torch.manual_seed(0)
        digits = Digits.read(folder, "train")
        networks = {
            name: train(net, digits, steps, seed) for seed, (name, net) in enumerate(architectures().items())
        }
        images, present = Digits.read(folder, "t10k").compose(4 * count, np.random.default_rng(99))
        right = torch.ones(len(images), dtype=torch.bool)
        for network in networks.values():
            right &= ((network(images) >= 0) == present).all(dim=1)
        return cls(networks, images[right][:count], present[right][:count])

    def targets(self, size: int) -> Flips:
        """Hide ``size`` random present labels, of any level, on every image."""
        draw = torch.rand(self.present.shape, generator=torch.Generator().manual_seed(size))
        chosen = torch.where(self.present, draw, -1.0).topk(size, dim=1).indices
        wanted = torch.zeros(self.present.shape, dtype=torch.int8).scatter_(1, chosen, -1)
        return Flips(wanted)

    def attack(self, method: Method, flips: Flips, network: str, epsilon: float) -> AttackRecord:
        """Attack all images of one network."""
        return method.attack.attack(
            self.networks[network], self.images, flips, ball=Ball(epsilon), decision=Threshold()
        )


def sweep(bench: Bench, graph: LabelGraph, size: int, steps: int) -> Iterator[list[str]]:
    """Rows of the epsilon sweep on the first network."""
    flips = bench.targets(size)
    for epsilon in _EPSILONS:
        for method in methods(graph, steps):
            record = bench.attack(method, flips, "narrow", epsilon)
            rates = score(bench.images, record, flips, graph)
            numbers = [f"{100 * value:.1f}" for value in (rates.naive, rates.semantic, rates.collateral)]
            yield [
                f"{epsilon:g}",
                method.name,
                *numbers,
                f"{rates.ssim:.3f}",
                method.published if size == 1 else "-",
            ]


def transfer(bench: Bench, graph: LabelGraph, steps: int) -> Iterator[list[str]]:
    """FR_N and FR_S on the other networks, of images that succeeded on their own (figure 7)."""
    flips = bench.targets(1)
    for method in (*methods(graph, steps)[:5], methods(graph, steps)[-1]):
        for source in bench.networks:
            record = bench.attack(method, flips, source, _TRANSFER_EPSILON)
            hits = target_hits(record, flips)
            cells = [method.name, source]
            for network in bench.networks.values():
                fooled = replay(network, record, flips, Threshold())
                after = (network(record.images) >= 0).numpy()
                consistent = fooled & torch.from_numpy(graph.consistent(after))
                cells.append(
                    " / ".join(f"{100 * float(x[hits].double().mean()):.0f}" for x in (fooled, consistent))
                )
            yield cells


def main() -> None:
    """Train, attack, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="the folder with MNIST's IDX files")
    parser.add_argument("--steps", type=int, default=1500, help="training steps of each network")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--attack-steps", type=int, default=100)
    options = parser.parse_args()
    graph = digit_graph()
    bench = Bench.prepare(options.folder, options.steps, options.images)
    print(f"{len(bench.images)} test images that all three networks get right", flush=True)
    columns = ("eps", "method", "FR_N %", "FR_S %", "NT_R %", "SSIM", "published FR_N / FR_S / NT_R")
    for size in (1, 2):
        print(f"\n{size} target label(s), network 'narrow'")
        print(table(columns, list(sweep(bench, graph, size, options.attack_steps))), flush=True)
    print(f"\nTransfer at eps {_TRANSFER_EPSILON}: FR_N / FR_S % on each network, of successes on the source")
    print(
        table(("method", "source", *bench.networks), list(transfer(bench, graph, options.attack_steps))),
        flush=True,
    )


if __name__ == "__main__":
    main()
