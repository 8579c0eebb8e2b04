"""Which pixels are the object of a label, as the network sees it.

Foreground groups are attributed to labels by the network itself. Occlusion asks how much each label's score
loses when a group is painted over and gains when the group alone is shown; the mean of the two is the group's
Shapley value when there are two groups. The gradient variant integrates the score's gradient from the empty
background to the image over the group's pixels. Groups and labels are matched jointly, because one group can
move several scores. A photo, or objects that touch, fall back on a map of sliding occlusions.

References: Zeiler and Fergus (2014), section 2.1, for occlusion; Sundararajan et al. (2017), section 3, for
integrated gradients.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..errors import ImageError
from ..verifier.network import Network
from .foreground import Foreground, Mask, Pixels, connected, fill, find_foreground

Evidence = NDArray[np.float64]
# logits (n, labels) of images (n, channels, height, width)
ScoreFunction = Callable[[Pixels], Pixels]
# gradient (n, channels, height, width) of one label's logit at images (n, channels, height, width)
GradientFunction = Callable[[Pixels, int], Pixels]

# A left-over group joins a label when it carries this share of the evidence of the label's first group.
_FURTHER_GROUP = 0.3
# Images that the network evaluates at once.
_BATCH = 64
_GRADIENT_STEPS = 16
# Sliding occlusion: side of the window and its step, in parts of the image's shorter side; part of the
# evidence's peak above which a pixel belongs to the object.
_WINDOW, _STEP, _PEAK = 1 / 6, 1 / 24, 0.4


class Method(StrEnum):
    """How pixels were attributed to a label."""

    OCCLUSION = "occlusion"
    GRADIENT = "gradient"
    SALIENCY = "saliency"


@dataclass(frozen=True, slots=True, eq=False)
class Localisation:
    """The object of a label.

    Attributes:
        mask: (height, width), true on the object.
        method: how it was found.
        confidence: in [0, 1]; the label's evidence on these pixels as a share of all its positive evidence.
        components: number of foreground groups that were told apart; 0 for a photo.
    """

    mask: Mask
    method: Method
    confidence: float
    components: int


def locate(
    scores: ScoreFunction,
    image: Pixels,
    label: int,
    rivals: Sequence[int] = (),
    gradient: GradientFunction | None = None,
) -> Localisation:
    """Find the pixels of the object that makes the network see ``label``.

    Args:
        scores: logits (n, labels) of images (n, channels, height, width).
        image: (channels, height, width), pixels in [0, 1].
        label: whose object is wanted.
        rivals: the other labels seen in the image, most confident first; they claim objects too.
        gradient: attribute by integrated gradients of the logits instead of by occlusion.

    Raises:
        ImageError: when no object can be attributed to the label; the remedy is ``--mask``.
    """
    others = tuple(rival for rival in rivals if rival != label)
    foreground = find_foreground(image)
    if foreground is None:
        return _by_saliency(scores, image, label, others, None)
    groups = foreground.groups
    if len(groups) == 1 and others:
        return _by_saliency(scores, image, label, others, foreground)
    method = Method.OCCLUSION if gradient is None else Method.GRADIENT
    evidence = (
        _occlusion_evidence(scores, image, foreground)
        if gradient is None
        else _gradient_evidence(gradient, scores, image, foreground)
    )
    claims = np.stack([_support(evidence, item) for item in (label, *others[: len(groups) - 1])], axis=1)
    chosen = _match(claims)
    # by elimination: weak evidence will do on a group that no rival has a better claim to
    if claims[chosen[0], 0] <= min(0.0, claims[chosen[0], 1:].max() if claims.shape[1] > 1 else 0.0):
        raise _not_found(label)
    mask = np.logical_or.reduce([groups[number] for number in chosen])
    return Localisation(mask, method, _share(claims[:, 0], chosen), len(groups))


def gradient_function(network: Network) -> GradientFunction:
    """Gradients of a network's logits with respect to pixels, by torch, for :func:`locate`."""
    import torch

    module = network.module()

    def gradient(images: Pixels, label: int) -> Pixels:
        inputs = torch.tensor(images, requires_grad=True)
        total = module(inputs)[:, label].sum()
        return np.asarray(torch.autograd.grad(total, inputs)[0].numpy())

    return gradient


def _not_found(label: int) -> ImageError:
    return ImageError(
        f"no object in the image can be attributed to label {label}; mark its pixels with --mask PNG"
    )


def _batched(scores: ScoreFunction, images: Pixels) -> Evidence:
    parts = [scores(images[start : start + _BATCH]) for start in range(0, len(images), _BATCH)]
    return np.concatenate(parts).astype(np.float64)


def _occlusion_evidence(scores: ScoreFunction, image: Pixels, foreground: Foreground) -> Evidence:
    """Mean of loss without and gain with each group, (groups, labels)."""
    colour = foreground.background
    everything = np.logical_or.reduce(foreground.groups)
    hidden = [fill(image, group, colour) for group in foreground.groups]
    alone = [fill(image, everything & ~group, colour) for group in foreground.groups]
    logits = _batched(scores, np.stack([image, fill(image, everything, colour), *hidden, *alone]))
    count = len(foreground.groups)
    loss, gain = logits[0] - logits[2 : 2 + count], logits[2 + count :] - logits[1]
    return np.asarray((loss + gain) / 2)


def _gradient_evidence(
    gradient: GradientFunction, scores: ScoreFunction, image: Pixels, foreground: Foreground
) -> Evidence:
    """Integrated gradients over each group, (groups, labels)."""
    labels = scores(image[None]).shape[1]
    empty = fill(image, np.logical_or.reduce(foreground.groups), foreground.background)
    shares = (np.arange(_GRADIENT_STEPS, dtype=np.float32) + 0.5) / _GRADIENT_STEPS
    path = (empty + shares[:, None, None, None] * (image - empty)).astype(np.float32)
    groups = np.stack(foreground.groups).astype(np.float64)
    columns = [
        np.tensordot(groups, (gradient(path, label).mean(axis=0) * (image - empty)).sum(axis=0), axes=2)
        for label in range(labels)
    ]
    return np.stack(columns, axis=1)


def _support(evidence: Evidence, label: int) -> Evidence:
    """How much each group speaks for ``label`` beyond the average label, (groups,)."""
    return np.asarray(evidence[:, label] - np.delete(evidence, label, axis=1).mean(axis=1))


def _share(support: Evidence, chosen: Sequence[int]) -> float:
    """Part of the positive support that the chosen groups carry, in [0, 1]."""
    positive = np.maximum(support, 0.0)
    return float(positive[list(chosen)].sum() / positive.sum()) if positive.any() else 0.0


def _match(claims: Evidence) -> list[int]:
    """Groups of the first label, best first: one per label at the largest total, then left-over ones.

    Args:
        claims: (groups, labels) support of each group for each label, no more labels than groups.
    """
    # every command loads this module, and few localise: a tenth of a second
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(claims, maximize=True)
    first = int(rows[columns == 0][0])
    needed = _FURTHER_GROUP * claims[first, 0]
    left_over = [
        group
        for group in set(range(len(claims))) - set(rows.tolist())
        if claims[group].argmax() == 0 and claims[group, 0] > max(0.0, needed)
    ]
    return [first, *left_over]


def _by_saliency(
    scores: ScoreFunction, image: Pixels, label: int, rivals: Sequence[int], foreground: Foreground | None
) -> Localisation:
    """The peak of the sliding-occlusion map; within the foreground when there is one."""
    colour = image.mean(axis=(1, 2)) if foreground is None else foreground.background
    maps = _occlusion_maps(scores, image, colour)
    own = maps[label] - np.delete(maps, label, axis=0).mean(axis=0)
    allowed = np.ones(own.shape, dtype=bool)
    for rival in rivals:
        allowed &= own >= maps[rival] - np.delete(maps, rival, axis=0).mean(axis=0)
    if foreground is None:
        allowed &= own >= _PEAK * own.max()
    else:
        allowed &= foreground.groups[0]
    positive = np.where(own > 0, own, 0.0)
    if not positive[allowed].any():
        raise _not_found(label)
    mask = max(connected(allowed), key=lambda part: float(positive[part].sum()))
    confidence = float(positive[mask].sum() / positive.sum())
    return Localisation(
        mask, Method.SALIENCY, confidence, 0 if foreground is None else len(foreground.groups)
    )


def _occlusion_maps(scores: ScoreFunction, image: Pixels, colour: NDArray[np.floating]) -> Evidence:
    """Mean loss of each label over the windows that cover a pixel, (labels, height, width)."""
    height, width = image.shape[1:]
    side, step = (max(1, round(min(height, width) * part)) for part in (_WINDOW, _STEP))
    tops, lefts = _starts(height, side, step), _starts(width, side, step)
    windows = [(slice(top, top + side), slice(left, left + side)) for top in tops for left in lefts]
    whole = _batched(scores, image[None])[0]
    total, cover = np.zeros((len(whole), height, width)), np.zeros((height, width))
    for start in range(0, len(windows), _BATCH):
        batch = windows[start : start + _BATCH]
        hidden = np.repeat(image[None], len(batch), axis=0)
        for row, (vertical, horizontal) in enumerate(batch):
            hidden[row, :, vertical, horizontal] = colour[:, None, None]
        losses = whole - scores(hidden)
        for (vertical, horizontal), loss in zip(batch, losses, strict=True):
            total[:, vertical, horizontal] += loss[:, None, None]
            cover[vertical, horizontal] += 1
    smoothed = ndimage.gaussian_filter(total / cover, sigma=(0, step, step))
    return np.asarray(smoothed)


def _starts(length: int, side: int, step: int) -> list[int]:
    """Where windows start so that every pixel is covered."""
    last = length - side
    return sorted({*range(0, last, step), last})
