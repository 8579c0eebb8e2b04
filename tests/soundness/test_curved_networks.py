"""Networks with Sigmoid and Tanh between layers: no engine says ``holds`` where a point says otherwise."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from mlverify.errors import ModelFormatError, UnsupportedOperatorError
from mlverify.verifier.bounds_engine import BoundsEngine
from mlverify.verifier.budget import Budget
from mlverify.verifier.input_split import InputSplit, SplitEnd, moving_inputs
from mlverify.verifier.linear_bounds import LinearBounds
from mlverify.verifier.narrowing import narrowed
from mlverify.verifier.network import Network
from mlverify.verifier.portfolio import Settings, Verifier
from mlverify.verifier.problem import Problem
from mlverify.verifier.property import Clause, Property
from mlverify.verifier.region import Region
from mlverify.verifier.result import Verdict
from mlverify.verifier.torch_network import TorchNetwork
from onnx_graphs import Graph
from soundness.random_networks import (
    all_corners,
    logits_at,
    points_of,
    random_image,
    random_network,
    random_property,
    random_region,
)

# bounds are float64
SLACK = 1e-9
SECONDS = 3.0


def random_case(seed: int, folder: Path) -> tuple[Network, Region, Property, np.random.Generator]:
    rng = np.random.default_rng(seed)
    try:
        network = random_network(folder / "random.onnx", rng, tiny=True, curved=True)
    except ModelFormatError as error:
        if "onnxruntime can't load it" in str(error):
            pytest.skip("onnxruntime can't load this network")
        raise
    image = random_image(rng, network.input_shape)
    region = random_region(rng, image)
    return network, region, random_property(rng, network, image), rng


def dense_points(rng: np.random.Generator, region: Region) -> np.ndarray:
    points, corners = points_of(rng, region, 3000), all_corners(region)
    return points if corners is None else np.concatenate([points, corners])


def check_verdict(seed: int, folder: Path) -> Verdict:
    """The portfolio's word against dense sampling."""
    network, region, question, rng = random_case(seed, folder)
    result = Verifier(network).verify(Problem(network, region, question), Budget.of_seconds(SECONDS))
    scores = logits_at(network, dense_points(rng, region))
    reached, size = float(question.margin(scores).max()), 1 + float(np.abs(scores).max())
    if result.margin_bound is not None:
        assert reached <= result.margin_bound + SLACK * size
    if result.verdict is Verdict.HOLDS:
        assert reached < 0
    elif result.verdict is Verdict.VIOLATED:
        assert result.witness is not None
        assert region.contains(result.witness.image)
        assert question.margin(logits_at(network, result.witness.image[None]))[0] >= -1e-5 * size
    return result.verdict


def check_tie(seed: int, folder: Path) -> None:
    """A question that some point answers with a tie never holds, however the bounds are computed."""
    network, region, question, rng = random_case(seed, folder)
    points = dense_points(rng, region)
    clause = question.clauses[0]
    atoms = logits_at(network, points) @ clause.weights.T + clause.offsets
    best = atoms[clause.margin(logits_at(network, points)).argmax()]
    # every atom reaches zero at that point
    tied = Property((Clause(clause.weights, clause.offsets - best, clause.needed),), "a tie")
    engine = BoundsEngine(network)
    first = engine.crown(region, tied)
    assert not first.proved
    assert not engine.descend(tied, first, Budget()).proved
    if 0 < moving_inputs(region) <= 4:
        split = InputSplit(engine.linear, region, tied.clauses)
        assert split.run(Budget.of_seconds(0.3)).end is not SplitEnd.PROVED


@pytest.mark.parametrize("seed", range(40))
def test_verdicts_against_dense_sampling(seed, tmp_path):
    check_verdict(seed, tmp_path)


@pytest.mark.parametrize("seed", range(500, 525))
def test_a_tie_never_holds(seed, tmp_path):
    check_tie(seed, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(20))
def test_many_more_verdicts(block, tmp_path):
    found = []
    for seed in range(10_000 + 50 * block, 10_050 + 50 * block):
        try:
            found.append(check_verdict(seed, tmp_path))
            check_tie(seed, tmp_path)
        except pytest.skip.Exception:
            continue
    assert found.count(Verdict.UNKNOWN) < 0.3 * len(found)


@pytest.mark.parametrize("brisk", [False, True])
@pytest.mark.parametrize("seed", range(30))
def test_better_lines_are_never_looser_and_never_too_low(seed, brisk, tmp_path):
    network, region, question, rng = random_case(seed, tmp_path)
    engine = BoundsEngine(network)
    first = engine.crown(region, question)
    second = engine.descend(question, first, Budget(), brisk=brisk)
    scores = logits_at(network, dense_points(rng, region))
    for clause, before, after in zip(question.clauses, first.clauses, second.clauses, strict=True):
        atoms = (scores @ clause.weights.T + clause.offsets).max(axis=0)
        assert (after.atom_upper <= before.atom_upper).all()
        assert (atoms <= after.atom_upper + SLACK * (1 + np.abs(atoms))).all()


def layered(folder: Path, activation: str, sizes: tuple[int, ...], seed: int) -> Network:
    graph = Graph(sizes[0], seed=seed)
    value = "input"
    for width, height in pairwise(sizes[:-1]):
        value = graph.add(activation, graph.dense(value, width, height))
    return graph.read(folder, graph.dense(value, sizes[-2], sizes[-1]))


@pytest.mark.parametrize("activation", ["Relu", "LeakyRelu", "Sigmoid", "Tanh"])
def test_the_second_layer_has_the_same_bounds_either_way(tmp_path, activation):
    network = layered(tmp_path, activation, (4, 9, 8, 3), seed=3)
    linear = LinearBounds(network)
    rng = np.random.default_rng(0)
    regions = [random_region(rng, random_image(rng, (4,)), 0.7) for _ in range(5)]
    with torch.no_grad():
        bounds = linear.propagate(*linear.box(regions))
        number = next(
            value for value in range(1, len(network.operators)) if linear._shallow.applies_to(value)
        )
        neurons = torch.tensor([5, 0, 7])
        shallow = linear._shallow.extremes(number, neurons, bounds)
        rows = torch.eye(8, dtype=torch.float64)[neurons]
        dense = linear.upper(number, torch.cat([rows, -rows])[None].expand(5, -1, -1), bounds)
    torch.testing.assert_close(shallow, dense, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_a_narrowed_network_computes_the_same(tmp_path, seed):
    network = layered(tmp_path, "Tanh", (9, 6, 5, 3), seed)
    rng = np.random.default_rng(seed)
    region = Region.per_pixel(rng.random(9).astype(np.float32), np.where(np.arange(9) % 3 == 0, 0.2, 0.0))
    narrow = narrowed(network, region)
    assert narrow is not None
    points = points_of(rng, region, 20)
    with torch.no_grad():
        full = TorchNetwork(network, torch.float64)(torch.tensor(points))
        part = TorchNetwork(narrow, torch.float64)(torch.tensor(points[:, ::3]))
    torch.testing.assert_close(full, part, rtol=1e-12, atol=1e-12)


def test_nothing_is_narrowed_where_all_moves_or_nothing_or_a_convolution_reads(tmp_path):
    network = layered(tmp_path, "Tanh", (4, 5, 3), 0)
    image = np.full(4, 0.5, dtype=np.float32)
    assert narrowed(network, Region.linf(image, 0.1)) is None
    assert narrowed(network, Region.linf(image, 0.0)) is None
    graph = Graph(1, 4, 4)
    value = graph.add("Tanh", graph.add("Conv", "input", graph.random(2, 1, 3, 3)))
    convolution = graph.read(tmp_path, graph.dense(value, 8))
    one = np.zeros((1, 4, 4))
    one[0, 1, 1] = 0.1
    assert narrowed(convolution, Region.per_pixel(np.full((1, 4, 4), 0.5, dtype=np.float32), one)) is None


def wide_question(folder: Path) -> tuple[Network, Problem]:
    """Twenty moving inputs and a bound that is out of reach by little: nothing here decides it."""
    network = layered(folder, "Sigmoid", (20, 20, 20, 2), 1)
    region = Region.linf(np.full(20, 0.5, dtype=np.float32), 0.5)
    scores = logits_at(network, points_of(np.random.default_rng(0), region, 5000))
    weights = np.array([[1.0, -1.0]])
    top = float((scores @ weights.T).max())
    crown = BoundsEngine(network).crown(region, Property((Clause(weights, np.zeros(1), 1),), "lead"))
    middle = (top + crown.margin_bound) / 2
    return network, Problem(network, region, Property((Clause(weights, np.array([-middle]), 1),), "lead"))


def test_what_can_not_be_decided_says_which_engines_can_not_help(tmp_path):
    network, problem = wide_question(tmp_path)
    result = Verifier(network).verify(problem, Budget.of_seconds(20))
    assert result.verdict is Verdict.UNKNOWN
    assert "the MILP can't express Sigmoid" in result.reason
    assert network.curves[0].name in result.reason


def test_certificates_are_refused_by_name(tmp_path):
    network, problem = wide_question(tmp_path)
    with pytest.raises(UnsupportedOperatorError, match=r"Sigmoid of node .*without one"):
        Verifier(network, Settings(certify=True)).verify(problem, Budget.of_seconds(5))
