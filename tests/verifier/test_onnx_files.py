"""Published networks, read from the folder of data sets beside the repository where there is one."""

import gzip
from pathlib import Path

import pytest
from mlverify.verifier.budget import Budget
from mlverify.verifier.onnx_reader import load_network
from mlverify.verifier.portfolio import Verifier
from mlverify.verifier.problem import Problem
from mlverify.verifier.result import Verdict
from mlverify.verifier.vnnlib import read_vnnlib
from onnx_graphs import agreed, operators

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
MULLOC = sorted((SHARED / "mulloc").glob("*.onnx"))
VNNCOMP = sorted((SHARED / "vnncomp").glob("*/onnx/*.onnx.gz"))
ACAS = [path for path in VNNCOMP if path.name.startswith("ACASXU")]
OTHERS = [path for path in VNNCOMP if path not in ACAS]

pytestmark = pytest.mark.skipif(not MULLOC or not VNNCOMP, reason=f"no published networks in {SHARED}")


def _name(path):
    return path.name.split(".")[0]


def _unpacked(path, folder):
    target = folder / path.stem
    target.write_bytes(gzip.decompress(path.read_bytes()))
    return target


@pytest.mark.parametrize("path", MULLOC, ids=_name)
def test_multi_label_networks(path):
    network = agreed(path, images=2)
    assert len(network.labels) in (10, 20)
    assert set(operators(network)) <= {"Conv", "Relu", "MaxPool", "Reshape", "Linear"}


@pytest.mark.parametrize("path", [*OTHERS, *ACAS[:1]], ids=_name)
def test_competition_networks(path, tmp_path):
    network = agreed(_unpacked(path, tmp_path))
    assert network.neurons > 0


@pytest.mark.slow
@pytest.mark.parametrize("path", ACAS, ids=_name)
def test_all_acas_xu_networks(path, tmp_path):
    network = agreed(_unpacked(path, tmp_path))
    assert (network.input_shape, network.neurons, len(network.labels)) == ((1, 1, 5), 300, 5)


def test_all_are_there():
    assert (len(MULLOC), len(ACAS), len(OTHERS)) == (8, 45, 13)


@pytest.mark.parametrize(("index", "verdict"), [(3677, Verdict.HOLDS), (1561, Verdict.VIOLATED)])
def test_questions_about_a_network_with_a_sigmoid_inside(tmp_path, index, verdict):
    folder = SHARED / "vnncomp" / "dist_shift"
    network = load_network(_unpacked(folder / "onnx" / "mnist_concat.onnx.gz", tmp_path))
    spec = _unpacked(folder / "vnnlib" / f"index{index}_delta0.13.vnnlib.gz", tmp_path)
    (case,) = read_vnnlib(spec, network)
    found = Verifier(network).verify(Problem(network, case.region, case.property), Budget.of_seconds(20))
    assert found.verdict is verdict
