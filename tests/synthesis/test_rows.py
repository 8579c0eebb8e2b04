import numpy as np
import pytest
import torch
from mlverify.adam import descend
from mlverify.synthesis.rows import ROW_LIMIT
from mlverify.verifier.cover import is_proved
from mlverify.verifier.property import Clause
from scenes import small_scene


def prepared(scene, k, epsilon=0.02, dtype=torch.float64):
    rows = scene.rows(dtype, k)
    order = np.argsort(-rows.atoms(epsilon))
    rows.set_together([int(atom) for atom in order[: k - 1]])
    return rows, rows.linear.tensor(np.full(scene.count, epsilon))


def covers(rows):
    """Whether the rows, all refuted, prove the clause."""
    return is_proved(rows.clause.atoms, rows.clause.needed, [frozenset(item) for item in rows.subsets])


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_rows_cover_the_clause_and_keep_doing_so_as_they_widen(scene, k):
    rows, epsilons = prepared(scene, k)
    assert covers(rows)
    widened = 0
    while rows.can_widen():
        before = list(rows.subsets)
        rows.widen(epsilons)
        widened += 1
        assert covers(rows)
        assert len(rows.shares) == len(rows.subsets) <= ROW_LIMIT
        # one atom that was alone is not any more
        assert sum(len(item) == 1 for item in rows.subsets) == sum(len(item) == 1 for item in before) - 1
    # with k = 1 there is nothing to combine, else one atom always stays alone
    assert widened == (0 if k == 1 else scene.clause(k).atoms - (k - 1) - 1)


@pytest.mark.parametrize("k", [2, 3])
def test_no_row_can_be_spared(scene, k):
    rows, epsilons = prepared(scene, k)
    rows.widen(epsilons)
    for spared in range(len(rows.subsets)):
        left = [frozenset(item) for row, item in enumerate(rows.subsets) if row != spared]
        assert not is_proved(rows.clause.atoms, rows.clause.needed, left)


def random_freedom(rows, epsilons, seed):
    """Slopes and shares anywhere they are allowed to be."""
    generator = torch.Generator().manual_seed(seed)
    rows.free_slopes(epsilons)
    with torch.no_grad():
        for parameter in rows.slopes.positions():
            parameter.copy_(torch.rand(parameter.shape, generator=generator, dtype=parameter.dtype))
        for parameter in rows.slopes.weights():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype) * 5)
        rows.shares.copy_(torch.rand(rows.shares.shape, generator=generator, dtype=rows.shares.dtype) + 0.01)


@pytest.mark.parametrize("freed", [False, True])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_rows_bound_the_images_of_the_neighbourhood(scene, k, freed):
    rows, _ = prepared(scene, k)
    generator = np.random.default_rng(k)
    for trial in range(4):
        values = generator.random(scene.count) * 0.2
        epsilons = rows.linear.tensor(values)
        if rows.can_widen():
            rows.widen(epsilons)
        if freed:
            random_freedom(rows, epsilons, trial)
        with torch.no_grad():
            upper = rows.upper(epsilons).numpy()
            atoms = rows.linear.module(torch.tensor(scene.samples(values, 60, trial), dtype=torch.float64))
        atoms = rows.clause.values(atoms.numpy())
        shares = rows.shares.detach().numpy()
        for row, subset in enumerate(rows.subsets):
            mix = shares[row, : len(subset)] / shares[row, : len(subset)].sum()
            assert (atoms[:, subset] @ mix <= upper[row] + 1e-9).all()


def test_the_zero_neighbourhood_has_the_values_of_the_clean_image(plain_scene):
    rows, _ = prepared(plain_scene, 2)
    zero = rows.linear.tensor(np.zeros(plain_scene.count))
    values = plain_scene.clause().values(
        rows.linear.module(torch.tensor(plain_scene.image[None], dtype=torch.float64)).numpy()
    )[0]
    with torch.no_grad():
        upper = rows.upper(zero).numpy()
    for row, subset in enumerate(rows.subsets):
        assert upper[row] == pytest.approx(values[list(subset)].mean(), abs=1e-6)
    np.testing.assert_allclose(rows.atoms(0.0), values, atol=1e-6)


def test_gradients_say_how_rows_grow(scene):
    rows, _ = prepared(scene, 2)
    values = np.full(scene.count, 0.05)
    variable = rows.linear.tensor(values).requires_grad_()
    upper = rows.upper(variable)
    (slope,) = torch.autograd.grad(upper[0], variable)
    for layer in range(scene.count):
        moved = [values + sign * 1e-6 * np.eye(scene.count)[layer] for sign in (1, -1)]
        with torch.no_grad():
            high, low = (float(rows.upper(rows.linear.tensor(item))[0]) for item in moved)
        assert (high - low) / 2e-6 == pytest.approx(float(slope[layer]), rel=1e-3, abs=1e-4)


def test_record_keeps_the_largest_and_zero_weight_layers_at_zero(scene):
    weights = np.array([1.0, 0, 2, 1, 1, 1])
    rows = scene.rows(torch.float64, weights=weights)
    rows.set_together([0])
    rows.record(rows.linear.tensor(np.full(6, 0.2)))
    assert rows.best.epsilons.tolist() == [0.2, 0, 0.2, 0.2, 0.2, 0.2]
    assert rows.best.size == pytest.approx(1.2)
    rows.record(rows.linear.tensor(np.full(6, 0.1)))
    assert rows.best.size == pytest.approx(1.2)
    # the layer without weight moves nothing: neither the size nor the box
    moved = np.array([0.2, 0.9, 0.2, 0.2, 0.2, 0.2])
    assert rows.worst(moved) == rows.worst(rows.best.epsilons)


def test_restore_goes_back_to_what_certified(scene):
    rows, epsilons = prepared(scene, 2)
    rows.widen(epsilons)
    random_freedom(rows, epsilons, 0)
    rows.record(epsilons)
    kept, value = rows.best, rows.worst(epsilons.numpy())
    rows.widen(epsilons)
    random_freedom(rows, epsilons, 1)
    assert rows.worst(epsilons.numpy()) != value
    rows.restore(kept)
    assert rows.worst(epsilons.numpy()) == value
    # what was recorded is a copy, not the parameters that climb on
    optimiser = rows.optimiser()
    descend(rows.upper(epsilons).sum(), optimiser)
    rows.clamp()
    assert rows.worst(epsilons.numpy()) != value
    assert rows.restore(kept).worst(epsilons.numpy()) == value


def test_widening_keeps_the_slopes_of_rows_that_stay(scene):
    rows, epsilons = prepared(scene, 2)
    random_freedom(rows, epsilons, 0)
    with torch.no_grad():
        before = dict(zip(rows.subsets, rows.upper(epsilons).tolist(), strict=True))
    rows.widen(epsilons)
    with torch.no_grad():
        after = dict(zip(rows.subsets, rows.upper(epsilons).tolist(), strict=True))
    alone = [item for item in rows.subsets if len(item) == 1]
    assert len(alone) == len(before) - 1
    for subset in alone:
        assert after[subset] == pytest.approx(before[subset], abs=1e-9)


def test_clamp_puts_everything_back_into_range(scene):
    rows, epsilons = prepared(scene, 2)
    rows.widen(epsilons)
    rows.free_slopes(epsilons)
    with torch.no_grad():
        for parameter in [*rows.slopes.positions(), rows.shares]:
            parameter.add_(3.0).mul_(-1.0)
    rows.clamp()
    for parameter in [*rows.slopes.positions(), rows.shares]:
        assert ((parameter >= 0) & (parameter <= 1)).all()


def test_single_precision_agrees_with_double(scene):
    single, epsilons = prepared(scene, 2, dtype=torch.float32)
    double, _ = prepared(scene, 2)
    assert single.worst(epsilons.numpy()) == pytest.approx(double.worst(epsilons.double().numpy()), abs=1e-3)


def test_a_clause_with_offsets(tmp_path):
    scene = small_scene(tmp_path, pool=False)
    plain = scene.clause(2)
    shifted = Clause(plain.weights, np.array([0.5, -1.0, 2.0, 0.0]), 2)
    rows = scene.rows(torch.float64)
    expected = rows.atoms(0.05) + shifted.offsets
    rows.clause = shifted
    np.testing.assert_allclose(rows.atoms(0.05), expected)


def test_queries_are_counted(scene):
    rows, epsilons = prepared(scene, 2)
    before = rows.queries
    rows.worst(epsilons.numpy())
    assert rows.queries == before + 1
