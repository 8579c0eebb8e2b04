"""Reading NumPy's ``.npz`` files, whose damage surfaces in many ways."""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InputError

# A small archive can hold more arrays than memory has room for.
MOST_ARRAYS = 100_000


def read_arrays(
    path: Path, what: str, remedy: str, needed: Sequence[str] = (), most_bytes: int | None = None
) -> dict[str, NDArray[Any]]:
    """All arrays of an ``.npz`` file, by name; nothing is unpickled.

    Args:
        path: the file.
        what: it should be, for the message.
        remedy: what the user can do about a file that is none.
        needed: names that must be there.
        most_bytes: refuse what unpacks to more, before it does; None for no limit.

    Raises:
        InputError: when it is missing, damaged, too large, or lacks an array.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
        large = most_bytes is not None and sum(item.file_size for item in members) > most_bytes
        if large or len(members) > MOST_ARRAYS:
            raise InputError(f"{path} unpacks to more than {what} ever does; {remedy}")
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; {remedy}") from None
    except Exception as error:  # zipfile, zlib and numpy raise many types
        raise InputError(f"{path} can't be read as {what} ({error}); {remedy}") from None
    missing = [name for name in needed if name not in found]
    if missing:
        has = ", ".join(found) or "none"
        raise InputError(f"{path} has no array {', '.join(missing)} (it has {has}); {remedy}")
    return found
