"""Writing files so that a reader never sees half of one."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import InputError

# mkstemp makes files private; results are for sharing, as far as the user's umask allows.
_PERMISSIONS = 0o666


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file in the folder of ``path`` that takes its place when the block succeeds.

    Args:
        path: the file to write; an existing one stays as it was until the block ends without an error.

    Yields:
        The temporary file, empty, with the suffix of ``path``.

    Raises:
        InputError: when the folder is missing or can't be written, or the disk is full.
    """
    temporary = _temporary_beside(path)
    try:
        yield temporary
        os.chmod(temporary, _PERMISSIONS & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(
            f"{path} can't be written: {error.strerror or error}; choose another place"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Find out now, not after an hour of work, whether ``path`` can be written.

    Raises:
        InputError: when it can't.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the name of a file in it")
    _temporary_beside(path).unlink()


def sha256_of(path: Path) -> str:
    """The hash of a file's bytes, as hexadecimal digits.

    Raises:
        InputError: when it can't be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}") from None


def _temporary_beside(path: Path) -> Path:
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    except FileNotFoundError:
        raise InputError(
            f"{path} can't be written: folder {path.parent} does not exist; make it first"
        ) from None
    except OSError as error:
        raise InputError(
            f"{path} can't be written: {error.strerror or error}; choose another place"
        ) from None
    os.close(handle)
    return Path(name)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
