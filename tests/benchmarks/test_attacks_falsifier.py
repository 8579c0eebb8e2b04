"""Our falsifier and the published schedule on tiny networks in the layout of the real data."""

import gzip

import numpy as np
import pytest
from mlverify.benchmarks import attacks_falsifier
from mlverify.benchmarks.attacks_falsifier import falsify, follow_schedule
from mlverify.verifier.onnx_reader import load_network
from mlverify.verifier.problem import Problem
from mlverify.verifier.property import top_k
from mlverify.verifier.region import Region
from onnx_factory import linear_network

SPEC = """(declare-const X_0 Real)(declare-const Y_0 Real)
(assert (>= X_0 0))(assert (<= X_0 1))(assert (>= Y_0 {}))"""


@pytest.fixture
def folder(tmp_path):
    """A network that doubles its input: it can be 1.9."""
    for kind in ("onnx", "vnnlib"):
        (tmp_path / "tiny" / kind).mkdir(parents=True)
    net = linear_network(tmp_path / "net.onnx", np.array([[2.0]]), (1,))
    (tmp_path / "tiny" / "onnx" / "net.onnx.gz").write_bytes(gzip.compress(net.read_bytes()))
    text = SPEC.format(1.9).encode()
    (tmp_path / "tiny" / "vnnlib" / "p1.9.vnnlib.gz").write_bytes(gzip.compress(text))
    rows = [
        "benchmark,onnx,vnnlib,verdict,abcrown_seconds,pick",
        *(f"tiny,net.onnx,{name}.vnnlib,sat,," for name in ("p1.9", "missing")),
        "tiny,net.onnx,p3.vnnlib,unsat,,",
    ]
    (tmp_path / "verdicts.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_counts(folder, capsys):
    attacks_falsifier.main(["--vnncomp", str(folder), "--seconds", "20"])
    lines = capsys.readouterr().out.splitlines()
    assert "left out: " in lines[2]
    assert lines[3:] == [
        f"{source}, violated: ours 1 of 1, alpha-beta-CROWN's schedule 1" for source in ("tiny", "all")
    ]


def test_something_must_be_asked(tmp_path):
    with pytest.raises(SystemExit, match="name --peers or --vnncomp"):
        attacks_falsifier.main([])
    with pytest.raises(SystemExit, match="no usable rows"):
        attacks_falsifier.main(["--vnncomp", str(tmp_path)])


@pytest.mark.parametrize("attack", [falsify, follow_schedule])
@pytest.mark.parametrize(("reach", "seconds", "violated"), [(0.2, 20, True), (0.05, 0.3, False)])
def test_two_labels_must_pass_the_target(tmp_path, attack, reach, seconds, violated):
    """Top 2 of 4: two of three rivals have to get past label 0, each on its own input, by 0.1."""
    weights = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    network = load_network(
        linear_network(tmp_path / "net.onnx", weights, (3,), bias=np.array([0.6, 0.0, 0.0, 0.0]))
    )
    image = np.full(3, 0.5, dtype=np.float32)
    problem = Problem(network, Region.per_pixel(image, np.full(3, reach)), top_k(4, 0, 2), image)
    assert attack([problem], seconds) == violated
