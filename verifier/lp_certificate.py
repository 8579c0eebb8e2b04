"""Bounds on linear programs that do not rest on the solver's word.

Any multipliers of the rows give a valid bound (weak duality); good ones come from the solver, the bound is
computed here (the practice of MIPVerify, Tjeng et al. 2019).
"""

import numpy as np

from .margins import ROUNDING
from .milp_model import MilpModel
from .operators import FloatArray


def dual_bound(model: MilpModel, multipliers: FloatArray) -> float:
    """Upper bound on ``objective @ x`` over the rows and the box of ``model``, by weak duality.

    ``c x = y (A x) + (c - y A) x``: a positive multiplier meets its row's upper bound, a negative one its
    lower bound, and what remains is maximised over the box. A multiplier whose side of the row has no
    bound, or that is not a number, is replaced by 0. Computed in float64, and moved up by more than what that
    can have rounded away.

    Args:
        model: integrality is ignored.
        multipliers: (rows,) of any origin.
    """
    usable = np.where(np.isfinite(multipliers), multipliers, 0.0)
    positive = np.where(np.isfinite(model.row_upper), np.maximum(usable, 0.0), 0.0)
    negative = np.where(np.isfinite(model.row_lower), np.minimum(usable, 0.0), 0.0)
    upper = np.where(positive > 0, model.row_upper, 0.0)
    lower = np.where(negative < 0, model.row_lower, 0.0)
    remainder = model.objective - model.matrix.T @ (positive + negative)
    corner = np.where(remainder > 0, model.upper, model.lower)
    bound = positive @ upper + negative @ lower + remainder @ corner
    used = np.abs(positive + negative)
    terms = np.abs(model.objective) + abs(model.matrix).T @ used
    rounded = terms @ np.maximum(np.abs(model.lower), np.abs(model.upper)) + used @ np.maximum(
        abs(upper), abs(lower)
    )
    return float(bound + ROUNDING * rounded)
