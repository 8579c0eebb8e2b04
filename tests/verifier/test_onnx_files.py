"""Published networks, read from the folder of data sets beside the repository where there is one."""

import gzip
from pathlib import Path

import pytest
from mlverify.errors import UnsupportedOperatorError
from mlverify.verifier.onnx_reader import load_network
from onnx_graphs import agreed, operators

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
MULLOC = sorted((SHARED / "mulloc").glob("*.onnx"))
VNNCOMP = sorted((SHARED / "vnncomp").glob("*/onnx/*.onnx.gz"))
ACAS = [path for path in VNNCOMP if path.name.startswith("ACASXU")]
# its inner Sigmoid is not piecewise linear
REFUSED = [path for path in VNNCOMP if path.parts[-3] == "dist_shift"]
OTHERS = [path for path in VNNCOMP if path not in (*ACAS, *REFUSED)]

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
    assert (len(MULLOC), len(ACAS), len(OTHERS), len(REFUSED)) == (8, 45, 12, 1)


@pytest.mark.parametrize("path", REFUSED, ids=_name)
def test_an_inner_sigmoid_is_refused_by_name(path, tmp_path):
    with pytest.raises(UnsupportedOperatorError, match=r"Sigmoid of node 'Sigmoid_6'.*last function"):
        load_network(_unpacked(path, tmp_path))
