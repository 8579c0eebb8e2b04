"""Work in a thread beside the caller's: whoever is done first ends the other."""

import threading
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Generic, Self, TypeVar

from ..errors import DisagreementError
from .budget import Budget

Found = TypeVar("Found")


def proof_against_witness() -> DisagreementError:
    """What is raised where branch and bound proves what a witness of the MILP beside it breaks."""
    return DisagreementError(
        "branch and bound proved the property and the MILP found a witness that onnxruntime confirms; "
        "please report this network and question"
    )


class Beside(Generic[Found]):
    """A piece of work that runs while the block under ``with`` does; leaving the block ends it."""

    def __init__(self, work: Callable[[Budget], Found], budget: Budget) -> None:
        """Start the work.

        Args:
            work: gets ``budget``, which is cancelled when the block is left; it must return soon after.
            budget: of the work.
        """
        self._left = threading.Event()
        self._done = threading.Event()
        self._found: list[Found] = []
        self._failure: BaseException | None = None
        own = replace(budget, cancelled=lambda: self._left.is_set() or budget.cancelled())
        self._thread = threading.Thread(
            target=self._run, args=(work, own), name="mlverify-beside", daemon=True
        )
        self._thread.start()

    def _run(self, work: Callable[[Budget], Found], budget: Budget) -> None:
        try:
            self._found.append(work(budget))
        except BaseException as failure:
            self._failure = failure
        finally:
            self._done.set()

    def until_done(self, budget: Budget) -> Budget:
        """``budget``, but cancelled as soon as the work is done."""
        return replace(budget, cancelled=lambda: self._done.is_set() or budget.cancelled())

    def result(self) -> Found:
        """Wait for the work.

        Raises:
            BaseException: what the work raised.
        """
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        return self._found[0]

    def finished(self) -> Found | None:
        """What the work has found when the block is left, None when it failed.

        Raises:
            DisagreementError: when that is why it failed: it concerns the other's answer too.
        """
        if isinstance(self._failure, DisagreementError):
            raise self._failure
        return self._found[0] if self._found else None

    def __enter__(self) -> Self:
        """Nothing to do: the work runs already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the work."""
        self._left.set()
        self._thread.join()
