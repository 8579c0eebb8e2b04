"""How well an attack did: success rates, consistency with a label graph, and how visible it is."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from ..errors import InputError
from .ball import Ball, Norm
from .base import Attack, AttackRecord, Network
from .decision import Decision
from .flips import Flips
from .graph import LabelGraph

Floats = NDArray[np.float64]

_WINDOW_SIGMA = 1.5
_WINDOW_RADIUS = 5
_LUMINANCE = 0.01**2
_CONTRAST = 0.03**2
_GREY_LEVELS = 255.0


@dataclass(frozen=True, slots=True)
class Distortion:
    """How visible perturbations are, one entry per image.

    Attributes:
        linf: largest change of a pixel, in [0, 1].
        l2: Euclidean norm of the change, pixels in [0, 1].
        rmsd: root mean squared change, in grey levels [0, 255].
        ssim: structural similarity, 1 for equal images; nan for inputs that are no images.
    """

    linf: Tensor
    l2: Tensor
    rmsd: Tensor
    ssim: Tensor


@dataclass(frozen=True, slots=True)
class Scores:
    """Rates of an attack over a batch; the last four are means over successes, nan without any.

    Attributes:
        naive: FR_N, the share of images on which every target label changed.
        semantic: FR_S, the share where the predicted set is consistent with the graph besides; nan
            without a graph.
        collateral: NT_R, the mean share of labels outside the consistent target set that flipped.
        linf: mean L-infinity norm.
        l2: mean L2 norm.
        rmsd: mean root mean squared change in grey levels.
        ssim: mean structural similarity.
    """

    naive: float
    semantic: float
    collateral: float
    linf: float
    l2: float
    rmsd: float
    ssim: float


def distortion(clean: Tensor, adversarial: Tensor) -> Distortion:
    """Measure perturbations.

    Args:
        clean: shape (images, *input_shape), pixels in [0, 1].
        adversarial: same shape.
    """
    change = adversarial.double() - clean.double()
    return Distortion(
        linf=Norm.LINF.of(change),
        l2=Norm.L2.of(change),
        rmsd=_GREY_LEVELS * change.flatten(1).square().mean(dim=1).sqrt(),
        ssim=structural_similarity(clean, adversarial) if clean.dim() == 4 else _unknown(change),
    )


def _unknown(like: Tensor) -> Tensor:
    return torch.full_like(like.flatten(1)[:, 0], torch.nan)


def structural_similarity(first: Tensor, second: Tensor) -> Tensor:
    """SSIM with the Gaussian window of its authors (11 pixels, sigma 1.5), mean over channels.

    Args:
        first: shape (images, channels, height, width), pixels in [0, 1].
        second: same shape.

    Returns:
        Shape (images,). Where the window does not fit, as at the border, nothing is measured; images
        smaller than the window are mirrored at their border instead.

    Raises:
        InputError: the images are not four-dimensional or differ in shape.

    Reference:
        Z. Wang, A. Bovik, H. Sheikh and E. Simoncelli, "Image quality assessment: from error visibility
        to structural similarity", IEEE TIP 13(4), 2004, eq. (13).
    """
    if first.dim() != 4 or first.shape != second.shape:
        raise InputError(
            f"SSIM compares images of one shape (images, channels, height, width), not {tuple(first.shape)} "
            f"and {tuple(second.shape)}"
        )
    a, b = (images.detach().double().cpu().numpy() for images in (first, second))
    mean_a, mean_b = _window(a), _window(b)
    variance_a, variance_b = _window(a * a) - mean_a**2, _window(b * b) - mean_b**2
    covariance = _window(a * b) - mean_a * mean_b
    similarity = (2 * mean_a * mean_b + _LUMINANCE) * (2 * covariance + _CONTRAST)
    similarity /= (mean_a**2 + mean_b**2 + _LUMINANCE) * (variance_a + variance_b + _CONTRAST)
    return torch.from_numpy(_interior(similarity).mean(axis=(1, 2, 3))).to(first)


def _window(images: Floats) -> Floats:
    smooth: Floats = gaussian_filter(
        images, sigma=(0, 0, _WINDOW_SIGMA, _WINDOW_SIGMA), radius=(0, 0, _WINDOW_RADIUS, _WINDOW_RADIUS)
    )
    return smooth


def _interior(values: Floats) -> Floats:
    edge = _WINDOW_RADIUS
    if min(values.shape[2:]) <= 2 * edge:
        return values
    return values[:, :, edge:-edge, edge:-edge]


def target_hits(record: AttackRecord, flips: Flips) -> Tensor:
    """On which images all wanted labels are as wanted, whatever became of the others; shape (images,)."""
    return flips.to(record.after.device).satisfied(record.after).all(dim=1)


def non_target_flip_rate(record: AttackRecord, consistent_set: Tensor, hits: Tensor) -> float:
    """NT_R: the mean share of labels outside the consistent target set that flipped, over the hits.

    Args:
        record: the attack's record.
        consistent_set: shape (images, labels), bool.
        hits: images to average over, shape (images,), bool.

    Returns:
        A share in [0, 1], nan without hits; an image whose set holds every label counts 0.

    Reference:
        H. Mahmood and E. Elhamifar, "Semantic-aware multi-label adversarial attacks", 2024, eq. (13).
    """
    outside = ~consistent_set
    flipped = ((record.before != record.after) & outside).sum(dim=1).double()
    return _mean((flipped / outside.sum(dim=1).clamp_min(1))[hits])


def score(clean: Tensor, record: AttackRecord, flips: Flips, graph: LabelGraph | None = None) -> Scores:
    """All rates of an attack.

    Args:
        clean: the clean images, shape (images, *input_shape).
        record: what the attack gave.
        flips: what it was asked.
        graph: the label graph for FR_S and the consistent target set; without it NT_R counts every
            label that was not asked for.

    Reference:
        H. Mahmood and E. Elhamifar, "Semantic-aware multi-label adversarial attacks", 2024,
        eqs (12) and (13).
    """
    hits = target_hits(record, flips)
    sizes = distortion(clean[hits], record.images[hits])
    consistent = torch.full_like(hits, graph is not None)
    if graph is not None:
        consistent = torch.from_numpy(graph.consistent(record.after.cpu().numpy())).to(hits)
    return Scores(
        naive=float(hits.double().mean()),
        semantic=float((hits & consistent).double().mean()) if graph is not None else float("nan"),
        collateral=non_target_flip_rate(record, consistent_sets(graph, flips, record.before), hits),
        linf=_mean(sizes.linf),
        l2=_mean(sizes.l2),
        rmsd=_mean(sizes.rmsd),
        ssim=_mean(sizes.ssim),
    )


def consistent_sets(graph: LabelGraph | None, flips: Flips, present: Tensor) -> Tensor:
    """Psi of each image: the labels asked to change and what the graph adds; shape (images, labels), bool.

    Raises:
        InputError: the flips contradict the graph.
    """
    asked = (flips.wanted != 0).to(present.device) & ~flips.to(present.device).satisfied(present)
    if graph is None:
        return asked
    sets = torch.zeros_like(asked)
    states = present.cpu().numpy()
    for row, targets in enumerate(asked.cpu()):
        members = graph.consistent_targets(torch.nonzero(targets).flatten().tolist(), states[row])
        sets[row, sorted(members)] = True
    return sets


def replay(network: Network, record: AttackRecord, flips: Flips, decision: Decision) -> Tensor:
    """Transfer: the images, shape (images,), bool, on which another network fulfils every wish too."""
    with torch.no_grad():
        present = decision.present(network(record.images))
    return flips.to(present.device).satisfied(present).all(dim=1)


def minimal_epsilon(
    attack: Attack,
    network: Network,
    images: Tensor,
    flips: Flips,
    decision: Decision,
    rounds: int = 8,
) -> Tensor:
    """The smallest L-infinity epsilon at which the attack succeeds, per image, by bisection.

    A success at one epsilon bounds the answer by the norm it really used. An attack need not be monotone
    in epsilon; the answer is an epsilon at which it did succeed.

    Args:
        attack: a method for L-infinity balls.
        network: scores of images.
        images: shape (images, *input_shape).
        flips: one row per image.
        decision: how scores become labels.
        rounds: bisections after the first success at epsilon 1.

    Returns:
        Shape (images,); inf where the attack fails even with all of [0, 1].
    """
    smallest = [
        _bisect(attack, network, images[row : row + 1], flips.rows(torch.tensor([row])), decision, rounds)
        for row in range(len(images))
    ]
    return torch.tensor(smallest, dtype=images.dtype)


def _bisect(
    attack: Attack, network: Network, image: Tensor, flips: Flips, decision: Decision, rounds: int
) -> float:
    low, high = 0.0, float("inf")
    for index in range(rounds + 1):
        epsilon = 1.0 if index == 0 else (low + high) / 2
        record = attack.attack(network, image, flips, ball=Ball(epsilon), decision=decision)
        if bool(record.success):
            high = float(Norm.LINF.of(record.images - image))
        elif index == 0:
            return high
        else:
            low = epsilon
        if high <= low:
            break
    return high


def _mean(values: Tensor) -> float:
    return float(values.double().mean()) if len(values) else float("nan")
