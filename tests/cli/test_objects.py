import numpy as np
import pytest
from mlverify.cli.objects import find_objects
from mlverify.cli.options import DecisionOptions, DecisionRule, NetworkOptions
from mlverify.cli.question import ask
from mlverify.errors import InputError
from mlverify.synthesis.localisation import Method
from mlverify.verifier.preprocessing import Layout
from onnx_factory import dense_network, linear_network
from PIL import Image

READING = NetworkOptions(None, (), (), Layout.NCHW)
TOP_1 = DecisionOptions(DecisionRule.TOP_K, 1, None)


@pytest.fixture
def question(tmp_path):
    weights = np.zeros((3, 32, 32))
    weights[0, :16], weights[1, 16:], weights[2] = 1.0, 1.0, -1.0
    model = linear_network(tmp_path / "halves.onnx", weights.reshape(3, -1), (1, 32, 32))
    pixels = np.zeros((32, 32), dtype=np.uint8)
    pixels[4:9, 4:9], pixels[22:28, 22:28] = 200, 255
    Image.fromarray(pixels).save(tmp_path / "image.png")
    return ask(
        model, tmp_path / "image.png", READING, DecisionOptions(DecisionRule.TOP_K, 2, None), resize=False
    )


def test_the_object_of_a_label(question):
    found = find_objects(question, [0], [])
    assert found.layers.pixels[0] == 25
    assert [item.method for item in found.localisations] == [Method.OCCLUSION]
    assert found.doubt is None


def test_a_mask_wins(question, tmp_path):
    pixels = np.zeros((32, 32), dtype=np.uint8)
    pixels[1, 1] = 255
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    found = find_objects(question, [0], [tmp_path / "mask.png"])
    assert found.layers.pixels[0] == 1
    assert found.localisations == ()


def test_neither_mask_nor_label(question):
    with pytest.raises(InputError, match="--object or mark it with --mask"):
        find_objects(question, [], [])


def test_networks_that_read_no_images_have_no_objects(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros(4, dtype=np.float32))
    vector = ask(dense_network(tmp_path / "n.onnx"), tmp_path / "x.npy", READING, TOP_1, resize=False)
    with pytest.raises(InputError, match="layers need images"):
        find_objects(vector, [0], [])
