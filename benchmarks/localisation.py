"""How often the object of a label is found, against the true masks of DOUBLE-MNIST images.

``python -m mlverify.benchmarks.localisation DATA_DIR`` reads ``dmnist_samples.npz``,
``dmnist_objects.npz`` and the networks ``dmnist_*.onnx`` from DATA_DIR and prints one row per network and
method: the share of objects found (intersection over union above 0.5), the mean intersection over union,
and the lowest confidence.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import ImageError
from ..synthesis.localisation import GradientFunction, ScoreFunction, gradient_function, locate
from ..verifier.onnx_reader import load_network
from ..verifier.session import Judge
from .samples import Sample, read_samples

_FOUND = 0.5


@dataclass(frozen=True, slots=True)
class Outcome:
    """Overlap with the true object, and how sure the localisation was; both 0 when nothing was found."""

    overlap: float
    confidence: float


def outcomes(
    samples: Sequence[Sample], scores: ScoreFunction, gradient: GradientFunction | None
) -> Iterator[Outcome]:
    """One outcome for each label of each image; the network's own top labels are the rivals."""
    for sample in samples:
        ranking = np.argsort(-scores(sample.image[None])[0])
        rivals = [int(label) for label in ranking[: len(sample.masks)]]
        for label, truth in sample.masks.items():
            try:
                found = locate(scores, sample.image, label, rivals, gradient)
            except ImageError:
                yield Outcome(0.0, 0.0)
                continue
            overlap = (found.mask & truth).sum() / (found.mask | truth).sum()
            yield Outcome(float(overlap), found.confidence)


def table(folder: Path) -> Iterator[str]:
    """The rows of the table, header first."""
    samples = read_samples(folder)
    yield f"{'network':<24}{'method':<12}{'found':>12}{'mean IoU':>10}{'least confidence':>18}"
    for path in sorted(folder.glob("dmnist_*.onnx")):
        network = load_network(path)
        scores = Judge(network).logits
        for method, gradient in (("occlusion", None), ("gradient", gradient_function(network))):
            rows = list(outcomes(samples, scores, gradient))
            found = sum(row.overlap > _FOUND for row in rows)
            mean, least = np.mean([row.overlap for row in rows]), min(row.confidence for row in rows)
            share = f"{found}/{len(rows)}"
            yield f"{path.stem:<24}{method:<12}{share:>12}{mean:>10.3f}{least:>18.2f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="How often the object of a label is found.")
    parser.add_argument("folder", type=Path, metavar="DATA_DIR")
    for row in table(parser.parse_args().folder):
        print(row, flush=True)


if __name__ == "__main__":
    main()
