import io

import numpy as np
from mlverify.synthesis.foreground import find_foreground
from PIL import Image


def canvas(value=0.0, channels=1):
    return np.full((channels, 32, 32), value, dtype=np.float32)


def masks(image):
    found = find_foreground(image)
    assert found is not None
    return [np.argwhere(group).tolist() for group in found.groups]


def test_objects_are_told_apart_largest_first():
    image = canvas()
    image[0, 4:8, 4:8] = 0.5
    image[0, 20:26, 20:26] = 1.0
    sizes = [len(group) for group in masks(image)]
    assert sizes == [36, 16]


def test_faint_pixels_of_a_clean_image_belong_to_the_object():
    image = canvas()
    image[0, 4:8, 4:8] = 1.0
    image[0, 8, 4:8] = 1 / 255
    assert [len(group) for group in masks(image)] == [20]


def test_diagonal_pixels_and_close_strokes_are_one_object():
    image = canvas()
    image[0, 4, 4] = image[0, 5, 5] = 1.0
    image[0, 4:8, 7] = 1.0
    assert len(masks(image)) == 1


def test_a_speck_goes_to_its_nearest_object():
    image = canvas()
    image[0, 2:9, 2:9] = 1.0
    image[0, 22:29, 22:29] = 1.0
    image[0, 22, 16] = 1.0
    assert [len(group) for group in masks(image)] == [50, 49]


def test_background_may_be_white_or_coloured():
    white = canvas(1.0)
    white[0, 4:8, 4:8] = 0.2
    assert [len(group) for group in masks(white)] == [16]
    coloured = canvas(0.3, channels=3)
    coloured[1, 4:8, 4:8] = 0.9
    found = find_foreground(coloured)
    assert found is not None
    np.testing.assert_allclose(found.background, 0.3)


def test_jpeg_artefacts_do_not_glue_objects_together():
    image = canvas()
    image[0, 6:12, 6:12] = 1.0
    image[0, 20:26, 20:26] = 1.0
    stream = io.BytesIO()
    Image.fromarray((image[0] * 255).astype(np.uint8)).save(stream, "JPEG", quality=80)
    noisy = np.asarray(Image.open(stream), dtype=np.float32)[None] / 255
    assert len(masks(noisy)) == 2


def test_photos_and_empty_images_have_no_foreground():
    assert find_foreground(np.random.default_rng(0).random((3, 32, 32), dtype=np.float32)) is None
    assert find_foreground(canvas()) is None
