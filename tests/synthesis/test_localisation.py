import numpy as np
import pytest
from mlverify.errors import ImageError
from mlverify.synthesis.localisation import Method, gradient_function, locate
from mlverify.verifier.onnx_reader import load_network
from mlverify.verifier.session import Judge
from onnx_factory import linear_network

# label 0 is a bright square in the top left quarter, 1 in the bottom right, 2 in the top right
QUARTERS = [(slice(0, 16), slice(0, 16)), (slice(16, 32), slice(16, 32)), (slice(0, 16), slice(16, 32))]


def quarter_weights():
    weights = np.zeros((4, 1, 32, 32))
    for label, (rows, columns) in enumerate(QUARTERS):
        weights[label, 0, rows, columns] = 1.0
    return weights.reshape(4, -1)


def scores(images):
    return (images.reshape(len(images), -1) @ quarter_weights().T).astype(np.float32)


def gradient(images, label):
    return np.broadcast_to(quarter_weights()[label].reshape(1, 32, 32), images.shape).astype(np.float32)


def scene(*quarters, value=1.0):
    image = np.zeros((1, 32, 32), dtype=np.float32)
    for quarter in quarters:
        rows, columns = QUARTERS[quarter]
        image[0, rows.start + 4 : rows.start + 10, columns.start + 4 : columns.start + 10] = value
    return image


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("by_gradient", [False, True])
def test_each_label_gets_its_own_object(label, by_gradient):
    found = locate(scores, scene(0, 1), label, (0, 1), gradient if by_gradient else None)
    np.testing.assert_array_equal(found.mask, scene(label)[0] > 0)
    assert found.method is (Method.GRADIENT if by_gradient else Method.OCCLUSION)
    assert found.components == 2
    assert found.confidence == pytest.approx(1.0)


def test_dark_objects_on_white():
    def inverted(images):
        return scores(1 - images)

    found = locate(inverted, 1 - scene(0, 1, value=0.7), 1, (0, 1))
    np.testing.assert_array_equal(found.mask, scene(1)[0] > 0)


def test_distant_parts_of_one_label_are_merged_and_clutter_is_left_out():
    image = scene(1)
    image[0, 1:6, 1:6] = 1.0
    image[0, 10:15, 10:15] = 1.0
    image[0, 26:31, 1:6] = 1.0  # in the quarter of no label
    found = locate(scores, image, 0, (0, 1))
    assert found.components == 4
    assert found.mask.sum() == 50
    assert not found.mask[16:].any()


def test_one_network_output_that_moves_with_everything_does_not_take_all():
    def biased(images):
        return scores(images) + 0.9 * images.sum(axis=(1, 2, 3), keepdims=False)[:, None] * np.array(
            [1, 0, 0, 0]
        )

    for label in (0, 1):
        found = locate(biased, scene(0, 1), label, (0, 1))
        np.testing.assert_array_equal(found.mask, scene(label)[0] > 0)


def test_touching_objects_are_divided_by_what_the_network_sees():
    image = np.zeros((1, 32, 32), dtype=np.float32)
    image[0, 10:22, 10:22] = 1.0
    image[0, 10:16, 16:22] = 0.0
    image[0, 16:22, 10:16] = 0.0
    found = locate(scores, image, 0, (0, 1))
    assert found.method is Method.SALIENCY
    truth = np.zeros((32, 32), dtype=bool)
    truth[10:16, 10:16] = True
    assert (found.mask & truth).sum() > 0.5 * (found.mask | truth).sum()


def test_photos_fall_back_on_saliency():
    image = np.random.default_rng(0).random((1, 32, 32), dtype=np.float32)
    mean = image.mean()
    found = locate(lambda images: scores(np.abs(images - mean)), image, 1)
    assert found.method is Method.SALIENCY
    assert found.components == 0
    assert found.mask[16:, 16:].sum() > 0.9 * found.mask.sum()


def test_a_label_nobody_speaks_for_is_an_error_with_a_remedy():
    with pytest.raises(ImageError, match=r"label 3; mark its pixels with --mask"):
        locate(scores, scene(0, 1), 3)
    with pytest.raises(ImageError, match=r"--mask"):
        locate(
            lambda images: np.zeros((len(images), 4), dtype=np.float32), np.zeros((1, 32, 32), np.float32), 0
        )


def test_a_constant_network_finds_nothing():
    with pytest.raises(ImageError, match="--mask"):
        locate(lambda images: np.ones((len(images), 4), dtype=np.float32), scene(0, 1), 0)


def test_through_onnx_scores_and_gradients_agree(tmp_path):
    network = load_network(linear_network(tmp_path / "quarters.onnx", quarter_weights(), (1, 32, 32)))
    judge = Judge(network)
    for label in (0, 2):
        by_score = locate(judge.scores, scene(0, 2), label, (0, 2))
        by_gradient = locate(judge.scores, scene(0, 2), label, (0, 2), gradient_function(network))
        np.testing.assert_array_equal(by_score.mask, by_gradient.mask)
        np.testing.assert_array_equal(by_score.mask, scene(label)[0] > 0)
