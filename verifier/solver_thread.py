"""Running a native solver so that Ctrl-C and a cancelled budget reach it."""

import threading
from collections.abc import Callable

from .budget import Budget

# How often the waiting thread looks at the budget: short for a user, long for a processor.
POLL_SECONDS = 0.05


def run_interruptibly(work: Callable[[], None], stop: Callable[[], None], budget: Budget) -> None:
    """Run ``work`` in a worker thread and call ``stop`` when it must end early.

    Python handles Ctrl-C only between bytecodes of the main thread, which a native solver never reaches;
    so the solver gets a thread of its own and the caller waits here.

    Args:
        work: the native call; it must return soon after ``stop``.
        stop: asks the solver to end; called from another thread than ``work``, possibly several times.
        budget: its exhaustion ends the work too.

    Raises:
        BaseException: whatever ``work`` raised; KeyboardInterrupt once the solver has stopped.
    """
    failures: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=guarded, name="mlverify-solver", daemon=True)
    thread.start()
    try:
        _wait(thread, stop, budget)
    except BaseException:
        stop()
        thread.join()
        raise
    if failures:
        raise failures[0]


def _wait(thread: threading.Thread, stop: Callable[[], None], budget: Budget) -> None:
    while thread.is_alive():
        thread.join(POLL_SECONDS)
        if thread.is_alive() and budget.exhausted:
            stop()
