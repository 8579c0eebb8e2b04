import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from mlverify.errors import ImageError, InputError
from mlverify.verifier.image import load_image, save_array
from PIL import Image

GREY = (1, 4, 6)
RGB = (3, 4, 6)


@pytest.fixture
def bytes_grey():
    return np.random.default_rng(0).integers(0, 256, (4, 6), dtype=np.uint8)


@pytest.fixture
def bytes_rgb():
    return np.random.default_rng(1).integers(0, 256, (4, 6, 3), dtype=np.uint8)


def png(folder: Path, pixels, mode=None) -> Path:
    path = folder / "image.png"
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path)
    return path


def npy(folder: Path, array) -> Path:
    path = folder / "image.npy"
    np.save(path, array)
    return path


def test_grey_png_is_exactly_u8_over_255(tmp_path, bytes_grey):
    image = load_image(png(tmp_path, bytes_grey), GREY)
    assert image.dtype == np.float32
    assert image.shape == GREY
    np.testing.assert_array_equal(image[0], bytes_grey.astype(np.float32) / np.float32(255))


def test_rgb_png_is_channels_first(tmp_path, bytes_rgb):
    image = load_image(png(tmp_path, bytes_rgb), RGB)
    np.testing.assert_array_equal(image[2], bytes_rgb[..., 2].astype(np.float32) / np.float32(255))
    assert image.flags.c_contiguous


def test_every_eight_bit_value_keeps_its_number(tmp_path):
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = load_image(png(tmp_path, values), (1, 16, 16))
    np.testing.assert_array_equal(np.round(image * 255).astype(int)[0], values)


def test_sixteen_bit_png_is_scaled(tmp_path):
    values = np.array([[0, 65535, 32768]], dtype=np.uint16)
    image = load_image(png(tmp_path, values), (1, 1, 3))
    np.testing.assert_array_equal(image[0, 0], values[0].astype(np.float32) / np.float32(65535))


def test_sixteen_bit_colour_is_refused_rather_than_rounded(tmp_path):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"\0" + bytes(6))), chunk(b"IEND", b"")]
    path = tmp_path / "deep.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    with pytest.raises(ImageError, match="16 bits per colour"):
        load_image(path, (3, 1, 1))


def test_palette_and_one_bit_are_converted(tmp_path, bytes_rgb):
    palette = load_image(png(tmp_path, bytes_rgb, "P"), RGB)
    assert palette.shape == RGB
    bits = load_image(png(tmp_path, bytes_rgb, "1"), GREY)
    assert set(np.unique(bits)) <= {0.0, 1.0}


def test_jpeg_is_read(tmp_path, bytes_grey):
    path = tmp_path / "image.jpg"
    Image.fromarray(bytes_grey).save(path, quality=95)
    assert load_image(path, GREY).shape == GREY


def test_opaque_alpha_is_dropped_and_transparency_refused(tmp_path, bytes_rgb):
    opaque = np.dstack([bytes_rgb, np.full((4, 6), 255, dtype=np.uint8)])
    assert load_image(png(tmp_path, opaque), RGB).shape == RGB
    opaque[0, 0, 3] = 7
    with pytest.raises(ImageError, match=r"transparent.*flatten"):
        load_image(png(tmp_path, opaque), RGB)


def test_rgb_with_equal_channels_passes_as_grey(tmp_path, bytes_grey):
    image = load_image(png(tmp_path, np.dstack([bytes_grey] * 3)), GREY)
    np.testing.assert_array_equal(image[0], bytes_grey.astype(np.float32) / np.float32(255))


def test_channels_that_differ_are_an_error_unless_resized(tmp_path, bytes_grey, bytes_rgb):
    with pytest.raises(ImageError, match=r"colour.*--resize"):
        load_image(png(tmp_path, bytes_rgb), GREY)
    assert load_image(png(tmp_path, bytes_rgb), GREY, resize=True).shape == GREY
    with pytest.raises(ImageError, match=r"grey.*--resize"):
        load_image(png(tmp_path, bytes_grey), RGB)
    assert load_image(png(tmp_path, bytes_grey), RGB, resize=True).shape == RGB


def test_wrong_size_names_both_sizes_and_the_remedy(tmp_path, bytes_grey):
    with pytest.raises(ImageError, match=r"6 x 4 .*8 x 5; scale it with --resize"):
        load_image(png(tmp_path, bytes_grey), (1, 5, 8))


def test_resize_keeps_flat_images_flat_and_values_in_range(tmp_path, bytes_grey):
    flat = load_image(png(tmp_path, np.full((4, 6), 128, dtype=np.uint8)), (1, 9, 5), resize=True)
    np.testing.assert_allclose(flat, 128 / 255, atol=1e-6)
    scaled = load_image(png(tmp_path, bytes_grey), (1, 13, 11), resize=True)
    assert scaled.min() >= 0
    assert scaled.max() <= 1


def test_resize_changes_nothing_at_the_right_size(tmp_path, bytes_grey):
    path = png(tmp_path, bytes_grey)
    np.testing.assert_array_equal(load_image(path, GREY, resize=True), load_image(path, GREY))


@pytest.mark.parametrize("shape", [(4, 6), (1, 4, 6), (4, 6, 1), (1, 1, 4, 6)])
def test_npy_axes(tmp_path, bytes_grey, shape):
    expected = bytes_grey.astype(np.float32) / np.float32(255)
    for array in (bytes_grey, expected, expected.astype(np.float64)):
        np.testing.assert_array_equal(load_image(npy(tmp_path, array.reshape(shape)), GREY)[0], expected)


def test_npy_channels_last(tmp_path, bytes_rgb):
    image = load_image(npy(tmp_path, bytes_rgb), RGB)
    np.testing.assert_array_equal(image[1], bytes_rgb[..., 1].astype(np.float32) / np.float32(255))


def test_npy_with_unclear_axes_is_an_error(tmp_path):
    with pytest.raises(ImageError, match="channel axis is not clear"):
        load_image(npy(tmp_path, np.zeros((3, 9, 3), dtype=np.float32)), (1, 4, 6), resize=True)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((4, 6), np.nan, dtype=np.float32), "NaN or infinite.*first is at"),
        (np.full((4, 6), np.inf, dtype=np.float32), "NaN or infinite"),
        (np.full((4, 6), 200.0, dtype=np.float32), "0 to 255; divide by 255"),
        (np.full((4, 6), -0.4, dtype=np.float32), "normalised.*--mean and --std"),
        (np.full((4, 6), 3, dtype=np.int64), "int64"),
        (np.zeros(24, dtype=np.float32), "give one image"),
        (np.zeros((2, 1, 4, 6), dtype=np.float32), "give one image"),
        (np.array(["a"]), "<U1"),
    ],
)
def test_npy_that_can_not_be_used(tmp_path, array, message):
    with pytest.raises(ImageError, match=message):
        load_image(npy(tmp_path, array), GREY)


def test_vectors_need_exactly_the_networks_shape(tmp_path):
    vector = np.array([0.5, -3.0, 9.0])
    np.testing.assert_array_equal(load_image(npy(tmp_path, vector), (3,)), vector.astype(np.float32))
    with pytest.raises(ImageError, match=r"has shape \(3,\), the network reads \(4,\)"):
        load_image(npy(tmp_path, vector), (4,))
    with pytest.raises(ImageError, match="not images"):
        load_image(png(tmp_path, np.zeros((2, 2), dtype=np.uint8)), (4,))


def test_pickled_npy_is_refused(tmp_path):
    path = tmp_path / "image.npy"
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ImageError, match="not a readable NPY"):
        load_image(path, GREY)


@pytest.mark.parametrize("suffix", ["png", "jpg", "npy"])
def test_truncated_files(tmp_path, suffix):
    path = tmp_path / f"image.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (40, 60), dtype=np.uint8)
    np.save(path, noise) if suffix == "npy" else Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ImageError, match=r"damaged|readable"):
        load_image(path, (1, 40, 60))


def test_animated_empty_missing_and_foreign_files(tmp_path):
    frames = [Image.new("L", (6, 4), shade) for shade in (0, 90)]
    animated = tmp_path / "animated.png"
    frames[0].save(animated, save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match="animated"):
        load_image(animated, GREY)
    (tmp_path / "empty.png").touch()
    with pytest.raises(ImageError, match="empty"):
        load_image(tmp_path / "empty.png", GREY)
    with pytest.raises(ImageError, match="does not exist"):
        load_image(tmp_path / "missing.png", GREY)
    with pytest.raises(ImageError, match="can't be read"):
        load_image(tmp_path, GREY)
    frames[0].save(tmp_path / "image.gif")
    with pytest.raises(ImageError, match="convert it to PNG"):
        load_image(tmp_path / "image.gif", GREY)


def test_saved_arrays_come_back_and_bad_places_leave_nothing(tmp_path):
    array = np.random.default_rng(0).random((1, 4, 6), dtype=np.float32)
    save_array(tmp_path / "witness.npy", array)
    np.testing.assert_array_equal(np.load(tmp_path / "witness.npy"), array)
    assert [path.name for path in tmp_path.iterdir()] == ["witness.npy"]
    with pytest.raises(InputError, match="does not exist"):
        save_array(tmp_path / "nowhere" / "witness.npy", array)
