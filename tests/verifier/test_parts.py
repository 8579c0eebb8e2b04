"""Parts of an objective: they add up to it, and their trees agree with the whole program's and with the MILP."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from mlverify.verifier import part_search
from mlverify.verifier.affine import AffineMap
from mlverify.verifier.bounds_engine import BoundsEngine
from mlverify.verifier.budget import Budget
from mlverify.verifier.image import load_image
from mlverify.verifier.margins import proof_margin
from mlverify.verifier.max_ascent import FIRST
from mlverify.verifier.max_bounding import Bounding
from mlverify.verifier.max_bounds import MaxBounds
from mlverify.verifier.max_parts import split_objective
from mlverify.verifier.max_program import max_program
from mlverify.verifier.max_search import Search, SearchEnd, SearchSettings
from mlverify.verifier.max_tighten import tighten_program
from mlverify.verifier.onnx_reader import load_network
from mlverify.verifier.part_prices import cut_objective
from mlverify.verifier.part_search import PartSearch
from mlverify.verifier.parts_search import PartsSearch
from mlverify.verifier.property import top_k
from mlverify.verifier.region import Region
from mlverify.verifier.set_search import SetSearch
from soundness.grid_networks import OVERLAP, POOLED, TILES, grid_network, question

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def programs(tmp_path, layers, seed, epsilon, *, pool=False):
    network = grid_network(tmp_path / "grid.onnx", layers, seed, pool=pool)
    region, asked = question(network, seed, epsilon)
    values = BoundsEngine(network).crown(region, asked).values
    return network, region, asked, values, max_program(network, values, asked.clauses[0])


KINDS = [(TILES, False), (OVERLAP, False), (POOLED, True)]


@pytest.mark.parametrize(("layers", "pool"), KINDS)
def test_parts_take_every_node_that_the_objective_reads(tmp_path, layers, pool):
    *_, program = programs(tmp_path, layers, 1, 0.1, pool=pool)
    generator = np.random.default_rng(0)
    row = generator.normal(size=program.atoms.constant.size) @ program.atoms.matrix.toarray()
    parts = split_objective(program, row)
    total = np.zeros(len(row))
    for part in parts:
        total[part.columns] += part.program.atoms.matrix.toarray()[0]
    pixels = len(program.pixels)
    np.testing.assert_array_equal(total[pixels:], row[pixels:])
    assert len(parts) > 1
    if layers is TILES:
        copies = np.concatenate([part.columns for part in parts])
        assert len(np.unique(copies)) == len(copies)


def whole_root(program, atoms):
    bounding = Bounding(program)
    return bounding, bounding.bound(bounding.roots([atoms]), 20, np.inf, Budget(), FIRST).domains[0]


@pytest.mark.parametrize(("layers", "pool"), KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_parts_and_rest_are_never_below_the_objective(tmp_path, layers, pool, seed):
    *_, program = programs(tmp_path, layers, seed, 0.1, pool=pool)
    bounding, root = whole_root(program, [0, 1])
    cut = cut_objective(bounding, root)
    box = program.box
    points = torch.tensor(np.random.default_rng(seed).uniform(box.lower, box.upper, (200, len(box.lower))).T)
    values = bounding.sure.atoms.forward(points, bounding.sure.exact(points)[1]).numpy()
    total = np.full(200, cut.rest)
    for part in cut.parts:
        own, inner = MaxBounds(part.program), points[torch.as_tensor(part.pixels)]
        total += own.atoms.forward(inner, own.exact(inner)[1])[0].numpy()
    assert (total >= cut.weights @ values).all()


@pytest.mark.parametrize(("layers", "pool"), KINDS)
def test_the_parts_root_bounds_add_up_to_that_of_the_whole(tmp_path, layers, pool):
    *_, program = programs(tmp_path, layers, 2, 0.1, pool=pool)
    bounding, root = whole_root(program, [0, 1])
    cut = cut_objective(bounding, root)
    total = cut.rest
    for part, own in zip(cut.parts, cut.roots, strict=True):
        total += Bounding(part.program).confirmed([replace(own, bound=0.0)], np.inf)[0].bound
    assert total == pytest.approx(bounding.confirmed([root], np.inf)[0].bound, abs=1e-6)


@pytest.mark.parametrize(("layers", "pool"), KINDS)
@pytest.mark.parametrize("seed", range(6))
def test_agrees_with_the_tree_of_the_whole_and_with_samples(tmp_path, layers, pool, seed):
    epsilon = float(np.random.default_rng(seed).uniform(0.02, 0.1))
    network, _, asked, values, program = programs(tmp_path, layers, seed, epsilon, pool=pool)
    bounding, margin = Bounding(program), proof_margin(values, network.output)
    for atom in range(asked.clauses[0].atoms):
        root = bounding.roots([[atom]])[0]
        found = PartsSearch(bounding, root, margin, SearchSettings()).run(Budget.of_seconds(1))
        whole = Search(bounding, root, margin, SearchSettings()).run(Budget.of_seconds(1))
        assert {found.end, whole.end} != {SearchEnd.REFUTED, SearchEnd.CANDIDATE}
        best = sampled(bounding, atom, seed)
        assert found.bound >= best
        if found.end is SearchEnd.REFUTED:
            assert found.bound < -margin


def sampled(bounding, atom, seed):
    box = bounding.program.box
    corners = np.random.default_rng(seed).integers(0, 2, (500, len(box.lower)))
    points = torch.tensor(np.where(corners, box.upper, box.lower).T)
    return float(bounding.sure.atoms.forward(points, bounding.sure.exact(points)[1])[atom].max())


@pytest.mark.skipif(not SHARED.exists(), reason="needs MuLLoC's networks in ../shared/data")
def test_trees_of_parts_add_up_where_one_tree_multiplies():
    """A full-image question on a published network whose windows do not overlap: 16 blocks."""
    network = load_network(SHARED / "mulloc" / "dmnist_noDef_x2.onnx")
    image = load_image(SHARED / "mulloc" / "sample_100_73.png", network.input_shape)
    asked = top_k(len(network.labels), 7, 2)
    first = BoundsEngine(network).crown(Region.linf(image, 0.0038), asked)
    clause = asked.clauses[0]
    tight = tighten_program(network, first.values, clause, Budget())
    bounding, margin = Bounding(tight.program), proof_margin(tight.values, network.output)
    # atoms are the other labels in order: these are 1 and 3
    root = bounding.bound(bounding.roots([[1, 3]]), 30, margin, Budget(), FIRST).domains[0]
    parts = PartsSearch(bounding, root, margin, SearchSettings()).run(Budget.of_seconds(60))
    whole = Search(bounding, root, margin, SearchSettings()).run(Budget.of_seconds(60))
    assert parts.end is whole.end is SearchEnd.REFUTED
    assert parts.domains < whole.domains / 2
    both = SetSearch(bounding, root, margin, SearchSettings()).run(Budget.of_seconds(60))
    assert both.end is SearchEnd.REFUTED
    assert both.bound < -margin


def test_turns_stop_and_go_on(tmp_path):
    *_, program = programs(tmp_path, POOLED, 0, 0.1, pool=True)
    bounding = Bounding(program)
    search = SetSearch(bounding, bounding.roots([[0]])[0], 1e-6, SearchSettings())
    assert search.run(Budget.of_seconds(0)).end is SearchEnd.STOPPED
    found = search.run(Budget.of_seconds(2))
    assert found.domains == search.seen > 0


def test_parts_respect_the_memory_ceiling(tmp_path):
    *_, program = programs(tmp_path, TILES, 0, 0.1)
    bounding = Bounding(program)
    atoms = range(program.atoms.constant.size)
    roots = bounding.roots([[atom] for atom in atoms])
    ends = [PartsSearch(bounding, root, 1e-6, SearchSettings(memory=1)).run(Budget()).end for root in roots]
    assert SearchEnd.FULL in ends
    assert SearchEnd.REFUTED not in ends


def test_two_runs_do_the_same(tmp_path):
    *_, program = programs(tmp_path, OVERLAP, 1, 0.05)
    runs = []
    for _ in range(2):
        bounding = Bounding(program)
        search = SetSearch(bounding, bounding.roots([[1]])[0], 1e-6, SearchSettings())
        found = search.run(Budget())
        runs.append((found.end, found.domains, found.bound))
    assert runs[0] == runs[1]


class Breaking(Budget):
    """A budget that is asked a few times, then breaks off what asks."""

    def __init__(self, times):
        left = iter(range(times))

        def cancelled():
            if next(left, None) is None:
                raise KeyboardInterrupt
            return False

        super().__init__(cancelled=cancelled)


@pytest.mark.parametrize("kind", [Search, PartsSearch, SetSearch])
@pytest.mark.parametrize("times", [1, 2, 6, 103, 106])
def test_what_was_broken_off_proves_nothing(tmp_path, kind, times):
    """The atom reaches zero: whatever a break loses, no later run may refute it."""
    *_, program = programs(tmp_path, TILES, 0, 0.1)
    shift = 1e-6 - max(sampled(Bounding(program), 0, seed) for seed in range(4))
    atoms = AffineMap(program.atoms.matrix, program.atoms.constant + shift)
    bounding = Bounding(replace(program, atoms=atoms))
    search = kind(bounding, bounding.roots([[0]])[0], 1e-7, SearchSettings())
    with suppress(KeyboardInterrupt):
        assert search.run(Breaking(times)).end is not SearchEnd.REFUTED
    found = search.run(Budget.of_seconds(0.2))
    assert found.end is not SearchEnd.REFUTED
    assert found.bound >= 0


def test_parts_that_were_not_prepared_prove_nothing(tmp_path, monkeypatch):
    *_, program = programs(tmp_path, TILES, 0, 0.1)
    atoms = AffineMap(program.atoms.matrix, program.atoms.constant + 100.0)
    bounding = Bounding(replace(program, atoms=atoms))
    search = PartsSearch(bounding, bounding.roots([[0]])[0], 1e-7, SearchSettings())

    def cut(*args):
        found = cut_objective(*args)
        return replace(found, rest=-1e9)

    def broken(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("mlverify.verifier.parts_search.cut_objective", cut)
    monkeypatch.setattr("mlverify.verifier.parts_search.PartSearch", broken)
    with pytest.raises(KeyboardInterrupt):
        search.run(Budget())
    assert search.run(Budget()).end is not SearchEnd.REFUTED


def test_a_confirmation_that_was_broken_off_is_made_again(tmp_path, monkeypatch):
    """Bounds found in float32 alone must not pass for those in float64 afterwards."""
    *_, program = programs(tmp_path, TILES, 0, 0.1)
    bounding, root = whole_root(program, [0])
    cut = cut_objective(bounding, root)
    part = PartSearch(cut.parts[0], cut.roots[0], SearchSettings())
    for _ in range(2):
        part.advance(Budget())
    true = part.bounding.confirmed(part.tree.leaves, np.inf)
    part._open = [replace(leaf, domain=replace(leaf.domain, bound=-1e9)) for leaf in part._open]

    def broken(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(part_search, "replace", broken)
        with pytest.raises(KeyboardInterrupt):
            part.confirm()
    for _ in range(2):
        part.confirm()
        assert sorted(leaf.bound for leaf in part.tree.leaves) == sorted(leaf.bound for leaf in true)
