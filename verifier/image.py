"""Images from files: PNG, JPEG and NPY to float32 pixels in [0, 1], or an error that says what is wrong."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError
from .files import replacing
from .operators import Shape

if TYPE_CHECKING:
    from PIL.Image import Image

_NPY_MAGIC = b"\x93NUMPY"
_PNG_MAGIC = b"\x89PNG"
_PNG_HEADER_BYTES = 26
_PNG_GREY = 0
_FORMATS = ("PNG", "JPEG")
# file modes and the mode in which their pixels are read; alpha and 16-bit grey are treated apart
_READ_AS = {"1": "L", "L": "L", "RGB": "RGB"}
_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I")
# above this a float image can't be a rounding slip: it is in another unit
_EIGHT_BIT_HINT = 2.0


def load_image(path: str | Path, shape: Shape, *, resize: bool = False) -> NDArray[np.float32]:
    """Read one input of a network.

    Args:
        path: PNG or JPEG (8 bits per channel; PNG also 16-bit grey), or NPY: uint8 in 0 to 255 or float in
            [0, 1], axes (height, width), (channels, height, width) or (height, width, channels). For a
            network that reads no images, an NPY of exactly its input shape, any finite numbers.
        shape: the network's input shape, (channels, height, width) for images.
        resize: scale the image to the network's size, and turn colour to grey or grey to colour.

    Returns:
        float32 array of ``shape``. Eight-bit pixels are ``u8 / 255`` in float32.

    Raises:
        ImageError: for a file that can't be read or does not fit; the message names the remedy.
    """
    source = Path(path)
    content = _read_start(source)
    if content == _NPY_MAGIC:
        array = _read_npy(source)
        return (
            _fit_array(source, array, shape) if len(shape) != 3 else _fit_planes(source, array, shape, resize)
        )
    if len(shape) != 3:
        raise ImageError(
            f"{source}: the network reads inputs of shape {shape}, not images; give an NPY of that shape"
        )
    return _fit(source, _picture_pixels(source), shape, resize)


def save_array(path: Path, array: NDArray[np.generic]) -> None:
    """Write an array as NPY, whole or not at all.

    Raises:
        InputError: when ``path`` can't be written.
    """
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.save(stream, array, allow_pickle=False)


def open_picture(path: Path, formats: tuple[str, ...] = _FORMATS) -> "Image":
    """A decoded, still picture, turned upright; shared by images and masks.

    Args:
        path: the file.
        formats: Pillow's names of the formats that will do.

    Raises:
        ImageError: missing, unreadable, truncated, animated, or in another format.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    _read_start(path)
    try:
        with Image.open(path, formats=formats) as picture:
            if getattr(picture, "n_frames", 1) > 1:
                raise ImageError(f"{path} is animated; save one frame as PNG")
            picture.load()
            return ImageOps.exif_transpose(picture)
    except UnidentifiedImageError:
        raise ImageError(
            f"{path} is not a picture of format {' or '.join(formats)}; convert it to PNG"
        ) from None
    except Image.DecompressionBombError:
        raise ImageError(f"{path} has too many pixels; scale it to the network's size first") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageError(f"{path} is damaged or truncated ({error}); save it again") from None


def _read_start(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            start = stream.read(len(_NPY_MAGIC))
    except FileNotFoundError:
        raise ImageError(f"{path} does not exist; give the path of a PNG, JPEG or NPY file") from None
    except OSError as error:
        raise ImageError(f"{path} can't be read: {error.strerror}") from None
    if not start:
        raise ImageError(f"{path} is empty; save the image again")
    return start


def _picture_pixels(path: Path) -> NDArray[np.float32]:
    """Pixels (channels, height, width) of a PNG or JPEG."""
    _refuse_deep_colour(path)
    picture = _without_alpha(path, open_picture(path))
    if picture.mode in _SIXTEEN_BIT:
        return (np.asarray(picture, dtype=np.float32) / np.float32(65535))[None]
    if picture.mode not in _READ_AS:
        raise ImageError(f"{path} has colour mode {picture.mode}; save it as 8-bit grey or RGB")
    pixels = np.asarray(picture.convert(_READ_AS[picture.mode]), dtype=np.uint8)
    planes = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
    return _from_bytes(planes)


def _refuse_deep_colour(path: Path) -> None:
    """Pillow would silently drop the lower byte of 16-bit colour; PNG's header has depth and colour type."""
    with path.open("rb") as stream:
        header = stream.read(_PNG_HEADER_BYTES)
    deep = header.startswith(_PNG_MAGIC) and len(header) == _PNG_HEADER_BYTES and header[24] == 16
    if deep and header[25] != _PNG_GREY:
        raise ImageError(
            f"{path} has 16 bits per colour channel; save it with 8 bits, or as NPY with all of them"
        )


def _without_alpha(path: Path, picture: "Image") -> "Image":
    """The picture without palette and alpha channel, which may only be dropped where it says nothing."""
    if picture.mode == "P":
        picture = picture.convert("RGBA" if "transparency" in picture.info else "RGB")
    if picture.mode not in ("RGBA", "LA"):
        return picture
    if picture.getchannel("A").getextrema() != (255, 255):
        raise ImageError(
            f"{path} has transparent pixels, whose colour is undefined; flatten it onto a background"
        )
    return picture.convert("RGB" if picture.mode == "RGBA" else "L")


def _from_bytes(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(pixels.astype(np.float32) / np.float32(255))


def _read_npy(path: Path) -> NDArray[np.float32]:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = str(error).splitlines()[0]
        raise ImageError(f"{path} is not a readable NPY array ({reason}); save it with numpy.save") from None
    if array.dtype == np.uint8:
        return _from_bytes(array)
    if array.dtype.kind != "f":
        raise ImageError(f"{path} holds {array.dtype} numbers; save uint8 in 0 to 255 or float in [0, 1]")
    if not np.isfinite(array).all():
        raise ImageError(f"{path} has pixels that are NaN or infinite; {_first(~np.isfinite(array))}")
    return np.asarray(array, dtype=np.float32)


def _first(bad: NDArray[np.bool_]) -> str:
    place = tuple(int(index) for index in np.argwhere(bad)[0])
    return f"the first is at {place}, {int(bad.sum())} in all"


def _fit_array(path: Path, array: NDArray[np.float32], shape: Shape) -> NDArray[np.float32]:
    if array.shape not in (shape, (1, *shape)):
        raise ImageError(f"{path} has shape {array.shape}, the network reads {shape}")
    return array.reshape(shape)


def _fit_planes(path: Path, array: NDArray[np.float32], shape: Shape, resize: bool) -> NDArray[np.float32]:
    outside = (array < 0) | (array > 1)
    if outside.any():
        raise ImageError(f"{path} has values outside [0, 1] {_range_hint(array)}")
    return _fit(path, _channels_first(path, array, shape), shape, resize)


def _range_hint(array: NDArray[np.float32]) -> str:
    low, high = float(array.min()), float(array.max())
    found = f"({low:.4g} to {high:.4g})"
    if low >= 0 and high > _EIGHT_BIT_HINT:
        return f"{found}: it looks like 0 to 255; divide by 255 or save it as uint8"
    return f"{found}: it looks normalised; save the raw pixels and give the network's --mean and --std"


def _channels_first(path: Path, array: NDArray[np.float32], shape: Shape) -> NDArray[np.float32]:
    if array.ndim == 4 and len(array) == 1:
        array = array[0]
    if array.ndim == 2:
        return array[None]
    if array.ndim != 3:
        raise ImageError(f"{path} has shape {array.shape}; give one image: {shape[1:]} or {shape}")
    if array.shape == shape:
        return array
    first, last = array.shape[0] in (1, 3), array.shape[2] in (1, 3)
    if array.shape[2] == shape[0] and (array.shape[:2] == shape[1:] or not first):
        return np.moveaxis(array, -1, 0)
    if first == last:
        raise ImageError(f"{path} has shape {array.shape}: the channel axis is not clear; give it as {shape}")
    return array if first else np.moveaxis(array, -1, 0)


def _fit(path: Path, planes: NDArray[np.float32], shape: Shape, resize: bool) -> NDArray[np.float32]:
    """Pixels with the network's channels and size, or an error."""
    planes = _fit_channels(path, planes, shape[0], resize)
    if planes.shape == shape:
        return np.ascontiguousarray(planes)
    found, wanted = planes.shape[:0:-1], shape[:0:-1]
    if not resize:
        raise ImageError(
            f"{path} is {found[0]} x {found[1]} pixels (width x height), the network reads "
            f"{wanted[0]} x {wanted[1]}; scale it with --resize"
        )
    return np.stack([_scale(plane, shape[1:]) for plane in planes])


def _fit_channels(
    path: Path, planes: NDArray[np.float32], channels: int, resize: bool
) -> NDArray[np.float32]:
    if len(planes) == channels:
        return planes
    if (len(planes), channels) == (3, 1):
        # grey pictures are often stored as RGB; that loses nothing
        if (planes == planes[:1]).all():
            return planes[:1]
        if resize:
            weights = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601 luma, as Pillow's "L"
            return np.clip(np.tensordot(weights, planes, axes=1)[None], 0.0, 1.0)
        raise ImageError(
            f"{path} is in colour, the network reads grey images; save it as grey or pass --resize"
        )
    if (len(planes), channels) == (1, 3):
        if resize:
            return np.repeat(planes, 3, axis=0)
        raise ImageError(f"{path} is grey, the network reads RGB images; save it as RGB or pass --resize")
    raise ImageError(
        f"{path} has {len(planes)} channels, the network reads {channels}; give an NPY of its input shape"
    )


def _scale(plane: NDArray[np.float32], size: Shape) -> NDArray[np.float32]:
    """Antialiased bilinear scaling, which can't leave the range of the pixels by more than rounding."""
    from PIL import Image

    scaled: Any = Image.fromarray(plane).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.clip(np.asarray(scaled, dtype=np.float32), 0.0, 1.0)
