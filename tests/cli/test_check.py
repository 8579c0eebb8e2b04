"""A result is believed only as far as it can be proved or replayed again."""

import json

import numpy as np
import pytest
from mlverify.cli.main import ExitCode
from onnx_factory import conv_network, linear_network

QUICK = ("--threads", "1", "--solver", "highs")


@pytest.fixture(scope="session")
def made(shared_files, tmp_path_factory):
    """A folder with s.json (certificate), m.json (all engines), h.json (holds), v.json (violated)."""
    from click.testing import CliRunner
    from mlverify.cli.main import cli
    from mlverify.synthesis.prover import Prover

    folder = tmp_path_factory.mktemp("results")
    inputs = [str(shared_files / "net.onnx"), str(shared_files / "image.png")]

    def run(*arguments):
        return CliRunner().invoke(cli, [*map(str, arguments), *QUICK]).exit_code

    mask = ("--mask", shared_files / "mask.png")
    assert run("synth", *inputs, *mask, "-o", folder / "m.json", "--timeout", "5") == 0
    with pytest.MonkeyPatch.context() as patch:
        # without the complete engines the last word is the certificate's
        patch.setattr(Prover, "is_complete", False)
        assert run("synth", *inputs, *mask, "-o", folder / "s.json", "--timeout", "3") == 0
    assert run("verify", *inputs, "--eps", "0.02", "-o", folder / "h.json") == 0
    assert run("verify", *inputs, "--eps", "0.3", "-o", folder / "v.json") == 1
    return folder


@pytest.fixture
def results(made, tmp_path):
    """A copy to play with."""
    folder = tmp_path / "results"
    folder.mkdir()
    for path in made.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.fixture
def check(run):
    def invoke(path, *arguments):
        return run("check", path, *QUICK, *arguments)

    return invoke


def edit(path, **fields):
    document = json.loads(path.read_text())
    document.update(fields)
    path.write_text(json.dumps(document))
    return document


def with_epsilons(path, epsilons, **fields):
    """Other epsilons, with the numbers that are made of them, and no bound."""
    size = sum(epsilons)
    return edit(path, epsilons=epsilons, size=size, value=size, upper_bound=None, gap=None, **fields)


def edit_arrays(path, **arrays):
    with np.load(path) as archive:
        kept = dict(archive)
    kept.update(arrays)
    np.savez_compressed(path, **kept)


def confirmed(shown):
    return shown.exit_code == ExitCode.HOLDS and shown.stdout.startswith("confirmed  (")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("s", "certificate, margin"),
        ("m", "confirmed"),
        ("h", "bounds/crown"),
        ("v", "witness replayed in onnxruntime"),
    ],
)
def test_results_are_confirmed(check, results, name, words):
    shown = check(results / f"{name}.json")
    assert confirmed(shown), shown.stdout + shown.stderr
    assert words in shown.stdout


def test_the_certificate_saves_the_engines(check, results, monkeypatch):
    assert json.loads((results / "s.json").read_text())["certificate"] == "s.certificate.npz"
    monkeypatch.setattr("mlverify.cli.check.Verifier", None)
    assert confirmed(check(results / "s.json"))


def test_without_its_certificate_the_engines_prove_it(check, results):
    edit(results / "s.json", certificate=None)
    shown = check(results / "s.json")
    assert confirmed(shown)
    assert "certificate" not in shown.stdout


def test_unknown_is_not_confirmed(check, results):
    edit(results / "h.json", verdict="unknown")
    shown = check(results / "h.json")
    assert shown.exit_code == ExitCode.UNKNOWN
    assert shown.stdout.startswith("not confirmed")


def test_no_time_confirms_nothing(check, results):
    edit(results / "s.json", certificate=None)
    for name in ("s", "h"):
        assert check(results / f"{name}.json", "--timeout", "1e-9").exit_code == ExitCode.UNKNOWN


@pytest.mark.parametrize("factor", [0.5, 1.001, 1e6])
def test_another_size(check, results, factor):
    size = json.loads((results / "s.json").read_text())["size"]
    edit(results / "s.json", size=factor * size)
    shown = check(results / "s.json")
    assert shown.exit_code == ExitCode.INTERNAL
    assert "claims size" in shown.stderr


@pytest.mark.parametrize("name", ["s", "m"])
@pytest.mark.parametrize("value", [0.5, 1.0])
def test_larger_epsilons_are_never_confirmed(check, results, name, value):
    document = json.loads((results / f"{name}.json").read_text())
    epsilons = [max(value, item) for item in document["epsilons"]]
    with_epsilons(results / f"{name}.json", epsilons)
    shown = check(results / f"{name}.json")
    assert shown.exit_code == ExitCode.INTERNAL
    assert "a witness was found against it" in shown.stderr


def test_smaller_epsilons_are_proved_too(check, results):
    document = json.loads((results / "s.json").read_text())
    epsilons = [0.5 * item for item in document["epsilons"]]
    # nothing stops halved epsilons from growing: claims that something does would be contradicted
    claims = [{**claim, "status": "open", "witness": None} for claim in document["maximality"]]
    with_epsilons(results / "s.json", epsilons, maximality=claims, closed=0.0)
    shown = check(results / "s.json")
    assert confirmed(shown), shown.output


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"epsilons": [0.1, 0.1]}, 2, "6 weights for 2 layers"),
        ({"epsilons": [-0.1] * 6}, 2, r"in [0, 1]"),
        ({"epsilons": [1.5] * 6}, 2, r"in [0, 1]"),
        ({"epsilons": [float("nan")] * 6}, 2, "NaN"),
        ({"epsilons": "many"}, 2, "should be a list"),
        ({"weights": [1.0]}, 2, "1 weights"),
        ({"weights": [0.0] * 6, "objective": "max-min"}, 2, "all weights are zero"),
        ({"size": None}, 2, "should be a float"),
        ({"k": 7}, 2, "k must be"),
        ({"target_number": 9}, 2, "does not exist"),
        ({"target_number": 3}, 4, "witness was found"),
        ({"arrays": "gone.npz"}, 2, "does not exist"),
        ({"arrays": "../results/s.npz"}, 2, "beside it"),
        ({"certificate": "gone.npz"}, 2, "does not exist"),
        ({"certificate": 3}, 2, "should be a str"),
        ({"model": {}}, 2, ""),
        ({"model": {"path": "x", "mean": "y"}}, 2, "'model' is damaged"),
        ({"layers": []}, 4, "distances"),
        ({"schema": "mlverify/attack/1"}, 2, "this command reads"),
    ],
)
def test_fields_that_were_changed(check, results, fields, code, words):
    edit(results / "s.json", **fields)
    shown = check(results / "s.json")
    assert shown.exit_code == code, shown.stdout + shown.stderr
    assert words in shown.stderr
    assert "Traceback" not in shown.stderr


def test_layers_that_are_not_distances(check, results):
    with np.load(results / "s.npz") as arrays:
        layers, mask = arrays["layers"], arrays["mask"]
    # the object with epsilon as large as one likes, and no pixel that has it
    edit_arrays(results / "s.npz", layers=np.where(mask, 1, layers))
    shown = check(results / "s.json")
    assert shown.exit_code == ExitCode.INTERNAL
    assert "distances" in shown.stderr


def certificate_arrays(path):
    with np.load(path) as archive:
        return dict(archive)


def test_tampered_certificates_stay_sound(check, results):
    """Whatever is in them, too large epsilons are not confirmed; the true ones may be, by the engines."""
    path = results / "s.certificate.npz"
    kept = certificate_arrays(path)
    document = json.loads((results / "s.json").read_text())
    generator = np.random.default_rng(0)
    larger = [max(0.6, item) for item in document["epsilons"]]
    for trial in range(6):
        spoiled = {}
        for name, array in kept.items():
            if array.dtype == np.uint8:
                spoiled[name] = generator.integers(0, 256, array.shape, dtype=np.uint8)
            elif name.startswith("weight/"):
                logits = generator.normal(size=array.shape) * 10.0**trial
                spoiled[name] = np.clip(logits, -6e4, 6e4).astype(np.float16)
            elif name == "shares":
                spoiled[name] = generator.random(array.shape)
        np.savez_compressed(path, **{**kept, **spoiled})
        edit(results / "s.json", epsilons=document["epsilons"], size=document["size"])
        assert check(results / "s.json", "--timeout", "20").exit_code in (ExitCode.HOLDS, ExitCode.UNKNOWN)
        edit(results / "s.json", epsilons=larger, size=sum(larger))
        assert not confirmed(check(results / "s.json"))


def drop_rows(arrays):
    return {**arrays, "subsets": arrays["subsets"][:1], "shares": arrays["shares"][:1]}


@pytest.mark.parametrize(
    "change",
    [
        lambda arrays: {**arrays, "shares": arrays["shares"] * 0},
        lambda arrays: {**arrays, "shares": arrays["shares"] * np.nan},
        lambda arrays: {**arrays, "shares": arrays["shares"] - 2},
        lambda arrays: {**arrays, "shares": arrays["shares"][0]},
        lambda arrays: {**arrays, "subsets": arrays["subsets"] * 0},
        lambda arrays: {**arrays, "subsets": arrays["subsets"] * 0 - 1},
        lambda arrays: {**arrays, "subsets": arrays["subsets"] + 100},
        lambda arrays: {**arrays, "subsets": arrays["subsets"][0]},
        lambda arrays: {name: array for name, array in arrays.items() if name != "subsets"},
        lambda arrays: {name: array for name, array in arrays.items() if not name.startswith("weight/")},
        lambda arrays: {name: array for name, array in arrays.items() if not name.startswith("threshold/")},
        lambda arrays: {name: array for name, array in arrays.items() if not name.startswith("relu/")},
        lambda arrays: {**arrays, "relu/99": np.zeros(3, np.uint8)},
        lambda arrays: {**arrays, "relu/x": np.zeros(3, np.uint8)},
        lambda arrays: {name: array[..., :-1] for name, array in arrays.items()},
        lambda arrays: {name: np.array("text") for name in arrays},
        lambda arrays: {name: np.full(array.shape, "text") for name, array in arrays.items()},
        lambda arrays: {
            name: np.full_like(array, np.inf) if name.startswith("weight/") else array
            for name, array in arrays.items()
        },
        drop_rows,
    ],
)
def test_damaged_certificates_are_bad_input_or_not_needed(check, results, change):
    path = results / "s.certificate.npz"
    changed = change(certificate_arrays(path))
    np.savez_compressed(path, **changed)
    shown = check(results / "s.json", "--timeout", "20")
    assert shown.exit_code in (ExitCode.HOLDS, ExitCode.BAD_INPUT, ExitCode.UNKNOWN), shown.stderr
    document = json.loads((results / "s.json").read_text())
    larger = [max(0.6, item) for item in document["epsilons"]]
    edit(results / "s.json", epsilons=larger, size=sum(larger))
    assert not confirmed(check(results / "s.json"))


def test_files_that_are_truncated(check, results):
    for name, parts in [
        ("s", ("s.json", "s.npz", "s.certificate.npz")),
        ("h", ("h.json", "h.npz")),
        ("v", ("v.json", "v.npz", "v.witness.npy")),
    ]:
        for part in parts:
            path = results / part
            whole = path.read_bytes()
            for keep in (0, 10, len(whole) // 2, len(whole) - 5):
                path.write_bytes(whole[:keep])
                shown = check(results / f"{name}.json")
                assert shown.exit_code == ExitCode.BAD_INPUT, (part, keep, shown.stdout, shown.stderr)
                assert part in shown.stderr
            path.write_bytes(whole)
            assert confirmed(check(results / f"{name}.json"))


def test_files_that_are_gone(check, results):
    for name, part in [("s", "s.npz"), ("s", "s.certificate.npz"), ("h", "h.npz"), ("v", "v.witness.npy")]:
        kept = (results / part).read_bytes()
        (results / part).unlink()
        assert check(results / f"{name}.json").exit_code == ExitCode.BAD_INPUT
        (results / part).write_bytes(kept)


# --- witnesses ------------------------------------------------------------------------------------------


def test_a_witness_outside_the_region(check, results):
    path = results / "v.witness.npy"
    witness = np.load(path)
    with np.load(results / "v.npz") as arrays:
        upper = arrays["upper"]
    just_outside = witness.copy()
    place = np.unravel_index(np.argmin(upper), upper.shape)
    just_outside[place] = np.nextafter(np.float32(upper[place]), np.float32(2))
    if just_outside[place] <= upper[place]:
        just_outside[place] = np.nextafter(just_outside[place], np.float32(2))
    np.save(path, just_outside)
    shown = check(results / "v.json")
    assert shown.exit_code == ExitCode.INTERNAL
    assert "outside the region" in shown.stderr


def test_a_witness_that_breaks_nothing(check, results):
    with np.load(results / "v.npz") as arrays:
        np.save(results / "v.witness.npy", arrays["image"])
    shown = check(results / "v.json")
    assert shown.exit_code == ExitCode.INTERNAL
    assert "no violation" in shown.stderr


@pytest.mark.parametrize(
    "change",
    [lambda image: image.astype(np.float64), lambda image: image[0], lambda image: np.zeros(3, np.float32)],
)
def test_a_witness_of_another_kind(check, results, change):
    path = results / "v.witness.npy"
    np.save(path, change(np.load(path)))
    assert check(results / "v.json").exit_code == ExitCode.BAD_INPUT


def test_a_witness_with_nan_is_outside(check, results):
    path = results / "v.witness.npy"
    np.save(path, np.load(path) * np.float32(np.nan))
    assert check(results / "v.json").exit_code == ExitCode.INTERNAL


def test_a_claimed_proof_of_what_is_violated(check, results):
    edit(results / "v.json", verdict="holds")
    shown = check(results / "v.json")
    assert shown.exit_code == ExitCode.INTERNAL
    assert "a witness was found against it" in shown.stderr


def test_what_people_read_is_what_is_checked(check, results):
    """The arrays alone are not the claim: region and property in the JSON must be theirs."""
    document = json.loads((results / "h.json").read_text())
    for fields in (
        {"region": {**document["region"], "epsilon": 0.5}},
        {"region": {"kind": "layered", "epsilons": [0.5]}},
        {"question": {**document["question"], "k": 1}},
        {"question": {**document["question"], "target_number": 0}},
        {"property": "label a is among the top 1 of 5 labels"},
    ):
        edit(results / "h.json", **{**document, **fields})
        shown = check(results / "h.json")
        assert shown.exit_code == ExitCode.INTERNAL, fields
        assert "than its arrays" in shown.stderr
    for fields in ({"region": {}}, {"region": 3}, {"question": {}}, {"verdict": "surely"}):
        edit(results / "h.json", **{**document, **fields})
        assert check(results / "h.json").exit_code == ExitCode.BAD_INPUT, fields


def test_arrays_of_a_verify_result_that_were_changed(check, results):
    for name, change in [
        ("upper", lambda array: array + 0.1),
        ("lower", lambda array: array + 2.0),
        ("needed", lambda array: np.array(4)),
        ("needed", lambda array: np.array(0)),
        ("weights", lambda array: -array),
        ("offsets", lambda array: array - 100.0),
        ("offsets", lambda array: array[1:]),
        ("layers", lambda array: array - 1),
        ("layers", lambda array: array + 1),
        ("layers", lambda array: array - 9),
        ("image", lambda array: array * 0),
    ]:
        with np.load(results / "h.npz") as archive:
            kept = dict(archive)
        edit_arrays(results / "h.npz", **{name: change(kept[name])})
        shown = check(results / "h.json")
        assert shown.exit_code in (ExitCode.BAD_INPUT, ExitCode.INTERNAL), name
        assert "Traceback" not in shown.stderr
        assert "unexpected" not in shown.stderr
        np.savez_compressed(results / "h.npz", **kept)


# --- the network ----------------------------------------------------------------------------------------


def test_another_network(check, results, tmp_path):
    other = conv_network(tmp_path / "other.onnx", (1, 10, 10), 5, pool=True, seed=1)
    for name in ("s", "m", "h", "v"):
        shown = check(results / f"{name}.json", "--model", other)
        assert shown.exit_code == ExitCode.BAD_INPUT
        assert "sha256" in shown.stderr


def test_a_network_that_moved(check, results, shared_files):
    for name in ("s", "v"):
        path = results / f"{name}.json"
        model = json.loads(path.read_text())["model"]
        edit(path, model={**model, "path": "elsewhere/net.onnx"})
        missing = check(path)
        assert missing.exit_code == ExitCode.BAD_INPUT
        assert "--model" in missing.stderr
        assert confirmed(check(path, "--model", shared_files / "net.onnx"))
    # beside the result it is found without being named
    (results / "net.onnx").write_bytes((shared_files / "net.onnx").read_bytes())
    assert confirmed(check(results / "s.json"))


def test_thresholds_and_preprocessing(run, check, tmp_path):
    network = linear_network(tmp_path / "n.onnx", np.eye(3, 4), (1, 2, 2), tail="Sigmoid")
    np.save(tmp_path / "x.npy", np.full((1, 2, 2), 0.5, np.float32))
    arguments = (
        "--decision",
        "threshold",
        "--target",
        "0",
        "--mean",
        "0.25",
        "--std",
        "0.5",
        "-o",
        tmp_path / "r.json",
    )
    for eps, code in [("0.2", 0), ("0.3", 1)]:
        assert run("verify", network, tmp_path / "x.npy", "--eps", eps, *arguments, *QUICK).exit_code == code
        assert confirmed(check(tmp_path / "r.json"))
    document = json.loads((tmp_path / "r.json").read_text())
    edit(tmp_path / "r.json", question={**document["question"], "logit": -9.0})
    assert check(tmp_path / "r.json").exit_code == ExitCode.INTERNAL


def test_the_certificate_of_a_synthesis_becomes_one_of_verify(run, check, results, shared_files):
    target = json.loads((results / "s.json").read_text())["target"]
    files = ("--certificate", results / "proof.npz", "-o", results / "again.json")
    inputs = (shared_files / "net.onnx", shared_files / "image.png")
    shown = run("verify", *inputs, "--epsilons", results / "s.json", "--target", target, *files, *QUICK)
    assert shown.exit_code == ExitCode.HOLDS, shown.stderr
    assert "bounds/certificate" in shown.stdout
    again = check(results / "again.json")
    assert confirmed(again)
    assert "proved by the independent checker" in again.stdout
