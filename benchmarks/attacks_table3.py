"""Table III of the MLA-LP paper: success and size of five attacks that hide one label.

``python -m mlverify.benchmarks.attacks_table3 DATA_DIR`` reads the networks ``*.onnx`` and the images
``*_samples.npz`` of DATA_DIR. As in the paper one random present label is hidden and all others kept; on the
VOC network, which is read as top-4, the strongest absent label has to appear in its place. Our networks are
small, so orderings compare and numbers do not; the published row stands beside ours.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..attacks.apgd import Apgd
from ..attacks.ball import Ball
from ..attacks.base import Attack, AttackRecord
from ..attacks.decision import TopK
from ..attacks.flips import Flips
from ..attacks.loss_attack import LossAttack
from ..attacks.losses import worst_margin_of_all
from ..attacks.metrics import Distortion, distortion
from ..attacks.ml_cw import MlCw
from ..attacks.ml_deepfool import MlDeepFool
from ..attacks.ml_rank import MlRank1, MlRank2
from ..attacks.mla_lp import MlaLp
from .attacks_common import Subject, best_threshold, hide_one, read_images, read_module, swap_one, table

_VOC_LABELS = 4


@dataclass(frozen=True, slots=True)
class Row:
    """A method and what the paper reports for it (ML-GCN, VOC 2007): success, RMSD, l2, l-infinity."""

    name: str
    method: Attack
    published: str
    epsilon: float = 1.0


ROWS = (
    Row("ML-CW", MlCw(), "0.976 / 0.287 / 1.746 / 0.0243"),
    Row("ML-Rank1", MlRank1(), "0.193 / 1.147 / 6.979 / 0.0357"),
    Row("ML-Rank2", MlRank2(), "0.913 / 1.164 / 7.082 / 0.0395"),
    Row("ML-DeepFool", MlDeepFool(), "0.000 / - / - / -"),
    Row("MLA-LP as published", MlaLp.as_published(), "0.875 / 0.092 / 0.559 / 0.0009"),
    Row("MLA-LP ours", MlaLp(), "-"),
    Row("MLA-LP ours, eps 0.05", MlaLp(), "-", 0.05),
    Row("MLA-LP ours, programs alone, eps 0.05", MlaLp(rescue=None), "-", 0.05),
    Row("APGD worst margin, eps 0.05", LossAttack(Apgd(), worst_margin_of_all), "-", 0.05),
)


def subjects(folder: Path) -> Iterator[tuple[Subject, Flips]]:
    """Networks with the images they get right, and the wish."""
    images, present = read_images(folder / "dmnist_samples.npz")
    for name in ("dmnist_noDef_x1k", "dmnist_LInfDef_x1k", "dmnist_noDef_x3"):
        network = read_module(folder / f"{name}.onnx")
        subject = Subject(name, network, images, present, best_threshold(network, images, present)).right()
        yield subject, hide_one(subject.present, seed=0)
    images, present = read_images(folder / "voc_samples.npz")
    several = present.sum(dim=1) == _VOC_LABELS
    network = read_module(folder / "pascal-voc_noDef_x3.onnx")
    voc = Subject(
        "pascal-voc_noDef_x3", network, images[several], present[several], TopK(_VOC_LABELS)
    ).right()
    yield voc, swap_one(voc.network(voc.images), voc.present, seed=0)


def measure(row: Row, subject: Subject, flips: Flips) -> tuple[AttackRecord, Distortion]:
    """Run one attack; sizes are of its successes."""
    record = row.method.attack(
        subject.network, subject.images, flips, ball=Ball(row.epsilon), decision=subject.decision
    )
    return record, distortion(subject.images[record.success], record.images[record.success])


def report(folder: Path) -> Iterator[str]:
    """One table for each network."""
    columns = (
        "method",
        "success",
        "RMSD",
        "l2",
        "linf",
        "infeasible",
        "seconds",
        "published: success/RMSD/l2/linf",
    )
    for subject, flips in subjects(folder):
        yield f"\n{subject.name}: {len(subject.images)} images, {subject.decision}"
        rows = []
        for row in ROWS:
            record, sizes = measure(row, subject, flips)
            numbers = [f"{float(value.mean()):.4f}" for value in (sizes.rmsd, sizes.l2, sizes.linf)]
            rows.append(
                [
                    row.name,
                    f"{float(record.success.float().mean()):.3f}",
                    *numbers,
                    str(int(record.infeasible.sum())),
                    f"{record.seconds:.1f}",
                    row.published,
                ]
            )
        yield table(columns, rows)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="the folder with networks and samples")
    for line in report(parser.parse_args().folder):
        print(line, flush=True)


if __name__ == "__main__":
    main()
