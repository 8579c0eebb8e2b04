import json

import numpy as np
import pytest
from mlverify.cli.main import ExitCode
from mlverify.verifier.onnx_reader import load_network
from mlverify.verifier.session import Judge
from onnx_factory import linear_network
from PIL import Image

QUICK = ("--threads", "1", "--solver", "highs")


@pytest.fixture
def verify(run, files):
    """``mlverify verify`` on the small network and image."""

    def invoke(*arguments, image="image.png"):
        return run("verify", files / "net.onnx", files / image, *QUICK, *arguments)

    return invoke


def test_a_small_neighbourhood_holds(verify):
    shown = verify("--eps", "2/255")
    assert shown.exit_code == ExitCode.HOLDS
    lines = shown.stdout.splitlines()
    assert lines[-1].startswith("holds  ")
    assert lines[-1].endswith("(bounds/crown)")
    assert lines[0] == "label e is among the top 2 of 5 labels"


def test_the_whole_pixel_range_is_violated(verify):
    shown = verify("--eps", "1", "--target", "e")
    assert shown.exit_code == ExitCode.VIOLATED
    assert shown.stdout.splitlines()[-1].startswith("violated  ")
    assert "witness scores: " in shown.stdout


def test_no_time_is_unknown(verify):
    shown = verify("--eps", "0.3", "--timeout", "1e-9")
    assert shown.exit_code == ExitCode.UNKNOWN
    assert "reason: time limit" in shown.stdout
    assert shown.stdout.splitlines()[-1].startswith("unknown  ")


@pytest.mark.parametrize("timeout", ["0", "-1", "nan", "inf", "x"])
def test_times_that_make_no_sense(verify, timeout):
    assert verify("--eps", "0.1", "--timeout", timeout).exit_code == ExitCode.BAD_INPUT


CONTRACT = {
    "schema", "verdict", "reason", "engine", "seconds", "model", "property", "region", "margin_bound",
    "witness", "stages",
}  # fmt: skip


@pytest.mark.parametrize(("eps", "code"), [("0.01", 0), ("1", 1)])
def test_json_is_all_there_is_on_stdout(verify, eps, code):
    shown = verify("--eps", eps, "--format", "json")
    assert shown.exit_code == code
    document = json.loads(shown.stdout)
    assert set(document) >= CONTRACT
    assert document["schema"] == "mlverify/verify/1"
    assert document["verdict"] == ["holds", "violated"][code]
    assert document["witness"] is None


def test_the_result_file_of_a_proof(verify, files):
    shown = verify("--eps", "2/255", "-o", files / "r.json", "--format", "json")
    document = json.loads((files / "r.json").read_text())
    assert document == json.loads(shown.stdout)
    assert set(document) >= CONTRACT
    assert document["margin_bound"] < 0
    assert document["witness"] is None
    assert document["region"] == {"kind": "linf", "epsilon": 2 / 255, "mask": None}
    assert document["model"]["sha256"] == load_network(files / "net.onnx").sha256
    assert document["stages"][-1]["verdict"] == "holds"
    assert document["trusted"]
    assert document["question"] == {"kind": "top-k", "target": "e", "target_number": 4, "k": 2}
    assert not (files / "r.witness.npy").exists()


def test_the_witness_lies_in_the_region_and_replays(verify, files):
    assert verify("--eps", "0.3", "-o", files / "r.json").exit_code == ExitCode.VIOLATED
    document = json.loads((files / "r.json").read_text())
    witness = np.load(files / document["witness"])
    assert witness.dtype == np.float32
    clean = np.asarray(Image.open(files / "image.png"), dtype=np.float32) / np.float32(255)
    assert (np.abs(witness[0].astype(np.float64) - clean) <= 0.3).all()
    assert ((witness >= 0) & (witness <= 1)).all()
    logits = Judge(load_network(files / "net.onnx")).logits(witness[None])[0]
    assert (np.delete(logits, 4) >= logits[4]).sum() >= 2
    arrays = np.load(files / document["arrays"])
    assert ((witness >= arrays["lower"]) & (witness <= arrays["upper"])).all()


def test_a_mask_holds_the_other_pixels(verify, files):
    # all pixels may break it, the six of the mask may not
    assert verify("--eps", "0.2").exit_code == ExitCode.VIOLATED
    shown = verify("--eps", "0.2", "--mask", files / "mask.png", "-o", files / "r.json")
    assert shown.exit_code == ExitCode.HOLDS
    arrays = np.load(files / "r.npz")
    mask = np.asarray(Image.open(files / "mask.png")) > 0
    np.testing.assert_array_equal((arrays["upper"] > arrays["lower"])[0], mask)


def test_layered_epsilons_of_a_synthesis(verify, run, files):
    made = run(
        "synth", files / "net.onnx", files / "image.png", "--mask", files / "mask.png",
        "-o", files / "s.json", "--timeout", "2", *QUICK,
    )  # fmt: skip
    assert made.exit_code == 0
    shown = verify("--epsilons", files / "s.json", "-o", files / "v.json")
    assert shown.exit_code == ExitCode.HOLDS
    document = json.loads((files / "v.json").read_text())
    if json.loads((files / "s.json").read_text())["certificate"] is not None:
        assert document["engine"] == "bounds/certificate"
    assert document["region"]["kind"] == "layered"
    assert document["region"]["epsilons"] == json.loads((files / "s.json").read_text())["epsilons"]
    assert run("check", files / "v.json", *QUICK).exit_code == 0
    for arguments, words in [
        (("--epsilons", files / "s.json", "--mask", files / "mask.png"), "--mask goes with --eps"),
        (("--epsilons", files / "v.json"), "this command reads"),
        (("--epsilons", files / "s.json", "-o", files / "s.json"), "would overwrite an input"),
        (("--epsilons", files / "s.json", "-o", files / "s.npz"), "would overwrite an input"),
    ]:
        refused = verify(*arguments)
        assert refused.exit_code == ExitCode.BAD_INPUT
        assert words in refused.stderr


def test_epsilons_of_another_image_size(verify, run, files, tmp_path):
    from mlverify.cli.results import Scene, Schema, write_result, write_scene

    mask = np.zeros((4, 4), dtype=bool)
    mask[0, 0] = True
    layers = np.maximum(*np.indices((4, 4)))
    name = write_scene(files / "s.json", Scene(np.zeros((1, 4, 4), np.float32), layers, mask.astype(int)))
    write_result(files / "s.json", Schema.SYNTH, {"epsilons": [0.1] * 4, "arrays": name})
    refused = verify("--epsilons", files / "s.json")
    assert refused.exit_code == ExitCode.BAD_INPUT
    assert "do not fit" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "either --eps EPSILON or --epsilons"),
        (("--eps", "0.1", "--epsilons", "x.json"), "either --eps EPSILON or --epsilons"),
        (("--epsilons", "gone.json"), "does not exist"),
        (("--eps", "2"), "above 1"),
        (("--eps", "-0.1"), "negative"),
        (("--eps", "1/0"), "not an epsilon"),
        (("--eps", "nan"), "not an epsilon"),
        (("--eps", "0.1", "--target", "c"), "does not predict label 'c' on the clean image"),
        (("--eps", "0.1", "--target", "nobody"), "no label 'nobody'"),
        (("--eps", "0.1", "--target", "5"), "no label '5'"),
        (("--eps", "0.1", "--k", "5"), "k must be between 1 and 4"),
        (("--eps", "0.1", "--k", "99"), "k must be between 1 and 4"),
        (("--eps", "0.1", "--k", "0"), "0 is not in the range"),
        (("--eps", "0.1", "--mask", "gone.png"), "does not exist"),
        (("--eps", "0.1", "-o", "nowhere/r.json"), "make it first"),
        (
            ("--eps", "0.1", "--label-set", "--target", "e"),
            "--target and --label-set ask different questions",
        ),
        (("--eps", "0.1", "--max-flips", "4"), "at most 3 labels may flip"),
        (("--eps", "0.1", "--max-flips", "-1"), "-1 is not in the range"),
        (("--eps", "0.1", "--above", "c", "e"), "ranks label 'e' above label 'c' on the clean image"),
        (("--eps", "0.1", "--above", "e", "e"), "can't be ranked above itself"),
        (("--eps", "0.1", "--above", "e", "x"), "no label 'x'"),
        (("--eps", "0.1", "--never", "e"), "predicts label 'e' on the clean image"),
        (("--eps", "0.1", "--never", "x"), "no label 'x'"),
        (("--eps", "0.1", "--never", "a", "--target", "e"), "--target and --never ask different questions"),
        (("--eps", "0.1", "--decision", "threshold", "--threshold", "1,2"), "2 thresholds for 5 labels"),
        (("--eps", "0.1", "--decision", "threshold", "--threshold", "gone.txt"), "nor a file"),
        (("--eps", "0.1", "--decision", "threshold", "--threshold", "image.png"), "nor a file"),
        (("--eps", "0.1", "--threshold", "0.5", "--k", "2"), "--threshold goes with --decision threshold"),
        (("--eps", "0.1", "--threshold", "0.5", "--decision", "top-k"), "--threshold goes with"),
        (("--eps", "0.1", "--decision", "threshold", "--k", "2"), "--k goes with --decision top-k"),
        (("--eps", "0.1", "-o", "."), "is a folder"),
        (("--eps", "0.1", "--decision", "threshold", "--threshold", "nan", "--target", "e"), "not a number"),
    ],
)
def test_bad_input(verify, files, monkeypatch, arguments, words):
    monkeypatch.chdir(files)
    before = sorted(files.iterdir())
    shown = verify(*arguments)
    assert shown.exit_code == ExitCode.BAD_INPUT
    assert words in shown.stderr
    assert "Traceback" not in shown.stderr
    assert not shown.stdout
    assert sorted(files.iterdir()) == before


@pytest.mark.parametrize("name", ["net.onnx", "image.png", "mask.png", "../{folder}/image.png"])
def test_inputs_are_not_overwritten(verify, files, name):
    target = files / name.format(folder=files.name)
    before = target.read_bytes()
    shown = verify("--eps", "0.1", "--mask", files / "mask.png", "-o", target)
    assert shown.exit_code == ExitCode.BAD_INPUT
    assert "would overwrite an input" in shown.stderr
    assert target.read_bytes() == before


def test_the_result_needs_a_name_of_its_own(verify, files):
    shown = verify("--eps", "0.1", "-o", files / "r.npz")
    assert shown.exit_code == ExitCode.BAD_INPUT
    assert ".json" in shown.stderr


def test_a_network_that_is_not_there_or_not_onnx(run, files):
    for path in (files / "gone.onnx", files / "image.png"):
        shown = run("verify", path, files / "image.png", "--eps", "0.1")
        assert shown.exit_code == ExitCode.BAD_INPUT
        assert str(path) in shown.stderr


def test_pixels_that_are_not_numbers(verify, files):
    pixels = np.full((1, 10, 10), 0.5, np.float32)
    pixels[0, 3, 4] = np.nan
    np.save(files / "nan.npy", pixels)
    shown = verify("--eps", "0.1", image="nan.npy")
    assert shown.exit_code == ExitCode.BAD_INPUT
    assert "NaN" in shown.stderr


def test_a_tie_on_the_clean_image_is_violated(run, tmp_path):
    network = linear_network(tmp_path / "tie.onnx", np.ones((3, 4)), (1, 2, 2))
    np.save(tmp_path / "x.npy", np.full((1, 2, 2), 0.5, np.float32))
    shown = run("verify", network, tmp_path / "x.npy", "--eps", "0", "--k", "1", *QUICK)
    assert shown.exit_code == ExitCode.VIOLATED


# --- other questions ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "text", "kind"),
    [
        (("--label-set",), "the top 2 of 5 labels stay the same", "label-set"),
        (
            ("--max-flips", "2"),
            "the top 2 of 5 labels stay the same but for at most 2 flips",
            "label-set",
        ),
        (("--above", "e", "c"), "label e is ranked above label c", "above"),
        (("--never", "b"), "label b is not among the top 2 of 5 labels", "not-top-k"),
        (
            ("--decision", "threshold", "--threshold", "0", "--max-flips", "1"),
            "the labels of 5 that are above their thresholds stay the same but for at most 1 flip",
            "label-set",
        ),
    ],
)
@pytest.mark.parametrize(("eps", "code"), [("0.004", 0), ("1", 1)])
def test_other_questions_and_their_check(verify, run, files, arguments, text, kind, eps, code):
    shown = verify("--eps", eps, *arguments, "-o", files / "r.json")
    assert shown.exit_code == code, shown.stdout + shown.stderr
    assert shown.stdout.splitlines()[0] == text
    document = json.loads((files / "r.json").read_text())
    assert document["property"] == text
    assert document["question"]["kind"] == kind
    assert run("check", files / "r.json", *QUICK).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "other"), [(("--never", "b"), "top-k"), (("--target", "e"), "not-top-k")]
)
def test_always_and_never_are_not_confused(verify, run, files, arguments, other):
    assert verify("--eps", "0.004", *arguments, "-o", files / "r.json").exit_code == 0
    document = json.loads((files / "r.json").read_text())
    document["question"]["kind"] = other
    (files / "r.json").write_text(json.dumps(document))
    assert run("check", files / "r.json", *QUICK).exit_code == ExitCode.INTERNAL


def test_never_above_a_threshold(scored):
    assert scored("Sigmoid", "--eps", "0.49", "--never", "1").stdout.startswith("label 1 stays below logit 0")
    assert "can't stay out" in scored("Sigmoid", "--eps", "0.1", "--never", "0").stderr


@pytest.mark.parametrize("field", ["flips", "label_numbers", "k"])
def test_a_description_of_another_set_is_noticed(verify, run, files, field):
    assert verify("--eps", "0.004", "--label-set", "-o", files / "r.json").exit_code == 0
    document = json.loads((files / "r.json").read_text())
    other = {"flips": 2, "label_numbers": [0, 1], "k": None}[field]
    document["question"][field] = other
    if field == "k":
        del document["question"]["k"]
    (files / "r.json").write_text(json.dumps(document))
    assert run("check", files / "r.json", *QUICK).exit_code in (ExitCode.INTERNAL, ExitCode.BAD_INPUT)


# --- thresholds -----------------------------------------------------------------------------------------


@pytest.fixture
def scored(run, tmp_path):
    """``mlverify verify --decision threshold`` on 4 pixels of 0.5; scores are sigmoid(x0) ... by ``tail``."""
    weight = np.array([[4.0, 0, 0, 0], [0, -4.0, 0, 0], [0, 0, 0.1, 0]])
    np.save(tmp_path / "x.npy", np.full((1, 2, 2), 0.5, np.float32))

    def invoke(tail, *arguments):
        network = linear_network(tmp_path / "n.onnx", weight, (1, 2, 2), tail=tail)
        return run("verify", network, tmp_path / "x.npy", "--decision", "threshold", *QUICK, *arguments)

    return invoke


@pytest.mark.parametrize(
    ("target", "eps", "code"),
    [("0", "0.49", 0), ("0", "0.5", 1), ("1", "0.49", 0), ("1", "0.5", 1), ("2", "0.4", 0)],
)
def test_threshold_on_a_sigmoid_by_hand(scored, target, eps, code):
    # label 0 is above 0.5 while its pixel is positive, label 1 below 0.5 likewise, label 2 above
    shown = scored("Sigmoid", "--eps", eps, "--target", target)
    assert shown.exit_code == code, shown.stdout + shown.stderr
    side = "below" if target == "1" else "above"
    assert shown.stdout.splitlines()[0] == f"label {target} stays {side} logit 0"


def test_threshold_moves_with_its_value(scored, tmp_path):
    # sigmoid(4 x) > 0.8 while x > log(4) / 4 = 0.3466
    arguments = ("--target", "0", "--threshold", "0.8", "-o", tmp_path / "r.json")
    assert scored("Sigmoid", "--eps", "0.15", *arguments).exit_code == 0
    document = json.loads((tmp_path / "r.json").read_text())
    assert document["question"]["logit"] == pytest.approx(np.log(4))
    assert document["question"]["above"] is True
    assert scored("Sigmoid", "--eps", "0.16", *arguments).exit_code == 1


def test_threshold_without_a_tail_is_on_the_scores(scored):
    assert scored(None, "--eps", "0.2", "--target", "0", "--threshold", "1.0").exit_code == 0
    assert scored(None, "--eps", "0.3", "--target", "0", "--threshold", "1.0").exit_code == 1


def test_thresholds_that_can_not_be_asked(scored):
    for tail, threshold, words in [
        ("Softmax", "0.3", "top-k"),
        ("Sigmoid", "0", "between 0 and 1"),
        ("Sigmoid", "1.5", "between 0 and 1"),
        (None, "inf", "not a number"),
    ]:
        shown = scored(tail, "--eps", "0.1", "--target", "0", "--threshold", threshold)
        assert shown.exit_code == ExitCode.BAD_INPUT
        assert words in shown.stderr


def test_a_threshold_alone_asks_for_the_rule(run, tmp_path, scored):
    scored(None, "--eps", "0.1")
    shown = run("verify", tmp_path / "n.onnx", tmp_path / "x.npy", "--eps", "0.1", "--threshold", "1", *QUICK)
    assert shown.stdout.splitlines()[0] == "label 0 stays above logit 1"


def test_a_threshold_out_of_range_is_named_before_a_label_that_nobody_sees(scored):
    for threshold, words in [("1.5", "between 0 and 1"), ("nan", "not a number")]:
        shown = scored("Sigmoid", "--eps", "0.1", "--threshold", threshold)
        assert shown.exit_code == ExitCode.BAD_INPUT
        assert words in shown.stderr


def test_no_label_above_the_threshold_asks_for_a_target(scored):
    shown = scored("Sigmoid", "--eps", "0.1", "--threshold", "0.99")
    assert shown.exit_code == ExitCode.BAD_INPUT
    assert "--target" in shown.stderr


def test_a_threshold_per_label(scored, tmp_path):
    # scores without a tail: 2, -2 and 0.05 at the clean image; pixels move the first by 4 eps
    (tmp_path / "t.txt").write_text("1.0\n-1.0\n0.0\n")
    for thresholds in ("1.0,-1.0,0.0", tmp_path / "t.txt"):
        asked = ("--threshold", thresholds, "--label-set", "-o", tmp_path / "r.json")
        assert scored(None, "--eps", "0.2", *asked).exit_code == 0
        document = json.loads((tmp_path / "r.json").read_text())
        assert document["question"]["logits"] == [1.0, -1.0, 0.0]
        assert document["question"]["labels"] == ["0", "2"]
        assert scored(None, "--eps", "0.3", *asked).exit_code == 1
        assert scored(None, "--eps", "0.3", "--threshold", thresholds, "--max-flips", "2").exit_code == 0
    (tmp_path / "t.txt").write_text("\n")
    shown = scored(None, "--eps", "0.2", "--threshold", tmp_path / "t.txt")
    assert shown.exit_code == ExitCode.BAD_INPUT
    assert "is empty" in shown.stderr
