"""Objectives, shapes and the certificate of maximality, from the command line to `check`."""

import json

import numpy as np
import pytest
from mlverify.cli.main import ExitCode

QUICK = ("--threads", "1", "--solver", "highs")


@pytest.fixture
def synth(run, files):
    """``mlverify synth`` on the small network and image; r.json is the result."""

    def invoke(*arguments, timeout="1.5"):
        return run(
            "synth", files / "net.onnx", files / "image.png", "-o", files / "r.json", "--timeout", timeout,
            "--mask", files / "mask.png", *QUICK, *arguments,
        )  # fmt: skip

    return invoke


def document(folder):
    return json.loads((folder / "r.json").read_text())


@pytest.fixture(scope="module")
def closed(shared_files, tmp_path_factory):
    """A result with a wide tolerance, so that layers are tight; made once."""
    from click.testing import CliRunner
    from mlverify.cli.main import cli

    folder = tmp_path_factory.mktemp("closed")
    for path in shared_files.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    arguments = (
        "synth", folder / "net.onnx", folder / "image.png", "-o", folder / "r.json", "--timeout", "25",
        "--mask", folder / "mask.png", "--tolerance", "0.9", *QUICK,
    )  # fmt: skip
    shown = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert shown.exit_code == 0, shown.output
    return folder


@pytest.fixture
def result(closed, tmp_path):
    """The same, to play with."""
    for path in closed.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def change(folder, edit):
    fields = document(folder)
    edit(fields)
    (folder / "r.json").write_text(json.dumps(fields))


def a_tight(fields):
    return next(item for item in fields["maximality"] if item["status"] == "tight")


def test_closed_layers_are_checked_again(result, run):
    fields = document(result)
    statuses = [item["status"] for item in fields["maximality"]]
    # a slow machine may leave some open, which is said
    still = statuses.count("open")
    assert statuses.count("tight") > 0
    assert fields["closed"] == pytest.approx(1 - still / len(statuses))
    assert fields["size"] <= fields["upper_bound"] <= len(fields["weights"])
    assert fields["gap"] == pytest.approx(1 - fields["value"] / fields["upper_bound"])
    with np.load(result / "r.npz") as arrays:
        assert arrays["witnesses"].dtype == np.float32
        assert a_tight(fields)["witness"] < len(arrays["witnesses"])
    shown = run("check", result / "r.json", *QUICK)
    assert shown.exit_code == 0, shown.output
    assert f"tight within {fields['tolerance']:g} by a replayed witness, {still} open" in shown.stdout
    assert "found again from" in shown.stdout


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda fields: a_tight(fields).update(witness=None), "tight without a witness"),
        (lambda fields: a_tight(fields).update(witness=10**6), "tight without a witness"),
        (lambda fields: fields.update(tolerance=1e-9), "lies outside its neighbourhood"),
        (lambda fields: a_tight(fields).update(status="cap"), "not at its cap"),
        (lambda fields: a_tight(fields).update(status="firm"), "is no status"),
        (lambda fields: a_tight(fields).update(status=[]), "is no status"),
        (lambda fields: fields.update(maximality=[]), "an entry per layer"),
        (lambda fields: fields.update(bands=[0] * len(fields["bands"])), "do not have the shape"),
        (lambda fields: fields.update(order="sideways"), "damaged"),
        (lambda fields: fields.update(objective="beauty"), "no objective"),
        (lambda fields: fields.update(objective="max-min"), "claims value"),
        (lambda fields: fields.update(value=fields["value"] * 1.01), "claims value"),
        (lambda fields: fields.update(gap=fields["gap"] / 2), "claims gap"),
        (lambda fields: fields.update(closed=0.123), "claims closed 0.123"),
        (lambda fields: fields.update(verdict="violated"), "claims the verdict 'violated'"),
        (lambda fields: fields.update(upper_bound=fields["value"] / 2), "claims that at most"),
        (lambda fields: fields.update(upper_bound=fields["value"] * (1 - 1e-6)), "claims that at most"),
    ],
)
def test_claims_that_do_not_hold(result, run, edit, words):
    change(result, edit)
    shown = run("check", result / "r.json", *QUICK)
    assert shown.exit_code in (2, 4), shown.output
    assert words in shown.stderr
    assert "confirmed" not in shown.stdout


def test_a_witness_that_breaks_nothing(result, run):
    with np.load(result / "r.npz") as arrays:
        changed = dict(arrays)
    changed["witnesses"] = np.repeat(changed["image"][None], len(changed["witnesses"]), axis=0)
    np.savez_compressed(result / "r.npz", **changed)
    shown = run("check", result / "r.json", *QUICK)
    assert shown.exit_code == ExitCode.INTERNAL
    assert "no violation" in shown.stderr


@pytest.mark.parametrize("share", [1e-3, 0.999])
def test_a_bound_that_the_witnesses_do_not_give(result, run, share):
    def lowered(fields):
        gap = fields["upper_bound"] - fields["value"]
        fields.update(upper_bound=fields["value"] + share * gap, gap=None)

    change(result, lowered)
    shown = run("check", result / "r.json", *QUICK)
    assert shown.exit_code == ExitCode.UNKNOWN
    assert shown.stdout.startswith("not confirmed")
    assert "not found again" in shown.stdout


@pytest.mark.parametrize("objective", ["log-volume", "mean-width", "max-min", "lexicographic"])
def test_objectives(synth, files, objective):
    shown = synth("--objective", objective)
    assert shown.exit_code == 0, shown.stderr
    fields = document(files)
    assert fields["objective"] == objective
    assert fields["weighting"] == ("pixels" if objective in ("log-volume", "mean-width") else "uniform")
    weights, epsilons = np.array(fields["weights"]), np.array(fields["epsilons"])
    assert fields["size"] == pytest.approx(weights @ epsilons)
    expected = {
        "log-volume": weights @ np.log(np.maximum(epsilons, 1e-5)),
        "mean-width": weights @ epsilons / weights.sum(),
        "max-min": epsilons.min(),
        "lexicographic": weights @ epsilons,
    }
    assert fields["value"] == pytest.approx(expected[objective])
    if objective == "max-min":
        assert epsilons.min() > 0


def test_tied_and_ordered_layers(synth, files):
    shown = synth("--tie", "0,2,4", "--order", "non-increasing", "--weights", "distance")
    assert shown.exit_code == 0, shown.stderr
    fields = document(files)
    assert fields["bands"] == [0, 0, 1, 1, 2, 2]
    epsilons = np.array(fields["epsilons"])
    assert (np.diff(epsilons) <= 0).all()
    np.testing.assert_array_equal(epsilons[::2], epsilons[1::2])
    np.testing.assert_allclose(fields["weights"], 1 / (1 + np.arange(6)))
    assert epsilons[0] > 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--tie", "9"), "6 layers can't be tied into 9 bands"),
        (("--tie", "0"), "neither a number of bands nor distances"),
        (("--tie", "1,3"), "the first at 0"),
        (("--tie", "0,3,3"), "increasing"),
        (("--tie", "0,9"), "stay below 6"),
        (("--tie", "near"), "neither a number of bands nor distances"),
        (("--order", "any"), "is not one of"),
        (("--objective", "beauty"), "is not one of"),
        (("--tolerance", "0"), "must be above 0"),
        (("--tolerance", "2"), "above 1"),
    ],
)
def test_bad_input(synth, files, arguments, words):
    shown = synth(*arguments)
    assert shown.exit_code == ExitCode.BAD_INPUT
    assert words in shown.stderr
    assert "Traceback" not in shown.stderr
    assert not (files / "r.json").exists()
