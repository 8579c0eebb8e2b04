"""Files that are either complete or untouched."""

import os
import tempfile
from pathlib import Path

from ..errors import InputError


def write_whole(file: Path, content: bytes) -> None:
    """Write a file so that nobody ever sees half of it.

    Args:
        file: where to; an existing file is replaced.
        content: everything it shall hold.

    Raises:
        InputError: the folder is missing or not writable, or the disk is full.
    """
    try:
        _write(file, content)
    except OSError as error:
        raise InputError(f"'{file}' cannot be written: {error.strerror}; choose another place") from error


def _write(file: Path, content: bytes) -> None:
    # In the same folder, since a rename is atomic only within one file system.
    with tempfile.NamedTemporaryFile(dir=file.parent, prefix=f".{file.name}.", delete=False) as stream:
        partial = Path(stream.name)
        try:
            stream.write(content)
            stream.flush()
            partial.chmod(0o644)
            os.replace(partial, file)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
