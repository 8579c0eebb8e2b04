"""How far below zero a bound has to be before it proves anything: the tolerances behind every ``holds``."""

from typing import TYPE_CHECKING

import numpy as np

from .interval import ValueBounds

if TYPE_CHECKING:
    from .bound_types import Bounds

# A bound proves when it is below zero by more than this share of the logits' size. It covers float64 rounding
# many times over (1e-12) and also the float32 rounding of the deployed network in all but extreme cases
# (1e-7 per operation), so that a proved property does not fail by a rounding error in practice.
PROOF_MARGIN = 1e-6
# Float64 sums of up to 1e6 terms are exact to about this share of their largest term. Where logits are small
# differences of huge inner values, this share of those is more than PROOF_MARGIN of the logits.
ROUNDING = 1e-12
# The dual bound of a MILP has to be below zero by more than the solver's tolerances can hide: rows may be
# missed by 1e-9 and binaries by 1e-9 of a big-M of order USUAL_NUMBER, through a few layers.
MILP_MARGIN = 1e-6
# Programs with larger numbers need a margin that grows with them.
USUAL_NUMBER = 100.0


def proof_margin(bounds: "Bounds | ValueBounds", output: int) -> float:
    """How far below zero a bound on linear functions of the scores must be, in logits.

    Args:
        bounds: on every value.
        output: number of the value that holds the logits.

    Returns:
        Infinity where a bound is not a finite number: then nothing is proved.
    """
    if isinstance(bounds, ValueBounds):
        sizes = [float(np.abs([item.lower, item.upper]).max()) for item in bounds.values]
    else:
        pairs = zip(bounds.lower, bounds.upper, strict=True)
        sizes = [max(float(low.abs().max()), float(high.abs().max())) for low, high in pairs]
    if not np.isfinite(sizes).all():
        return np.inf
    return max(PROOF_MARGIN * (1.0 + sizes[output]), ROUNDING * max(sizes))


def milp_margin(largest: float) -> float:
    """How far below zero the dual bound of a program must be whose largest number is ``largest``."""
    return MILP_MARGIN * max(1.0, largest / USUAL_NUMBER) if np.isfinite(largest) else np.inf
