"""The command on two tiny networks in the layout of the real data."""

import gzip

import numpy as np
import pytest
from mlverify.benchmarks import vnncomp
from mlverify.benchmarks.row_file import RowFile
from mlverify.errors import InputError
from onnx_factory import linear_network

SPEC = """(declare-const X_0 Real)(declare-const Y_0 Real)
(assert (>= X_0 0))(assert (<= X_0 1))(assert (>= Y_0 {}))"""


@pytest.fixture
def folder(tmp_path):
    """One network that doubles its input; it can be 1 and can't be 3."""
    for kind in ("onnx", "vnnlib"):
        (tmp_path / "tiny" / kind).mkdir(parents=True)
    net = linear_network(tmp_path / "net.onnx", np.array([[2.0]]), (1,))
    (tmp_path / "tiny" / "onnx" / "net.onnx.gz").write_bytes(gzip.compress(net.read_bytes()))
    for level in (1, 3):
        text = SPEC.format(level).encode()
        (tmp_path / "tiny" / "vnnlib" / f"p{level}.vnnlib.gz").write_bytes(gzip.compress(text))
    rows = [
        "benchmark,onnx,vnnlib,verdict,abcrown_seconds,pick",
        "tiny,net.onnx,p1.vnnlib,sat,7.5,1",
        "tiny,net.onnx,p3.vnnlib,unsat,,",
        "tiny,net.onnx,missing.vnnlib,unknown,,",
    ]
    (tmp_path / "verdicts.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        vnncomp.main([*map(str, arguments), "--threads", "1"])
    return ended.value.code, capsys.readouterr().out


def test_table_and_summary(folder, capsys):
    code, shown = run(capsys, folder)
    assert code == 0
    last = shown.splitlines()[-1]
    assert "3 rows  solved 2, wrong 0, unknown 0, errors 1" in last
    assert "falsifier found 1 of 1 sat" in last
    assert "(alpha-beta-CROWN 7.50 s, start included)" in last


def test_the_falsifier_alone_proves_nothing(folder, capsys):
    code, shown = run(capsys, folder, "--engines", "falsify")
    assert code == 0
    assert "solved 1, wrong 0, unknown 1, errors 1" in shown


def test_a_wrong_verdict_fails(folder, capsys):
    table = folder / "verdicts.csv"
    table.write_text(table.read_text().replace(",sat,", ",unsat,"))
    code, shown = run(capsys, folder, "--quick")
    assert code == 1
    assert "WRONG: tiny net.onnx p1.vnnlib: sat by falsify" in shown


def test_continuing(folder, capsys, monkeypatch):
    _, first = run(capsys, folder, "--csv", folder / "out.csv")
    monkeypatch.setattr(vnncomp, "_ask", lambda *arguments: pytest.fail("asked again"))
    _, second = run(capsys, folder, "--csv", folder / "out.csv")
    assert [line.split()[:5] for line in first.splitlines()] == [
        line.split()[:5] for line in second.splitlines()
    ]
    code, _ = run(capsys, folder, "--csv", folder / "out.csv", "--timeout", "3")
    assert "was made with --timeout 20" in str(code)


def test_nothing_selected(folder, capsys):
    assert "no instance is selected" in str(run(capsys, folder, "--benchmark", "x")[0])
    assert "no usable rows" in str(run(capsys, folder / "tiny")[0])


def test_a_row_that_was_cut_off_is_dropped(tmp_path):
    path = tmp_path / "out.csv"
    path.write_text("a,b,limit\n1,2,5\n3,4")
    file = RowFile(path, ("a", "b", "limit"), ("a",), {"limit": "5"})
    assert list(file.done) == [("1",)]
    file.add({"a": "6", "b": "7", "limit": "5"})
    file.close()
    assert path.read_text().splitlines() == ["a,b,limit", "1,2,5", "6,7,5"]
    with pytest.raises(InputError, match="not a file of this command"):
        RowFile(path, ("x",), ("x",), {})
