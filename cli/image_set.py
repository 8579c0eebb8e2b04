"""Many images at once: a folder of pictures, or the arrays of an ``.npz`` file."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import read_arrays
from ..errors import ImageError
from ..verifier.image import load_image
from ..verifier.operators import Shape

PICTURES = (".png", ".jpg", ".jpeg", ".npy")

Pixels = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class ImageSet:
    """Images with what is known about them.

    Attributes:
        names: one per image, all different.
        images: float32 (images, channels, height, width), pixels in [0, 1].
        labels: bool (images, labels), the true label sets; None when unknown.
        objects: int64 (images, height, width), label number + 1 on that label's object, 0 elsewhere; None
            when unknown.
    """

    names: tuple[str, ...]
    images: Pixels
    labels: NDArray[np.bool_] | None = None
    objects: NDArray[np.int64] | None = None

    def first(self, number: int | None) -> "ImageSet":
        """The first so many images, all for None."""
        return replace(
            self,
            names=self.names[:number],
            images=self.images[:number],
            labels=None if self.labels is None else self.labels[:number],
            objects=None if self.objects is None else self.objects[:number],
        )

    def with_objects(self, path: Path) -> "ImageSet":
        """The same images with the objects of ``path``, an ``.npz`` with ``names`` and ``objects``.

        Raises:
            InputError: when the file can't be used or lacks an image.
        """
        remedy = "give an .npz with 'names' and 'objects'"
        arrays = read_arrays(path, "objects in images", remedy, ("names", "objects"))
        names = [str(name) for name in arrays["names"]]
        rows = {name: row for row, name in enumerate(names)}
        stems = {name: name if name in rows else Path(name).stem for name in self.names}
        missing = next((name for name in self.names if stems[name] not in rows), None)
        if missing is not None:
            raise ImageError(
                f"{path} has no objects for image {missing}; its names are {', '.join(names[:3])} ..."
            )
        known = _objects(path, arrays["objects"], (len(names), *self.images.shape[2:]))
        return replace(self, objects=known[[rows[stems[name]] for name in self.names]])


def read_image_set(
    source: Path, shape: Shape, labels: int | None = None, *, resize: bool = False
) -> ImageSet:
    """Read a folder of pictures, or an ``.npz`` with ``images`` and perhaps ``names``, ``labels``, ``objects``.

    Args:
        source: the folder or file.
        shape: of the network's input.
        labels: number of the network's labels; None to read the images only.
        resize: fit pictures of a folder to that shape.

    Raises:
        InputError: when there is no image, or an array does not fit.
    """
    if source.is_dir():
        paths = sorted(path for path in source.iterdir() if path.suffix.lower() in PICTURES)
        if not paths:
            raise ImageError(f"{source} has no pictures ({', '.join(PICTURES)}); give another folder")
        images = np.stack([load_image(path, shape, resize=resize) for path in paths])
        return ImageSet(tuple(path.name for path in paths), images)
    remedy = "give a folder of pictures, or an .npz with 'images'"
    arrays = read_arrays(source, "a set of images", remedy, ("images",))
    images = _pixels(source, arrays["images"])
    if images.shape[1:] != shape:
        raise ImageError(f"{source} has images of shape {images.shape[1:]}, the network reads {shape}")
    if not len(images):
        raise ImageError(f"{source} has no images")
    names = tuple(map(str, arrays.get("names", np.arange(len(images)))))
    if len(names) != len(images) or len(set(names)) != len(names):
        raise ImageError(f"{source}: 'names' should give each of the {len(images)} images a name of its own")
    if labels is None:
        return ImageSet(names, images)
    known = _labels(source, arrays["labels"], (len(images), labels)) if "labels" in arrays else None
    objects = _objects(source, arrays["objects"], (len(images), *shape[1:])) if "objects" in arrays else None
    return ImageSet(names, images, known, objects)


def _pixels(source: Path, images: NDArray[Any]) -> Pixels:
    if images.dtype == np.uint8:
        return np.asarray(images.astype(np.float32) / np.float32(255))
    if images.dtype.kind != "f" or not ((images >= 0) & (images <= 1)).all():
        raise ImageError(f"{source}: 'images' should be uint8, or floats in [0, 1]; divide by 255")
    return np.asarray(images, dtype=np.float32)


def _labels(source: Path, array: NDArray[Any], shape: Shape) -> NDArray[np.bool_]:
    if array.shape != shape or not np.isin(array, (0, 1)).all():
        raise ImageError(f"{source}: 'labels' should be 0 or 1, of shape {shape}; it is {array.shape}")
    return np.asarray(array, dtype=np.bool_)


def _objects(source: Path, array: NDArray[Any], shape: Shape) -> NDArray[np.int64]:
    if array.shape != shape or array.dtype.kind not in "iu" or array.min(initial=0) < 0:
        raise ImageError(
            f"{source}: 'objects' should be whole numbers (label + 1, or 0), of shape {shape}; it is "
            f"{array.dtype} {array.shape}"
        )
    return np.asarray(array, dtype=np.int64)
