"""One deadline, handed down everywhere."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Budget:
    """A deadline on the monotonic clock, and a way to be told to stop.

    Attributes:
        deadline: value of ``clock`` at which work ends; infinity for no limit.
        cancelled: asked between pieces of work; true ends them early (Ctrl-C).
        clock: seconds, monotonic.
    """

    deadline: float = math.inf
    cancelled: Callable[[], bool] = field(default=lambda: False)
    clock: Callable[[], float] = time.monotonic

    @classmethod
    def of_seconds(cls, seconds: float | None, cancelled: Callable[[], bool] | None = None) -> "Budget":
        """A budget that ends ``seconds`` from now (None: no limit)."""
        deadline = math.inf if seconds is None else time.monotonic() + seconds
        return cls(deadline, cancelled or (lambda: False))

    @property
    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.deadline - self.clock())

    @property
    def exhausted(self) -> bool:
        """Whether work must end now."""
        return self.cancelled() or self.remaining <= 0.0

    def at_most(self, seconds: float) -> "Budget":
        """A part of this budget: ``seconds`` from now or this deadline, whichever comes first."""
        return Budget(min(self.deadline, self.clock() + seconds), self.cancelled, self.clock)
