"""Shapes of epsilons against what they promise, on random vectors."""

import numpy as np
import pytest
from mlverify.errors import PropertyError
from mlverify.synthesis.shape import Order, Shape

SHAPES = [
    Shape.free(6),
    Shape.tied(6, 2),
    Shape.tied(6, 4, Order.NON_INCREASING),
    Shape.starting(6, [0, 1, 4], Order.NON_DECREASING),
    Shape(np.arange(6), Order.NON_INCREASING),
    Shape(np.zeros(6, dtype=np.int64)),
]


def has_shape(shape, epsilons):
    tied = all(len(set(epsilons[shape.bands == band])) == 1 for band in range(shape.count))
    steps = np.diff(epsilons)
    falls, rises = (steps <= 1e-12).all(), (steps >= -1e-12).all()
    return tied and {Order.FREE: True, Order.NON_INCREASING: falls, Order.NON_DECREASING: rises}[shape.order]


@pytest.mark.parametrize("shape", SHAPES)
def test_generators_make_exactly_the_vectors_of_the_shape(shape):
    rng = np.random.default_rng(0)
    for _ in range(50):
        made = shape.generators @ rng.random(shape.count)
        assert has_shape(shape, np.round(made, 12))
        np.testing.assert_allclose(shape.generators @ shape.coefficients(made), made, atol=1e-12)
        assert (shape.coefficients(made) >= -1e-12).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_the_largest_vector_inside(shape):
    rng = np.random.default_rng(1)
    for _ in range(50):
        epsilons = rng.random(6)
        inside = shape.inside(epsilons)
        assert has_shape(shape, inside)
        assert (inside <= epsilons).all()
        np.testing.assert_array_equal(shape.inside(inside), inside)
        # no other vector of the shape below the same epsilons is above it anywhere
        other = shape.inside(np.minimum(epsilons, rng.random(6)))
        assert (other <= inside).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_every_expansion_that_reaches_a_value_contains_the_raised_vector(shape):
    rng = np.random.default_rng(2)
    for _ in range(50):
        epsilons = shape.inside(rng.random(6))
        larger = shape.inside(np.maximum(epsilons, rng.random(6)))
        larger = np.maximum(larger, epsilons)
        layer = int(rng.integers(6))
        raised = shape.raised(epsilons, layer, float(larger[layer]))
        assert has_shape(shape, raised)
        assert (raised >= epsilons).all()
        assert raised[layer] >= larger[layer]
        if has_shape(shape, larger):
            assert (raised <= larger).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_some_layers_lift_no_more_than_the_shape_asks_for(shape):
    for chosen in np.ndindex((2,) * 6):
        layers = np.array(chosen, dtype=bool)
        spanned = shape.spanned(layers)
        np.testing.assert_array_equal(shape.inside(spanned), spanned)
        assert (spanned[layers] == 1).all()
        # whatever else has the shape and these layers has all of it
        assert all(
            shape.inside(1.0 - np.eye(6)[layer])[layers].min(initial=1) < 1
            for layer in np.flatnonzero(spanned)
        )


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Shape.tied(6, 7), "6 layers can't be tied into 7 bands"),
        (lambda: Shape.tied(6, 0), "1 to 6"),
        (lambda: Shape.starting(6, [1, 3]), "begin with 0"),
        (lambda: Shape.starting(6, [0, 3, 3]), "rise"),
        (lambda: Shape.starting(6, [0, 6]), "below 6"),
        (lambda: Shape(np.array([0, 2])), "numbered 0, 1, 2"),
    ],
)
def test_shapes_that_contradict_themselves(make, words):
    with pytest.raises(PropertyError, match=words):
        make()


def test_generators_without_weight_do_not_grow():
    weights = np.array([0.0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(Shape.tied(6, 3).grows(weights), [False, True, True])
    assert Shape(np.arange(6), Order.NON_INCREASING).grows(weights).sum() == 3
