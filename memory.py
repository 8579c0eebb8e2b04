"""How the process keeps memory that was freed."""

import ctypes
import sys
from functools import cache

# Parameters of glibc's mallopt.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
# Free memory at the heap's end that stays with the process, and the largest block that is taken from the heap (no more
# is accepted). By default both are a few megabytes at most: the tensors of every sweep are then handed back to the
# system and faulted in anew, which took a quarter of the time of branch and bound, half that of a CROWN pass and a
# fifth of an attack's.
KEPT_BYTES = 512 * 2**20
LARGEST_BLOCK = 32 * 2**20


@cache
def keep_freed_memory() -> bool:
    """Keep freed blocks for the next tensors; returns whether the C library takes the wish (glibc does)."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_TRIM_THRESHOLD, KEPT_BYTES)) and bool(mallopt(_MMAP_THRESHOLD, LARGEST_BLOCK))
