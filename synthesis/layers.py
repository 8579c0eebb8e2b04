"""Objects and the layers around them: which pixels belong to the object, and how far the others are.

Reference: Mour (2023), section 2: layer d is the set of pixels at Chebyshev distance d from the object.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..errors import ImageError
from ..verifier.image import open_picture


@dataclass(frozen=True, slots=True, eq=False)
class ObjectLayers:
    """An object and the distance of every pixel from it.

    Attributes:
        mask: (height, width), true on the object.
        layers: (height, width) int64, Chebyshev distance from the object in pixels; 0 on it.
    """

    mask: NDArray[np.bool_]
    layers: NDArray[np.int64]

    @classmethod
    def around(cls, mask: NDArray[np.bool_]) -> Self:
        """The layers around the object ``mask`` (height, width).

        Raises:
            ImageError: when the mask has no pixel, or all of them.
        """
        return cls(mask, chebyshev_layers(mask))

    @property
    def count(self) -> int:
        """Number of layers; every distance below it occurs."""
        return int(self.layers.max()) + 1

    @property
    def pixels(self) -> tuple[int, ...]:
        """Number of pixels in each layer, layer 0 (the object) first."""
        return tuple(int(number) for number in np.bincount(self.layers.reshape(-1), minlength=self.count))


def chebyshev_layers(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Chebyshev distance of every pixel from the object.

    Args:
        mask: (height, width), true on the object.

    Returns:
        int64 array (height, width), 0 on the object.

    Raises:
        ImageError: when the mask has no pixel, or all of them.
    """
    if not mask.any():
        raise ImageError("the object has no pixel; mark at least one in the mask")
    if mask.all():
        raise ImageError(
            "the object covers the whole image, so there is no layer around it; mark the object only"
        )
    return np.asarray(ndimage.distance_transform_cdt(~mask, metric="chessboard"), dtype=np.int64)


def read_mask(path: str | Path, size: tuple[int, int]) -> NDArray[np.bool_]:
    """An object from a PNG in which every non-zero pixel belongs to it.

    Args:
        path: the PNG; of a colour picture, any channel counts; a transparent pixel is zero.
        size: (height, width) of the image.

    Raises:
        ImageError: unreadable file, another size, or a mask with no pixel or with all of them.
    """
    # JPEG would turn zeros into noise
    picture = open_picture(Path(path), formats=("PNG",))
    if picture.mode == "P":
        picture = picture.convert("RGBA" if "transparency" in picture.info else "RGB")
    pixels = np.asarray(picture)
    mask = _object_pixels(pixels, has_alpha=picture.mode in ("RGBA", "LA"))
    if mask.shape != size:
        raise ImageError(
            f"{path} is {mask.shape[1]} x {mask.shape[0]} pixels (width x height), the image is "
            f"{size[1]} x {size[0]}; draw the mask on the image itself"
        )
    if not mask.any():
        raise ImageError(f"{path} has no object: every pixel is zero; paint the object's pixels white")
    if mask.all():
        raise ImageError(f"{path} marks every pixel as object; paint everything around the object black")
    return mask


def _object_pixels(pixels: NDArray[np.generic], *, has_alpha: bool) -> NDArray[np.bool_]:
    if pixels.ndim == 2:
        return np.asarray(pixels != 0)
    colours = pixels[..., :-1] if has_alpha else pixels
    marked = np.any(colours != 0, axis=-1)
    return np.asarray(marked & (pixels[..., -1] != 0)) if has_alpha else np.asarray(marked)
