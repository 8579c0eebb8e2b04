"""MLA-LP: the smallest L-infinity perturbation by linear programs over the linearised network."""

from dataclasses import dataclass, field, replace
from enum import Enum

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from ..errors import InputError
from .apgd import Apgd
from .ball import Ball, Norm
from .base import Attack, Attempt, Incumbent, Task
from .flips import Others
from .jacobian import margins_and_jacobian
from .loss_attack import LossField, climb
from .losses import worst_margin, worst_margin_of_all
from .lp_step import LpStatus, LpStep, smallest_step

_LEAST_GAIN = 0.01
"""After a success the search goes on only while each program shrinks the perturbation by this share."""

_FURTHEST = 0.4
"""The authors' code never asks for a probability below 0.1."""


class Linearise(Enum):
    """Which function of the network is made linear."""

    LOSS = "loss"
    MARGIN = "margin"


@dataclass(frozen=True, slots=True)
class MlaLp(Attack):
    """Solve one linear program per iteration for the smallest step that carries every label over.

    By default our variant: the ball and [0, 1] are inside the program, so that its step is optimal among
    the allowed ones; it measures the whole perturbation rather than the last step; a trust region bounds
    how far the linearisation is believed; and when no step satisfies all rows the least violating one is
    taken, kept labels giving way first. `MlaLp.as_published` is algorithm 1 of the paper.

    Attributes:
        iterations: linear programs per image.
        linearise: the margins, or the cross-entropy of each label as in the paper.
        bounded: whether ball and [0, 1] are inside the program; otherwise r is only within [-1, 1] and
            the image is clipped afterwards.
        cumulative: whether the program minimises the whole perturbation or the step.
        relax: whether an infeasible program yields its least violating step or ends the attack.
        trust: first radius of the trust region as a share of epsilon; infinite for none.
        overshoot: how far past its threshold each linearised margin must go, in score units.
        kept_price: price of violating the row of a kept label against that of one to flip.
        gap: relative optimality gap of each program.
        escalation: by how much, in probability, the threshold of a label to flip moves further in each
            iteration (at most to 0.4 away from 0.5). Without it the convex loss, made linear, falls
            short of its threshold again and again.
        rescue: what to run on the images that the programs alone did not solve; the programs then
            shrink what it finds. None to rely on the programs alone.

    Reference:
        N. Zhou, W. Luo, X. Lin, P. Xu and Z. Zhang, "Generating multi-label adversarial examples by
        linear programming", IJCNN 2020, eqs (10), (14), (15) and algorithm 1.
    """

    iterations: int = 20
    linearise: Linearise = Linearise.MARGIN
    bounded: bool = True
    cumulative: bool = True
    relax: bool = True
    trust: float = 0.5
    overshoot: float = 1e-3
    kept_price: float = 0.5
    gap: float = 1e-3
    escalation: float = 0.0
    rescue: Apgd | None = field(default_factory=lambda: Apgd(steps=50))

    @classmethod
    def as_published(cls) -> "MlaLp":
        """Algorithm 1 of the paper: every label constrained, no box, no trust region, ten iterations.

        With the moving threshold of its authors' code, without which labels stop on the threshold.
        """
        return cls(
            iterations=10,
            linearise=Linearise.LOSS,
            bounded=False,
            cumulative=False,
            relax=False,
            trust=float("inf"),
            overshoot=0.0,
            gap=1e-4,
            escalation=0.05,
            rescue=None,
        )

    def threshold_shift(self, iteration: int) -> float:
        """How far past its threshold a label to flip must go in this iteration, in score units."""
        return float(np.arctanh(2 * min(self.escalation * iteration, _FURTHEST)) * 2)

    def search(self, task: Task) -> Attempt:
        """Iterate linear programs, each image on its own schedule, Jacobians batched.

        Raises:
            InputError: the ball is not an L-infinity ball, or the network gives no gradient.
        """
        if task.ball.norm is not Norm.LINF:
            raise InputError("MLA-LP minimises the L-infinity norm; use Jma or MlCw for an L2 budget")
        states = _States(self, task)
        self._iterate(task, states)
        if self.rescue is not None and states.unsolved().any() and not task.stop():
            states.restart(self.rescue)
            self._iterate(task, states)
        return states.attempt()

    def _iterate(self, task: Task, states: "_States") -> None:
        for iteration in range(1, self.iterations + 1):
            if not states.active.any() or task.stop():
                return
            states.propose(iteration, *margins_and_jacobian(task, states.points))
            states.review()


class _States:
    """Where each image stands."""

    def __init__(self, method: MlaLp, task: Task) -> None:
        self._method = method
        self._task = task
        strict = not method.bounded or task.flips.others is Others.KEEP
        # The paper constrains every label; ours leaves alone what the caller leaves free.
        self._side = task.wanted + task.kept if strict else task.wanted
        self._best = Incumbent(task, Norm.LINF)
        self.points = task.images.clone()
        self.active = ~task.flips.complete(task.present, task.present)
        self._infeasible = torch.zeros_like(self.active)
        self._trial = self.points
        self._steps = 0
        self._gradients = 0
        self._beyond = 0.0
        self._radius = torch.full_like(self.points.flatten(1)[:, 0], method.trust * task.ball.epsilon)
        with torch.no_grad():
            self._merit = self._shortfall(task.margins(task.images))
        self._size = torch.zeros_like(self._merit)

    def propose(self, iteration: int, margins: Tensor, jacobian: Tensor) -> None:
        """Solve each active image's program."""
        self._steps += 1
        self._gradients += margins.shape[1]
        self._beyond = self._method.threshold_shift(iteration)
        self._trial = self.points.clone()
        for index in torch.nonzero(self.active).flatten().tolist():
            step = self._program(index, margins[index], jacobian[index])
            failed = step.status is LpStatus.INFEASIBLE
            self._infeasible[index] = failed
            if failed and not self._method.relax:
                self.active[index] = False
                continue
            base = self._task.images[index] if self._method.cumulative else self.points[index]
            move = torch.from_numpy(step.step).to(base).reshape(base.shape)
            self._trial[index] = base + move

    def review(self) -> None:
        """Judge the proposals on the network itself; shrink the trust region where they disappoint."""
        task, method = self._task, self._method
        trial = task.ball.project(self._trial, task.images) if method.bounded else self._trial.clamp(0, 1)
        with torch.no_grad():
            margins = task.margins(trial)
        complete = self._best.offer(trial, margins)
        merit = self._shortfall(margins)
        size = Norm.LINF.of(trial - task.images)
        if not np.isfinite(method.trust):
            self.points = trial
            self.active &= ~complete
            return
        gains = (merit < self._merit) | ((merit <= 0) & (size < self._size))
        finished = gains & (merit <= 0) & (self._merit <= 0) & (size > (1 - _LEAST_GAIN) * self._size)
        self._accept(gains & self.active, trial, merit, size)
        self._radius = torch.where(gains, 2 * self._radius, self._radius / 4)
        self.active &= ~finished & (self._radius > 1e-6)

    def unsolved(self) -> Tensor:
        """Which images have not met their wish, shape (images,), bool."""
        return ~self._best.complete

    def restart(self, engine: Apgd) -> None:
        """Find other starting points for the unsolved images by gradient ascent on the worst margin."""
        stuck = torch.nonzero(self.unsolved()).flatten()
        # Close by first: a far start leaves the programs a long way to shrink.
        near = 2 * float(Norm.LINF.of(self.points[stuck] - self._task.images[stuck]).max())
        for epsilon in {min(near, self._task.ball.epsilon): None, self._task.ball.epsilon: None}:
            rows = torch.nonzero(self.unsolved()).flatten()
            if len(rows) and epsilon > 0:
                self._ascend(engine, rows, epsilon)
        self.active = torch.zeros_like(self.active).index_fill(0, stuck, True)

    def _ascend(self, engine: Apgd, rows: Tensor, epsilon: float) -> None:
        part = replace(self._task.rows(rows), ball=Ball(epsilon))
        loss = worst_margin_of_all if part.flips.others is Others.KEEP else worst_margin
        found = climb(engine, LossField(part, loss, engine.restarts), part, gradients_per_step=1)
        self._steps += found.steps
        self._gradients += found.gradients
        self._trial = self.points.clone()
        self._trial[rows] = found.images
        self._merit[rows] = torch.inf
        self._radius[rows] = self._method.trust * epsilon
        self.active = torch.zeros_like(self.active).index_fill(0, rows, True)
        self.review()

    def attempt(self) -> Attempt:
        """The best images; infeasible where the last program had no solution and the wish is unmet."""
        infeasible = self._infeasible & self.unsolved()
        return Attempt(self._best.images, self._steps, self._gradients, infeasible)

    def _accept(self, rows: Tensor, trial: Tensor, merit: Tensor, size: Tensor) -> None:
        wide = rows.reshape(-1, *[1] * (trial.dim() - 1))
        self.points = torch.where(wide, trial, self.points)
        self._merit = torch.where(rows, merit, self._merit)
        self._size = torch.where(rows, size, self._size)

    def _shortfall(self, margins: Tensor) -> Tensor:
        """How far the labels are from where they should be; 0 when each is strictly past its threshold."""
        wanted_gap = self._method.overshoot / 2
        short = torch.relu(wanted_gap - self._side * margins) * self._side.abs()
        price = torch.where(self._task.wanted != 0, 1.0, self._method.kept_price)
        return (short * price).sum(dim=1)

    def _program(self, index: int, margins: Tensor, jacobian: Tensor) -> LpStep:
        chosen = self._side[index] != 0
        side = self._side[index][chosen]
        flipped = self._task.wanted[index][chosen] != 0
        rows, limits = self._rows(side, margins[chosen], jacobian[chosen], flipped)
        price = torch.where(flipped, 1.0, self._method.kept_price)
        current = (self.points[index] - self._task.images[index]).flatten()
        if self._method.cumulative:
            limits = limits + rows @ current
        lower, upper = self._bounds(index, current)
        arrays = [tensor.double().cpu().numpy() for tensor in (rows, limits, lower, upper, price)]
        return smallest_step(arrays[0], arrays[1], arrays[2], arrays[3], arrays[4], gap=self._method.gap)

    def _rows(
        self, side: Tensor, margins: Tensor, jacobian: Tensor, flipped: Tensor
    ) -> tuple[Tensor, Tensor]:
        """A and b of A r <= b, so that every side * margin reaches its threshold to first order."""
        ahead = side * margins
        if self._method.linearise is Linearise.MARGIN:
            return -side[:, None] * jacobian, ahead - self._method.overshoot
        slope = -side * torch.sigmoid(-ahead)
        return slope[:, None] * jacobian, softplus(-self._beyond * flipped.to(ahead)) - softplus(-ahead)

    def _bounds(self, index: int, current: Tensor) -> tuple[Tensor, Tensor]:
        if not self._method.bounded:
            return torch.full_like(current, -1.0), torch.full_like(current, 1.0)
        low, high = (
            (side - self._task.images[index]).flatten()
            for side in self._task.ball.box(self._task.images[index])
        )
        low = torch.maximum(low, current - self._radius[index])
        high = torch.minimum(high, current + self._radius[index])
        return (low, high) if self._method.cumulative else (low - current, high - current)
