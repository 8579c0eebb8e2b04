import json

import pytest
from click.testing import CliRunner
from mlverify.cli import probes
from mlverify.cli.main import cli


def test_doctor_reports_every_part():
    shown = CliRunner().invoke(cli, ["doctor", "--format", "json"])
    assert shown.exit_code == 0
    findings = {finding["part"]: finding for finding in json.loads(shown.stdout)["findings"]}
    assert {"python", "cuda", "solver highs", "solver gurobi", "auto_LiRPA", "mnist", "torch"} <= set(
        findings
    )
    assert findings["solver highs"]["state"] == "ok"
    assert findings["numpy"]["detail"].count(".") >= 1


def test_doctor_survives_anything(monkeypatch):
    def broken():
        raise RuntimeError("driver\nmissing")

    monkeypatch.setattr(probes, "_PROBES", (("cuda", broken),))
    monkeypatch.setattr(probes, "PACKAGES", ("no-such-package",))
    shown = CliRunner().invoke(cli, ["doctor"])
    assert shown.exit_code == 0
    assert "RuntimeError: driver missing" in shown.stdout
    assert "not installed" in shown.stdout


def test_gurobi_is_silent_and_tells_its_size(capfd):
    pytest.importorskip("gurobipy")
    finding = probes._guarded("solver gurobi", probes._gurobi)
    assert capfd.readouterr().out == ""
    assert any(word in finding.detail for word in ("2,000 variables", "no size limit", "no licence"))


def test_a_gurobi_licence_error_is_a_finding(monkeypatch):
    gurobipy = pytest.importorskip("gurobipy")

    def expired(*arguments, **options):
        raise gurobipy.GurobiError(10009, "license expired")

    monkeypatch.setattr(probes, "_solve_gurobi", expired)
    finding = probes._gurobi()
    assert finding.health is probes.Health.MISSING
    assert "license expired" in finding.detail
