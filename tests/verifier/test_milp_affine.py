"""Sparse affine expressions against the torch module."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mlverify.verifier.affine import AffineMap, affine_step
from mlverify.verifier.network import Network
from mlverify.verifier.onnx_reader import Tail
from mlverify.verifier.operators import (
    Concat,
    Constant,
    Conv,
    Linear,
    Operator,
    Pad,
    Relu,
    Reshape,
    Scale,
    Sum,
    Transpose,
)
from mlverify.verifier.preprocessing import Preprocessing
from mlverify.verifier.torch_network import TorchNetwork
from scipy import sparse

SHAPE = (4, 5, 6)
GENERATOR = np.random.default_rng(3)


def conv(out, groups, stride, padding, dilation, shape):
    weight = GENERATOR.normal(size=(out, SHAPE[0] // groups, 3, 2))
    return Conv("c", (0,), shape, weight, GENERATOR.normal(size=out), stride, padding, dilation, groups)


UNARY = [
    conv(3, 1, (1, 1), (0, 0, 0, 0), (1, 1), (3, 3, 5)),
    conv(4, 2, (2, 1), (1, 0, 2, 1), (1, 1), (4, 3, 6)),
    conv(8, 4, (1, 2), (2, 1, 1, 0), (2, 3), (8, 4, 2)),
    Linear("l", (0,), (4, 5, 3), GENERATOR.normal(size=(3, 6)), GENERATOR.normal(size=3)),
    Scale("s", (0,), SHAPE, GENERATOR.normal(size=(4, 1, 1)), GENERATOR.normal(size=(5, 1))),
    Pad("p", (0,), (4, 8, 7), (1, 0, 2, 1), 0.7),
    Reshape("r", (0,), (20, 6)),
    Transpose("t", (0,), (6, 4, 5), (2, 0, 1)),
]
BINARY = [
    Sum("a", (0, 0), SHAPE, (1.0, -0.5)),
    Concat("k", (0, 0), (8, 5, 6), 0),
    Concat("k", (0, 0), (4, 5, 12), 2),
]


def forward(operator: Operator, image):
    network = Network(Path("x"), "", SHAPE, (operator,), 1, (), Tail.NONE, Preprocessing(), False, None, ())
    return TorchNetwork(network, torch.float64)(torch.tensor(image)[None])[0].numpy().reshape(-1)


@pytest.mark.parametrize("operator", UNARY + BINARY, ids=lambda operator: type(operator).__name__)
def test_rows_agree_with_torch_and_the_others_are_not_numbers(operator):
    size = int(np.prod(operator.shape))
    rows = np.sort(GENERATOR.choice(size, size // 2, replace=False))
    step = affine_step(operator, [SHAPE] * len(operator.inputs), rows)
    image = GENERATOR.normal(size=SHAPE)
    values = step.constant + sum(matrix @ image.reshape(-1) for matrix in step.matrices)
    np.testing.assert_allclose(values[rows], forward(operator, image)[rows], atol=1e-12)
    assert np.isnan(np.delete(values, rows)).all()
    assert all((matrix.data != 0).all() for matrix in step.matrices)


def test_constant_reads_nothing():
    step = affine_step(Constant("k", (), (2, 2), np.array([[1.0, 2.0], [3.0, 4.0]])), [], np.array([1, 2]))
    assert step.matrices == ()
    np.testing.assert_array_equal(step.constant, [np.nan, 2.0, 3.0, np.nan])


def test_apply_composes_expressions_over_growing_variables():
    first = AffineMap(sparse.csr_matrix(np.array([[1.0, 2.0], [0.0, -1.0]])), np.array([0.5, 1.0]))
    second = AffineMap(sparse.csr_matrix(np.array([[0.0, 0.0, 3.0], [1.0, 0.0, 0.0]])), np.array([0.0, 2.0]))
    step = affine_step(Sum("a", (1, 2), (2,), (1.0, -1.0)), [(2,), (2,)], np.arange(2))
    result = step.apply([first, second], 3)
    np.testing.assert_array_equal(result.matrix.toarray(), [[1, 2, -3], [-1, -1, 0]])
    np.testing.assert_array_equal(result.constant, [0.5, -1.0])


def test_range_is_attained_at_corners():
    value = AffineMap(sparse.csr_matrix(np.array([[1.0, -2.0]])), np.array([0.5]))
    lower, upper = value.range(np.array([0.0, -1.0]), np.array([1.0, 3.0]))
    assert (lower[0], upper[0]) == (-5.5, 3.5)


def test_nonlinear_operator_is_refused():
    with pytest.raises(TypeError, match="Relu"):
        affine_step(Relu("r", (0,), SHAPE, 0.0), [SHAPE], np.arange(3))
