"""Bounds and proofs against the network in exact rational arithmetic, with weights across 15 orders of magnitude."""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from mlverify.errors import DisagreementError
from mlverify.verifier.bounds_engine import BoundsEngine
from mlverify.verifier.budget import Budget
from mlverify.verifier.network import Network
from mlverify.verifier.onnx_reader import load_network
from mlverify.verifier.operators import FloatArray
from mlverify.verifier.portfolio import Settings, Verifier
from mlverify.verifier.problem import Problem
from mlverify.verifier.property import top_k
from mlverify.verifier.region import Region
from mlverify.verifier.result import Verdict
from onnx import helper
from onnx_factory import write_graph

Layer = tuple[np.ndarray, np.ndarray]


def nearly_tied_layers(rng: np.random.Generator) -> list[Layer]:
    """Random layers of very different sizes; the two labels differ by little."""
    large = 10.0 ** int(rng.integers(0, 9))
    sizes = [3, *(int(width) for width in rng.integers(2, 5, size=int(rng.integers(1, 4)))), 2]
    layers = []
    for before, after in pairwise(sizes):
        factor = 10.0 ** rng.uniform(-1, 1) * (large if rng.integers(2) else 1.0)
        layers.append((rng.normal(size=(after, before)) * factor, rng.normal(size=after)))
    weight, bias = layers[-1]
    weight[1] = weight[0] * (1 + rng.choice([0.0, 1e-7, 1e-6]))
    bias[1] = bias[0] - abs(rng.normal()) * 10.0 ** rng.uniform(-8, 1)
    return [(weight.astype(np.float32), bias.astype(np.float32)) for weight, bias in layers]


def written(folder: Path, layers: list[Layer]) -> Network:
    nodes, constants, value = [], {}, "input"
    for number, (weight, bias) in enumerate(layers):
        last = number == len(layers) - 1
        constants[f"w{number}"], constants[f"b{number}"] = weight, bias
        result = "output" if last else f"s{number}"
        nodes.append(helper.make_node("Gemm", [value, f"w{number}", f"b{number}"], [result], transB=1))
        if not last:
            nodes.append(helper.make_node("Relu", [result], [f"r{number}"]))
        value = f"r{number}"
    return load_network(write_graph(folder / "exact.onnx", nodes, constants, [3], 2))


def exact_scores(layers: list[Layer], point: FloatArray) -> list[Fraction]:
    values = [Fraction(float(number)) for number in point]
    for number, (weight, bias) in enumerate(layers):
        values = [
            sum((Fraction(float(a)) * b for a, b in zip(row, values, strict=True)), Fraction(float(shift)))
            for row, shift in zip(weight, bias, strict=True)
        ]
        if number < len(layers) - 1:
            values = [max(value, Fraction(0)) for value in values]
    return values


def corners(region: Region) -> list[FloatArray]:
    return [np.where(np.array(choice), region.upper, region.lower) for choice in np.ndindex(2, 2, 2)]


def check_exact(seed: int, folder: Path) -> None:
    rng = np.random.default_rng(seed)
    layers = nearly_tied_layers(rng)
    network = written(folder, layers)
    region = Region.linf(rng.random(3).astype(np.float32), float(rng.choice([0.0, 1e-6, 1e-3, 0.1])))
    question = top_k(2, 0, 1)
    outcome = BoundsEngine(network).crown(region, question)
    scores = [exact_scores(layers, corner) for corner in corners(region)]
    reach = outcome.values[network.output]
    for both in scores:
        for label, score in enumerate(both):
            assert Fraction(reach.lower[label]) <= score <= Fraction(reach.upper[label])
    worst = max(second - first for first, second in scores)
    assert not (outcome.proved and worst >= 0)
    verifier, problem = Verifier(network, Settings(threads=1)), Problem(network, region, question)
    try:
        result = verifier.verify(problem, Budget.of_seconds(10))
    except DisagreementError:
        return  # float32 is off by more than rounding may explain: that is said, and nothing decided
    assert not (result.verdict is Verdict.HOLDS and worst >= 0)


@pytest.mark.parametrize("seed", range(60))
def test_nothing_false_is_proved_by_rounding(seed, tmp_path):
    check_exact(seed, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(10))
def test_much_more_is_not_proved_by_rounding(block, tmp_path):
    for seed in range(1000 + 100 * block, 1100 + 100 * block):
        check_exact(seed, tmp_path)
