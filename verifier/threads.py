"""Torch threads while small tensors are bounded."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

# The tensors of one region are small: a second thread gains little on an idle machine, and where cores are shared
# its waiting made a step of the ascent 20 to 40 times slower. The MILP solver has threads of its own.
TORCH_THREADS = 1


@contextmanager
def few_threads() -> Iterator[None]:
    """Use ``TORCH_THREADS`` inside the block and what was set before after it."""
    before = torch.get_num_threads()
    torch.set_num_threads(TORCH_THREADS)
    try:
        yield
    finally:
        torch.set_num_threads(before)
