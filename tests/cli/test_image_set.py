import numpy as np
import pytest
from mlverify.cli.image_set import read_image_set
from mlverify.errors import ImageError, InputError
from PIL import Image

SHAPE = (1, 3, 4)
IMAGES = np.random.default_rng(0).integers(0, 256, (2, *SHAPE), dtype=np.uint8)
OBJECTS = np.array([np.eye(3, 4), 2 * np.eye(3, 4)], dtype=np.uint8)


def saved(folder, **arrays):
    np.savez(folder / "set.npz", **{"images": IMAGES, **arrays})
    return folder / "set.npz"


def test_arrays(tmp_path):
    path = saved(tmp_path, names=["x", "y"], labels=[[1, 0], [0, 1]], objects=OBJECTS)
    found = read_image_set(path, SHAPE, 2)
    assert found.names == ("x", "y")
    np.testing.assert_array_equal(found.images, IMAGES.astype(np.float32) / np.float32(255))
    assert found.labels.tolist() == [[True, False], [False, True]]
    np.testing.assert_array_equal(found.objects, OBJECTS)
    first = found.first(1)
    assert (first.names, len(first.images), len(first.labels), len(first.objects)) == (("x",), 1, 1, 1)


def test_a_folder(tmp_path):
    for name, pixels in zip("ba", IMAGES, strict=True):
        Image.fromarray(pixels[0]).save(tmp_path / f"{name}.png")
    found = read_image_set(tmp_path, SHAPE, 2)
    assert found.names == ("a.png", "b.png")
    assert found.labels is found.objects is None
    np.savez(
        tmp_path / "masks.npz", names=["a", "b", "c"], objects=np.stack([OBJECTS[0], OBJECTS[1], OBJECTS[0]])
    )
    np.testing.assert_array_equal(found.with_objects(tmp_path / "masks.npz").objects, OBJECTS)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"images": IMAGES[:, :, 1:]}, "the network reads"),
        ({"images": IMAGES.astype(np.float64)}, "divide by 255"),
        ({"images": IMAGES[:0]}, "no images"),
        ({"names": ["x", "x"]}, "a name of its own"),
        ({"labels": [[1, 0, 0], [0, 1, 0]]}, "of shape"),
        ({"labels": [[1, 2], [0, 1]]}, "0 or 1"),
        ({"objects": -OBJECTS.astype(int)}, "whole numbers"),
        ({"objects": OBJECTS[:1]}, "whole numbers"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path, arrays, words):
    with pytest.raises(ImageError, match=words):
        read_image_set(saved(tmp_path, **arrays), SHAPE, 2)


def test_sets_that_can_not_be_read(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.npz").write_text("no archive")
    for name, words in [
        ("empty", "no pictures"),
        ("gone.npz", "does not exist"),
        ("text.npz", "can't be read"),
    ]:
        with pytest.raises(InputError, match=words):
            read_image_set(tmp_path / name, SHAPE, 2)
    found = read_image_set(saved(tmp_path), SHAPE, 2)
    np.savez(tmp_path / "masks.npz", names=["0"], objects=OBJECTS[:1])
    with pytest.raises(ImageError, match="no objects for image 1"):
        found.with_objects(tmp_path / "masks.npz")
    np.savez(tmp_path / "masks.npz", masks=OBJECTS)
    with pytest.raises(InputError, match="no array names, objects"):
        found.with_objects(tmp_path / "masks.npz")
