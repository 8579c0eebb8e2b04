import numpy as np
import pytest
from mlverify.errors import PropertyError
from mlverify.synthesis.cutting import Cutting, cut, fixed_weights, sensitivity_weights
from mlverify.verifier.onnx_reader import load_network
from mlverify.verifier.property import top_k
from mlverify.verifier.torch_network import TorchNetwork
from onnx_factory import linear_network

LAYERS = np.array([[0, 1, 2], [1, 1, 2]])


def test_fixed_weights_by_hand():
    np.testing.assert_allclose(fixed_weights(4), [3 / 4, 2 / 4, 1 / 4, 0])
    np.testing.assert_allclose(fixed_weights(2), [1 / 2, 0])
    np.testing.assert_array_equal(fixed_weights(1), [0])


def linear(folder, weight):
    return TorchNetwork(load_network(linear_network(folder / "n.onnx", weight, (1, 2, 3))))


def weights_at(folder, weight, bias_image, target=0, k=1):
    clause = top_k(len(weight), target, k).clauses[0]
    return sensitivity_weights(linear(folder, weight), bias_image, LAYERS, clause)


def test_sensitivity_of_a_linear_network_by_hand(tmp_path):
    # margin = score 1 - score 0, its gradient per pixel is [[-1, 2, 0], [0, -4, 0.5]]:
    # mean sizes per layer 1, (2 + 0 + 4) / 3 = 2, (0 + 0.5) / 2 = 0.25
    weight = np.array([[1.0, 0, 0, 1, 0, 0], [0.0, 2, 0, 1, -4, 0.5]])
    image = np.full((1, 2, 3), 0.5, np.float32)
    expected = (1 - np.array([1, 2, 0.25]) / 2) * 2 / 3
    np.testing.assert_allclose(weights_at(tmp_path, weight, image), expected, rtol=1e-6)


def test_sensitivity_takes_the_atom_that_is_the_margin(tmp_path):
    # atoms at this image: label 1 leads label 0 by 3, label 2 by -1; for k = 2 the second one counts
    weight = np.array([[0.0, 0, 0, 0, 0, 0], [3.0, 0, 0, 0, 0, 0], [0, 0, -1.0, 0, 0, 0]])
    image = np.ones((1, 2, 3), np.float32)
    np.testing.assert_allclose(weights_at(tmp_path, weight, image, k=1), np.array([0, 1, 1]) * 2 / 3)
    np.testing.assert_allclose(weights_at(tmp_path, weight, image, k=2), np.array([1, 1, 0]) * 2 / 3)


def test_sensitivity_averages_over_channels(tmp_path):
    weight = np.zeros((2, 12))
    weight[1, 0], weight[1, 6 + 1] = 2.0, -6.0
    network = TorchNetwork(load_network(linear_network(tmp_path / "n.onnx", weight, (2, 2, 3))))
    found = sensitivity_weights(network, np.zeros((2, 2, 3), np.float32), LAYERS, top_k(2, 0, 1).clauses[0])
    # layer 0: 2 / 2 channels; layer 1: 6 / 2 channels / 3 pixels; layer 2: nothing
    np.testing.assert_allclose(found, np.array([0, 0, 1]) * 2 / 3)


def test_a_network_that_does_not_react_is_cut_evenly(tmp_path):
    found = weights_at(tmp_path, np.zeros((2, 6)), np.zeros((1, 2, 3), np.float32))
    np.testing.assert_allclose(found, np.full(3, 2 / 3))


def test_cut_is_the_weighted_average():
    epsilons, robust = np.array([0.4, 0.4, 1.0]), np.array([0.2, 0.0, 0.5])
    np.testing.assert_allclose(cut(epsilons, robust, np.array([1.0, 0.25, 0.0])), [0.4, 0.1, 0.5])


def test_cut_lies_between_and_shrinks_every_layer_that_differs():
    generator = np.random.default_rng(0)
    for layers in (1, 2, 7):
        robust = generator.random(layers) / 2
        epsilons = robust + generator.random(layers) / 2
        found = cut(epsilons, robust, fixed_weights(layers))
        assert ((found >= robust) & (found < epsilons)).all()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([0.5], "1 layers"),
        ([0.5, 1.1], r"in \[0, 1\]"),
        ([-0.1, 0.5], r"in \[0, 1\]"),
        ([np.nan, 0], r"in \[0, 1\]"),
    ],
)
def test_cutting_weights_that_do_not_cut(weights, message):
    with pytest.raises(PropertyError, match=message):
        cut(np.ones(2), np.zeros(2), np.array(weights))


def test_names_on_the_command_line():
    assert [item.value for item in Cutting] == ["fixed", "sensitivity"]
