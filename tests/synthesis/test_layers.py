import numpy as np
import pytest
from mlverify.errors import ImageError
from mlverify.synthesis.layers import ObjectLayers, chebyshev_layers, read_mask
from PIL import Image


def brute_force(mask):
    pixels = np.argwhere(mask)
    everywhere = np.stack(np.indices(mask.shape), axis=-1)[:, :, None, :]
    return np.abs(everywhere - pixels).max(axis=-1).min(axis=-1)


@pytest.mark.parametrize("seed", range(20))
def test_layers_are_chebyshev_distances(seed):
    generator = np.random.default_rng(seed)
    mask = generator.random(generator.integers(2, 12, 2)) < 0.1
    mask[0, 0], mask[-1, -1] = True, False
    layers = chebyshev_layers(mask)
    assert layers.dtype == np.int64
    np.testing.assert_array_equal(layers, brute_force(mask))


def test_counts_cover_the_image_and_no_layer_is_empty():
    mask = np.zeros((7, 9), dtype=bool)
    mask[3, 2:4] = True
    found = ObjectLayers.around(mask)
    assert found.count == 6
    assert found.pixels[0] == 2
    assert found.pixels[1] == 10
    assert sum(found.pixels) == mask.size
    assert all(found.pixels)


@pytest.mark.parametrize("value", [False, True])
def test_an_object_needs_some_but_not_all_pixels(value):
    with pytest.raises(ImageError):
        ObjectLayers.around(np.full((3, 3), value))


def save(path, pixels):
    Image.fromarray(pixels).save(path)
    return path


def test_any_non_zero_pixel_is_object(tmp_path):
    pixels = np.zeros((4, 6), dtype=np.uint8)
    pixels[1, 2], pixels[3, 5] = 1, 255
    mask = read_mask(save(tmp_path / "m.png", pixels), (4, 6))
    np.testing.assert_array_equal(mask, pixels > 0)


def test_colour_counts_by_any_channel_and_transparent_pixels_do_not_count(tmp_path):
    pixels = np.zeros((4, 6, 4), dtype=np.uint8)
    pixels[0, 0] = (0, 9, 0, 255)
    pixels[1, 1] = (255, 255, 255, 0)
    pixels[2, 2] = (0, 0, 0, 255)
    mask = read_mask(save(tmp_path / "m.png", pixels), (4, 6))
    assert np.argwhere(mask).tolist() == [[0, 0]]


def test_one_bit_and_palette_masks(tmp_path):
    pixels = np.zeros((4, 6), dtype=np.uint8)
    pixels[1, 2] = 255
    for mode in ("1", "P"):
        path = tmp_path / f"{mode}.png"
        Image.fromarray(pixels).convert(mode).save(path)
        np.testing.assert_array_equal(read_mask(path, (4, 6)), pixels > 0)


@pytest.mark.parametrize(
    ("value", "size", "message"),
    [(0, (4, 6), "no object"), (255, (4, 6), "every pixel"), (255, (6, 4), r"6 x 4 pixels .* 4 x 6")],
)
def test_masks_that_can_not_be_used(tmp_path, value, size, message):
    path = save(tmp_path / "m.png", np.full((4, 6), value, dtype=np.uint8))
    with pytest.raises(ImageError, match=message):
        read_mask(path, size)


def test_a_jpeg_is_no_mask(tmp_path):
    path = save(tmp_path / "m.jpg", np.zeros((4, 6), dtype=np.uint8))
    with pytest.raises(ImageError, match="convert it to PNG"):
        read_mask(path, (4, 6))
