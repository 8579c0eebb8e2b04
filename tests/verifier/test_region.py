import numpy as np
import pytest
from mlverify.errors import PropertyError
from mlverify.verifier.region import Layered, Region


def image(*values):
    return np.array(values, dtype=np.float32)


def test_a_ball_is_clipped_to_the_pixel_range():
    region = Region.linf(image(0.0, 0.25, 1.0), 0.5)
    np.testing.assert_array_equal(region.lower, [0.0, 0.0, 0.5])
    np.testing.assert_array_equal(region.upper, [0.5, 0.75, 1.0])
    assert region.lower.dtype == region.upper.dtype == np.float64
    assert region.shape == (3,)


def test_epsilon_zero_is_the_image_itself():
    centre = image(0.1, 0.7)
    region = Region.linf(centre, 0.0)
    assert region.contains(centre)
    assert not region.moving.any()
    np.testing.assert_array_equal(region.project(np.array([5.0, -5.0])), centre)


def test_inputs_outside_the_pixel_range_only_come_nearer():
    region = Region.linf(image(-2.0, -0.1, 1.2, 3.0), 0.25)
    np.testing.assert_allclose(region.lower, [-2.0, -0.1, 0.95, 2.75], atol=1e-7)
    np.testing.assert_allclose(region.upper, [-1.75, 0.15, 1.2, 3.0], atol=1e-7)


def test_the_image_is_always_inside_and_nothing_is_further_than_epsilon():
    generator = np.random.default_rng(0)
    for _ in range(50):
        centre = generator.normal(0.5, 1.0, (2, 3)).astype(np.float32)
        epsilons = generator.random((2, 3)) * generator.integers(0, 2, (2, 3))
        region = Region.per_pixel(centre, epsilons)
        assert region.contains(centre)
        assert (centre - region.lower <= epsilons + 1e-15).all()
        assert (region.upper - centre <= epsilons + 1e-15).all()
        larger = Region.per_pixel(centre, epsilons + 0.1)
        assert (larger.lower <= region.lower).all()
        assert (larger.upper >= region.upper).all()


def test_containment_has_no_tolerance():
    region = Region.linf(image(0.5), 0.1)
    upper = np.float32(region.upper[0])
    inside = upper if upper <= region.upper[0] else np.nextafter(upper, np.float32(0))
    assert region.contains(np.array([inside]))
    assert not region.contains(np.array([np.nextafter(inside, np.float32(1))]))
    assert region.contains(region.upper)
    assert not region.contains(region.upper + 1e-15)
    assert not region.contains(np.array([np.nan]))
    assert not region.contains(np.array([np.inf]))


def test_projection_rounds_inward():
    generator = np.random.default_rng(1)
    for scale in (1.0, 1e-3, 1e-6):
        centre = generator.random((4, 5), dtype=np.float32)
        region = Region.per_pixel(centre, scale * generator.random((4, 5)))
        for point in (
            region.lower,
            region.upper,
            region.lower - 1,
            region.upper + 1,
            generator.normal(size=(4, 5)),
        ):
            projected = region.project(point)
            assert projected.dtype == np.float32
            assert region.contains(projected)
            nearest = np.clip(point, region.lower, region.upper)
            # half a unit in the last place for rounding, and one more for stepping inward
            assert (np.abs(projected - nearest) <= 2 * np.spacing(np.float32(1))).all()


def test_projection_leaves_points_of_the_region_alone():
    centre = image(0.2, 0.4)
    region = Region.linf(centre, 0.1)
    np.testing.assert_array_equal(region.project(image(0.25, 0.33)), image(0.25, 0.33))


def test_a_range_without_a_float32_number_is_noticed():
    bound = 0.1  # lies between two float32 numbers
    region = Region(np.array([bound]), np.array([bound]))
    assert not region.contains(region.project(np.array([0.1])))


@pytest.mark.parametrize(
    ("lower", "upper", "message"),
    [
        ([0.0, 0.6], [1.0, 0.5], r"at input \(1,\)"),
        ([0.0, np.nan], [1.0, 0.5], "NaN"),
        ([0.0, 0.0], [1.0, np.inf], "infinite"),
        ([0.0], [1.0, 1.0], "must agree"),
    ],
)
def test_bounds_that_make_no_box(lower, upper, message):
    with pytest.raises(PropertyError, match=message):
        Region(np.array(lower), np.array(upper))


@pytest.mark.parametrize("epsilon", [-1e-9, np.nan, np.inf])
def test_epsilons_that_make_no_sense(epsilon):
    with pytest.raises(PropertyError, match="finite and not negative"):
        Region.linf(image(0.5), epsilon)


def test_layers_give_every_pixel_of_all_channels_its_epsilon():
    layers = np.array([[0, 1], [1, 2]])
    centre = np.full((3, 2, 2), 0.5, np.float32)
    region = Layered(centre, layers, np.array([0.0, 0.125, 0.25])).region
    expected = np.array([[0, 0.125], [0.125, 0.25]])
    for channel in range(3):
        np.testing.assert_array_equal(region.upper[channel] - 0.5, expected)
        np.testing.assert_array_equal(0.5 - region.lower[channel], expected)


@pytest.mark.parametrize(
    ("layers", "count", "message"),
    [(np.zeros((2, 2), int), 2, "2 epsilons for 1 layers"), (np.zeros((3, 2), int), 1, "does not fit")],
)
def test_layers_that_do_not_fit(layers, count, message):
    with pytest.raises(PropertyError, match=message):
        Layered(np.zeros((1, 2, 2), np.float32), layers, np.zeros(count))
