"""APGD from the best of very many points, for networks of so few inputs that points cost nothing.

Where few inputs move over a wide box, a violation may fill a tiny part of it, on a face more often than inside,
and gradients from a thousand starts pass it by. Plain evaluation is cheap there: the best of many points, a good
part of them on faces and edges, are close enough that short steps finish.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import InputError
from .apgd import Apgd
from .box import BoxSearch, Objective, Stop, clamp, repeat_boxes

# Uniform numbers are stretched by this about the middle of a side and cut off: a quarter of them lies at each end.
_STRETCH = 2.0


@dataclass(frozen=True, slots=True)
class SampledApgd:
    """Evaluate many points, then climb from the best.

    Attributes:
        points: evaluated in each box.
        engine: APGD with short first steps; its number of restarts is that of the best points it starts from.
    """

    points: int = 20_000
    engine: Apgd = field(default_factory=lambda: Apgd(steps=100, restarts=200, initial_step=0.02))

    def __post_init__(self) -> None:
        if self.points < self.engine.restarts:
            raise InputError(
                f"the best {self.engine.restarts} of {self.points} points are asked for; evaluate more"
            )

    def maximize(
        self,
        objective: Objective,
        lower: Tensor,
        upper: Tensor,
        generator: torch.Generator,
        stop: Stop | None = None,
    ) -> BoxSearch:
        """Raise `objective` in every box; arguments and result as of `Apgd.maximize`."""
        boxes = len(lower)
        low, high = repeat_boxes(lower, self.points), repeat_boxes(upper, self.points)
        draw = torch.rand(low.shape, generator=generator, device=generator.device).to(lower)
        share = (0.5 + _STRETCH * (draw - 0.5)).clamp(0, 1)
        points = clamp(low + share * (high - low), low, high)
        with torch.no_grad():
            values = torch.nan_to_num(objective(points), nan=-torch.inf).reshape(-1, boxes)
        best = values.topk(self.engine.restarts, dim=0).indices
        rows = (best * boxes + torch.arange(boxes, device=best.device)).flatten()
        return self.engine.maximize(objective, lower, upper, points[rows], generator, stop)
