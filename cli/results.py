"""Result files: versioned JSON, written whole or not at all, read with every field checked."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..arrays import read_arrays
from ..errors import InputError
from ..verifier.files import replacing, sha256_of
from .render import print_json

Value = TypeVar("Value")


class Schema(StrEnum):
    """What a result file is; the number grows when a field changes its meaning."""

    VERIFY = "mlverify/verify/1"
    SYNTH = "mlverify/synth/1"
    ATTACK = "mlverify/attack/1"
    EVALUATE = "mlverify/evaluate/1"
    EXPLAIN = "mlverify/explain/1"


@dataclass(frozen=True, slots=True, eq=False)
class ResultFile:
    """A result as read from disk.

    Attributes:
        path: where it was read; paths inside are relative to its folder.
        schema: what it is.
        fields: the whole document.
    """

    path: Path
    schema: Schema
    fields: Mapping[str, Any]

    def get(self, name: str, kind: type[Value]) -> Value:
        """A field of a JSON type; whole numbers pass as float.

        Raises:
            InputError: when it is missing or of another type.
        """
        value = self.fields.get(name)
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if name not in self.fields or not isinstance(value, kind):
            found = "missing" if name not in self.fields else f"a {type(value).__name__}"
            raise InputError(
                f"{self.path}: field '{name}' should be a {kind.__name__} and is {found}; write it again"
            )
        return value

    def numbers(self, name: str) -> NDArray[np.float64]:
        """A list of finite numbers as float64, exactly those written.

        Raises:
            InputError: when the field is something else.
        """
        values = self.get(name, list)
        if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            raise InputError(
                f"{self.path}: field '{name}' should be a list of numbers; write the result again"
            )
        numbers = np.array(values, dtype=np.float64)
        if not np.isfinite(numbers).all():
            raise InputError(f"{self.path}: field '{name}' has a number that is NaN or infinite")
        return numbers

    def companion(self, name: str) -> Path:
        """The file beside the result that field ``name`` names.

        Raises:
            InputError: when the field is missing or leads to another folder.
        """
        text = self.get(name, str)
        if Path(text).name != text:
            raise InputError(
                f"{self.path}: field '{name}' should be the name of a file beside it, not '{text}'"
            )
        return self.path.parent / text

    def find(self, fields: Mapping[str, Any]) -> Path:
        """The very file that fields ``path`` and ``sha256`` name: where it was, or beside the result.

        Raises:
            InputError: when neither place has it.
        """
        written = Path(str(fields.get("path", "")))
        places = (written, self.path.parent / written, self.path.parent / written.name)
        found = [place for place in places if place.is_file()]
        if not found:
            raise InputError(f"{written} does not exist; copy it beside {self.path}, which names it")
        for place in found:
            if sha256_of(place) == fields.get("sha256"):
                return place
        raise InputError(f"{found[0]} is not the file that {self.path} names (its sha256 differs)")


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """The arrays that a synthesis result needs to be looked at or checked again.

    Attributes:
        image: float32 (channels, height, width), pixels in [0, 1].
        layers: int64 (height, width), number of each pixel's layer.
        objects: int64 (height, width), number of the object a pixel belongs to, 1 first; 0 on none.
        witnesses: float32 (images, channels, height, width), images that break the network; may be empty.
    """

    image: NDArray[np.float32]
    layers: NDArray[np.int64]
    objects: NDArray[np.int64]
    witnesses: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0, 0, 0), dtype=np.float32))

    @property
    def masks(self) -> tuple[NDArray[np.bool_], ...]:
        """(height, width) per object, true on it."""
        return tuple(self.objects == number for number in range(1, int(self.objects.max(initial=0)) + 1))


def write_result(path: Path, schema: Schema, fields: Mapping[str, object]) -> None:
    """Write a result file.

    Args:
        path: the JSON file.
        schema: becomes its first field.
        fields: JSON values, enums, paths, and numpy numbers or arrays; NaN and infinity become null.

    Raises:
        InputError: when ``path`` can't be written.
    """
    text = json.dumps(_document(schema, fields), indent=2, allow_nan=False) + "\n"
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def print_result(schema: Schema, fields: Mapping[str, object]) -> None:
    """Print what :func:`write_result` would write, and nothing else."""
    print_json(_document(schema, fields))


def _document(schema: Schema, fields: Mapping[str, object]) -> Mapping[str, object]:
    return {"schema": schema.value, **{name: to_json(value) for name, value in fields.items()}}


def to_json(value: object) -> object:
    """A value as JSON has it; floats keep all their digits."""
    match value:
        case StrEnum() | Path():
            return str(value)
        case np.ndarray() | np.generic():
            return to_json(value.tolist())
        case float():
            return value if np.isfinite(value) else None
        case Mapping():
            return {str(key): to_json(item) for key, item in value.items()}
        case list() | tuple():
            return [to_json(item) for item in value]
        case None | str() | bool() | int():
            return value
        case _:
            raise TypeError(f"{type(value).__name__} has no JSON form")


def read_result(path: Path, *expected: Schema) -> ResultFile:
    """Read a result file.

    Args:
        path: the JSON file.
        expected: schemas that will do; all of them when left out.

    Raises:
        InputError: missing, not JSON, truncated, or of another schema.
    """
    document = _read_document(path)
    name = document.get("schema")
    if not isinstance(name, str) or name not in set(Schema):
        raise InputError(_wrong_schema(path, name))
    schema = Schema(name)
    if expected and schema not in expected:
        raise InputError(f"{path} is a {schema} result; this command reads {' or '.join(expected)}")
    return ResultFile(path, schema, document)


def _read_document(path: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; give a result that mlverify wrote with -o") from None
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}") from None
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path} is not JSON or is truncated (line {error.lineno}: {error.msg}); write it again"
        ) from None
    except (UnicodeDecodeError, RecursionError):
        raise InputError(f"{path} is not a text file; give a result that mlverify wrote with -o") from None
    if not isinstance(document, dict):
        raise InputError(f"{path} is JSON but not a result of mlverify; give a file written with -o")
    return document


def _wrong_schema(path: Path, name: object) -> str:
    known = ", ".join(Schema)
    if isinstance(name, str) and name.startswith("mlverify/"):
        return f"{path} has schema '{name}', this version reads {known}; use the mlverify that wrote it"
    return (
        f"{path} is JSON but not a result of mlverify (no schema among {known}); give a file written with -o"
    )


def write_scene(result: Path, scene: Scene) -> str:
    """Write the arrays beside a result file.

    Returns:
        The file's name, for the result's field ``arrays``.

    Raises:
        InputError: when it can't be written.
    """
    path = result.with_suffix(".npz")
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(
            stream,
            image=scene.image,
            layers=scene.layers,
            mask=scene.objects > 0,
            objects=scene.objects,
            witnesses=scene.witnesses,
        )
    return path.name


def read_scene(result: ResultFile) -> Scene:
    """Read the arrays of a synthesis result.

    Raises:
        InputError: when they are missing, damaged, or don't fit one another.
    """
    path, needed = result.companion("arrays"), ("image", "layers", "objects")
    arrays = load_arrays(path, needed)
    image, layers, objects = (arrays[name] for name in needed)
    # results of before there were witnesses have none
    witnesses = arrays.get("witnesses", np.zeros((0, *image.shape)))
    fits = image.ndim == 3 and layers.shape == image.shape[1:] == objects.shape
    if not fits or image.dtype.kind != "f" or layers.dtype.kind not in "iu" or objects.dtype.kind not in "iu":
        raise InputError(f"{path}: image, layers and objects don't fit one another; write the result again")
    if witnesses.size and (witnesses.shape[1:] != image.shape or witnesses.dtype.kind != "f"):
        raise InputError(f"{path}: its witnesses don't fit the image; write the result again")
    found = witnesses.astype(np.float32).reshape(-1, *image.shape)
    return Scene(image.astype(np.float32), layers.astype(np.int64), objects.astype(np.int64), found)


def load_arrays(path: Path, needed: Sequence[str] = ()) -> Mapping[str, NDArray[Any]]:
    """All arrays of a file beside a result.

    Raises:
        InputError: when it is missing, damaged, or lacks one of those that are ``needed``.
    """
    remedy = "copy all files of the result together, or write it again"
    return read_arrays(path, "arrays of a result", remedy, needed)
