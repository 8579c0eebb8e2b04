"""Results in the words of the VNN-COMP competition: sat is a counterexample, unsat a proof."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..verifier.files import replacing
from ..verifier.network import Network
from ..verifier.result import Result, Verdict, Witness


def write_words(path: Path, network: Network, result: Result, *, timed_out: bool) -> None:
    """Write a verdict, and after ``sat`` the counterexample.

    Args:
        path: the file.
        network: that was asked.
        result: the answer.
        timed_out: whether an unknown is due to the time limit.

    Raises:
        InputError: when the file can't be written.
    """
    match result.verdict:
        case Verdict.HOLDS:
            _write(path, "unsat\n")
        case Verdict.UNKNOWN:
            _write(path, "timeout\n" if timed_out else "unknown\n")
        case Verdict.VIOLATED:
            assert result.witness is not None
            _write(path, f"sat\n{_counterexample(network, result.witness)}\n")


@contextmanager
def reporting_failure(path: Path | None) -> Iterator[None]:
    """Write ``error`` when the block raises one; nothing for None.

    Yields:
        Nothing.
    """
    try:
        yield
    except Exception:
        if path is not None:
            with suppress(InputError):  # the error that is on its way says more
                _write(path, "error\n")
        raise


def _counterexample(network: Network, witness: Witness) -> str:
    """Inputs as the file reads them and its outputs, all with the digits that make out their float32."""
    inputs = network.preprocessing.apply(witness.image[None])
    pairs = [*_pairs("X", inputs.ravel()), *_pairs("Y", witness.scores.ravel())]
    return "(" + "\n".join(pairs) + ")"


def _pairs(letter: str, values: NDArray[np.float32]) -> Iterable[str]:
    return (f"({letter}_{number} {value!s})" for number, value in enumerate(values))


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
