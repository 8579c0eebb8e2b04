import errno
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from mlverify.cli.main import ExitCode
from onnx_factory import conv_network, linear_network
from PIL import Image

QUICK = ("--threads", "1", "--solver", "highs")
CONTRACT = {
    "schema", "verdict", "target", "k", "epsilons", "weights", "size", "layers", "objective", "maximality",
    "queries", "seconds",
}  # fmt: skip


@pytest.fixture
def synth(run, files):
    """``mlverify synth`` on the small network and image; r.json is the result."""

    def invoke(*arguments, timeout="1", mask="mask.png"):
        chosen = () if mask is None else ("--mask", files / mask)
        return run(
            "synth", files / "net.onnx", files / "image.png", "-o", files / "r.json", "--timeout", timeout,
            *QUICK, *chosen, *arguments,
        )  # fmt: skip

    return invoke


def document(folder):
    return json.loads((folder / "r.json").read_text())


def test_everything_is_written(synth, files):
    shown = synth("--timeout", "0.4")
    assert shown.exit_code == ExitCode.HOLDS, shown.stderr
    lines = shown.stdout.splitlines()
    assert lines[0] == "'e' stays visible whatever changes around the marked object up to:"
    assert lines[-1].startswith("holds  ")
    result = document(files)
    assert set(result) >= CONTRACT
    assert result["schema"] == "mlverify/synth/1"
    assert result["verdict"] == "holds"
    assert (result["target"], result["target_number"], result["object"], result["k"]) == ("e", 4, None, 2)
    layers = len(result["epsilons"])
    assert result["layers"][0] == {"distance": 0, "pixels": 6}
    assert sum(layer["pixels"] for layer in result["layers"]) == 100
    assert len(result["weights"]) == len(result["layers"]) == len(result["maximality"]) == layers
    assert result["size"] == pytest.approx(np.dot(result["weights"], result["epsilons"]), rel=1e-12)
    assert result["size"] > 0
    assert [item["layer"] for item in result["maximality"]] == list(range(layers))
    assert {item["status"] for item in result["maximality"]} <= {"cap", "tight", "open"}
    assert set(result["queries"]) == {"attack", "bounds", "bab", "milp", "complete"}
    assert result["arrays"] == "r.npz"
    with np.load(files / "r.npz") as arrays:
        assert arrays["image"].shape == (1, 10, 10)
        assert arrays["layers"].max() == layers - 1
        np.testing.assert_array_equal(arrays["mask"], arrays["layers"] == 0)
    with Image.open(files / "r.png") as picture:
        picture.load()
    if result["certificate"] is not None:
        assert (files / result["certificate"]).is_file()
    else:
        assert result["proof"]["engine"] in ("milp", "bounds/crown", "bounds/alpha-crown")


def test_json_is_all_there_is_on_stdout(synth, files):
    shown = synth("--format", "json", timeout="0.3")
    assert json.loads(shown.stdout) == document(files)


def test_the_result_can_be_checked_and_shown(synth, run, files):
    synth(timeout="0.5")
    checked = run("check", files / "r.json", *QUICK)
    assert checked.exit_code == ExitCode.HOLDS
    assert checked.stdout.startswith("confirmed  (")
    shown = run("show", files / "r.json", "-o", files / "figure.png")
    assert shown.exit_code == 0, shown.stderr
    with Image.open(files / "figure.png") as picture:
        assert picture.width == 1600


@pytest.mark.parametrize("timeout", ["1e-9", "0.02", "0.1"])
def test_hardly_any_time_still_gives_a_certified_result(synth, run, files, timeout):
    shown = synth(timeout=timeout)
    result = document(files)
    assert shown.exit_code == (0 if result["size"] > 0 else 3), shown.stderr
    assert result["verdict"] == "holds"
    assert result["stopped"] == "time limit"
    assert run("check", files / "r.json", *QUICK).exit_code == ExitCode.HOLDS


def test_files_are_named_after_model_and_image(run, files, monkeypatch):
    monkeypatch.chdir(files)
    shown = run("synth", "net.onnx", "image.png", "--mask", "mask.png", "--timeout", "0.2", *QUICK)
    assert shown.exit_code == 0
    for suffix in (".json", ".png", ".npz"):
        assert (files / f"net-image{suffix}").is_file()


def test_weights_by_name_and_from_a_file(synth, files):
    synth("--weights", "pixels", timeout="0.3")
    assert document(files)["weights"] == [layer["pixels"] for layer in document(files)["layers"]]
    assert document(files)["weighting"] == "pixels"
    (files / "w.txt").write_text("0\n1\n0\n2.5\n1\n1\n")
    synth("--weights", files / "w.txt", timeout="0.3")
    result = document(files)
    assert result["weights"] == [0, 1, 0, 2.5, 1, 1]
    assert result["epsilons"][0] == result["epsilons"][2] == 0
    assert result["size"] == pytest.approx(np.dot(result["weights"], result["epsilons"]))


@pytest.mark.parametrize("shape", [("--tie", "2"), ("--order", "non-increasing")])
def test_layers_of_weight_zero_that_their_shape_lifts(synth, run, files, shape):
    (files / "w.txt").write_text("0 1 1 0 1 0")
    synth("--objective", "max-min", "--weights", files / "w.txt", *shape, timeout="0.3")
    assert document(files)["epsilons"][0] > 0
    checked = run("check", files / "r.json", *QUICK)
    assert checked.exit_code == ExitCode.HOLDS, checked.stderr


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("1 1 1", "3 weights for 6 layers"),
        ("1 1 1 1 1 1 1", "7 weights for 6 layers"),
        ("", "0 weights for 6 layers"),
        ("1 1 1 x 1 1", "neither uniform nor pixels nor distance nor a file"),
        ("1 1 1 -1 1 1", "not negative"),
        ("1 1 1 nan 1 1", "finite"),
        ("1 1 1 inf 1 1", "finite"),
        ("0 0 0 0 0 0", "all weights are zero"),
        (None, "neither uniform nor pixels nor distance nor a file"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*input contained no data")
def test_weights_that_make_no_size(synth, files, content, words):
    if content is not None:
        (files / "w.txt").write_text(content)
    shown = synth("--weights", files / "w.txt")
    assert shown.exit_code == ExitCode.BAD_INPUT
    assert words in shown.stderr
    assert not (files / "r.json").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--target", "nobody"), "no label 'nobody'"),
        (("--target", "c"), "does not see label 'c' among its top 2"),
        (("--target", "e", "--object", "e"), "can't be both the target and the perturbed object"),
        (("--target", "4", "--object", "E"), "can't be both"),
        (("--k", "5"), "k must be between 1 and 4"),
        (("--mask", "gone.png"), "does not exist"),
        (("--mask", "black.png"), "has no object"),
        (("--mask", "white.png"), "marks every pixel"),
        (("--mask", "other.png"), "4 x 4 pixels"),
        (("--mask", "net.onnx"), "not a picture"),
        (("-o", "nowhere/r.json"), "make it first"),
        (("-o", "r.txt"), "should end in .json"),
        (("-o", "image.json"), "would overwrite an input"),
        (("-o", "mask.json"), "would overwrite an input"),
        (("--cutting", "blunt"), "'blunt' is not one of"),
        (("--mask", "dot.png", "--tie", "0"), "neither a number of bands nor distances"),
        (("--mask", "dot.png", "--tie", "1,2"), "the first at 0"),
        (("--mask", "dot.png", "--order", "non-increasing"), "leave it out for several"),
        (("--mask", "mask.png"), "objects 1 and 2 share 6 pixels"),
        (("--object", "a", "--object", "0"), "--object a is given twice"),
        (("--mask", "mask.png", "--mask", "dot.png", "--object", "a"), "give one mask per object"),
    ],
)
def test_bad_input(synth, files, monkeypatch, arguments, words):
    monkeypatch.chdir(files)
    pictures = {
        "black": np.zeros((10, 10)),
        "white": np.ones((10, 10)),
        "other": np.eye(4),
        "dot": np.pad([[1]], ((9, 0), (9, 0))),
    }
    for name, pixels in pictures.items():
        Image.fromarray((255 * pixels).astype(np.uint8)).save(files / f"{name}.png")
    before = {path: path.read_bytes() for path in files.iterdir()}
    shown = synth(*arguments, mask=None if "--object" in arguments else "mask.png")
    assert shown.exit_code == ExitCode.BAD_INPUT, shown.stderr
    assert words in shown.stderr
    assert "Traceback" not in shown.stderr
    assert not shown.stdout
    assert {path: path.read_bytes() for path in files.iterdir()} == before


def test_missing_and_damaged_models(run, files):
    (files / "cut.onnx").write_bytes((files / "net.onnx").read_bytes()[:-200])
    for name in ("gone.onnx", "cut.onnx", "mask.png"):
        shown = run("synth", files / name, files / "image.png", "-o", files / "r.json", *QUICK)
        assert shown.exit_code == ExitCode.BAD_INPUT
        assert name in shown.stderr
        assert not (files / "r.json").exists()


def two_dots(folder):
    """Two bright squares; label l0 sees the left one, l1 the right one, l2 nothing."""
    pixels = np.zeros((10, 10), np.uint8)
    pixels[2:4, 1:3] = pixels[6:8, 6:8] = 255
    Image.fromarray(pixels).save(folder / "dots.png")
    weight = np.zeros((3, 10, 10))
    weight[0, 2:4, 1:3], weight[1, 6:8, 6:8] = 2.0, 1.0
    return linear_network(
        folder / "dots.onnx", weight.reshape(3, 100), (1, 10, 10), bias=np.array([0, 0, 1.0])
    )


@pytest.mark.parametrize(
    ("arguments", "target", "object_", "corner"),
    [
        ((), "0", "1", (6, 6)),
        (("--target", "1"), "1", "0", (2, 1)),
        (("--object", "0"), "1", "0", (2, 1)),
        (("--target", "0", "--object", "1"), "0", "1", (6, 6)),
    ],
)
def test_target_and_object_are_chosen(run, files, arguments, target, object_, corner):
    network = two_dots(files)
    shown = run(
        "synth", network, files / "dots.png", "-o", files / "r.json", "--timeout", "0.3", *QUICK, *arguments
    )
    assert shown.exit_code == 0, shown.stderr
    result = document(files)
    assert (result["target"], result["object"]) == (target, object_)
    with np.load(files / "r.npz") as arrays:
        rows, columns = np.nonzero(arrays["mask"])
    assert (rows.min(), columns.min()) == corner
    assert rows.size == 4
    assert f"the object of '{object_}'" in shown.stdout


def test_several_objects_with_layers_around_each(run, files):
    network = two_dots(files)
    options = ("-o", files / "r.json", "--timeout", "0.4", "--k", "2", *QUICK)
    objects = ("--object", "0", "--object", "1")
    refused = run("synth", network, files / "dots.png", *objects, *options)
    assert refused.exit_code == ExitCode.BAD_INPUT
    assert "name the --target" in refused.stderr
    refused = run("synth", network, files / "dots.png", *objects, "--target", "0", *options)
    assert "can't be both" in refused.stderr


def test_several_masks_and_bands(run, synth, files):
    pixels = np.zeros((10, 10), np.uint8)
    pixels[8, 8] = 255
    Image.fromarray(pixels).save(files / "dot.png")
    shown = synth("--mask", files / "dot.png", "--object", "a", "--object", "b", "--tie", "3", timeout="0.5")
    assert shown.exit_code == 0, shown.stderr
    assert shown.stdout.splitlines()[0].endswith("the objects of 'a' and 'b' up to:")
    result = document(files)
    assert (result["object"], result["objects"]) == (None, ["a", "b"])
    assert result["layers"][0] == {"distance": 0, "pixels": 6, "object": 0}
    assert [layer["distance"] for layer in result["layers"]] == [0, 0, 1, 1, 3, 3]
    assert result["weights"][2] == 2
    assert run("check", files / "r.json", *QUICK).exit_code == ExitCode.HOLDS
    assert run("show", files / "r.json", "-o", files / "again.png").exit_code == 0
    result["layers"][2]["object"], result["layers"][3]["object"] = 1, 0
    (files / "r.json").write_text(json.dumps(result))
    assert run("check", files / "r.json", *QUICK).exit_code == ExitCode.INTERNAL


def test_a_colour_photo_with_three_labels_and_two_objects(run, tmp_path):
    """As for three digits and for photos: k = 3, several objects, RGB."""
    network = conv_network(tmp_path / "net.onnx", (3, 12, 12), 6, pool=True, seed=2)
    pixels = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    for name, corner in (("one", 1), ("two", 8)):
        mask = np.zeros((12, 12), np.uint8)
        mask[corner : corner + 3, corner : corner + 3] = 255
        Image.fromarray(mask).save(tmp_path / f"{name}.png")
    masks = ("--mask", tmp_path / "one.png", "--mask", tmp_path / "two.png")
    shown = run(
        "synth", network, tmp_path / "photo.png", *masks, "--k", "3", "--tie", "0,1,3", "--timeout", "1",
        "-o", tmp_path / "r.json", *QUICK,
    )  # fmt: skip
    assert shown.exit_code == ExitCode.HOLDS, shown.stderr
    result = document(tmp_path)
    assert (result["k"], result["objects"], len(result["layers"])) == (3, [None, None], 6)
    assert result["size"] > 0
    assert run("check", tmp_path / "r.json", *QUICK).exit_code == ExitCode.HOLDS
    again = run(
        "verify", network, tmp_path / "photo.png", "--k", "3", "--epsilons", tmp_path / "r.json", *QUICK
    )
    assert again.exit_code == ExitCode.HOLDS, again.stdout + again.stderr


def test_an_object_that_the_network_does_not_see_is_not_looked_for(run, files):
    shown = run(
        "synth", two_dots(files), files / "dots.png", "-o", files / "r.json", "--object", "2", *QUICK
    )  # fmt: skip
    assert shown.exit_code == 2
    assert "does not see label '2' here" in shown.stderr
    assert not (files / "r.json").exists()


def test_one_label_needs_an_object(run, files):
    network = two_dots(files)
    arguments = (
        "synth",
        network,
        files / "dots.png",
        "-o",
        files / "r.json",
        "--timeout",
        "0.3",
        *QUICK,
        "--k",
        "1",
    )
    refused = run(*arguments)
    assert refused.exit_code == ExitCode.BAD_INPUT
    assert "--object" in refused.stderr
    assert run(*arguments, "--mask", files / "mask.png").exit_code == ExitCode.HOLDS


# --- Ctrl-C ---------------------------------------------------------------------------------------------


def read_until(terminal, words, process, patience=120.0):
    """What the program wrote to the terminal, up to ``words``."""
    seen, deadline = b"", time.monotonic() + patience
    while words not in seen:
        assert time.monotonic() < deadline, seen[-2000:]
        if not select.select([terminal], [], [], 0.1)[0]:
            assert process.poll() is None, seen[-2000:]
            continue
        seen += read(terminal)
    return seen


def read(terminal):
    try:
        return os.read(terminal, 65536)
    except OSError as error:  # Linux says EIO when the other end is closed
        if error.errno == errno.EIO:
            return b""
        raise


def interrupted(command, folder, words):
    """The exit code of a program that got SIGINT as soon as its progress showed ``words``."""
    terminal, other = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdin=other,
        stderr=other,
        stdout=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )
    os.close(other)
    try:
        read_until(terminal, words, process)
        process.send_signal(signal.SIGINT)
        while process.poll() is None:
            if select.select([terminal], [], [], 0.1)[0]:
                read(terminal)
        return process.returncode, process.stdout.read().decode()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        os.close(terminal)


@pytest.mark.parametrize("phase", [b"ascent", b"beyond"])
def test_ctrl_c_writes_the_best_result_so_far(run, files, phase):
    command = [
        sys.executable, "-m", "mlverify", "synth", "net.onnx", "image.png", "--mask", "mask.png",
        "-o", "r.json", "--timeout", "300", *QUICK,
    ]  # fmt: skip
    code, stdout = interrupted(command, files, phase)
    assert code == ExitCode.INTERRUPTED, stdout
    result = document(files)
    assert result["stopped"] in ("interrupted", "done")
    assert result["verdict"] == "holds"
    assert result["size"] > 0
    checked = run("check", files / "r.json", *QUICK)
    assert checked.exit_code == ExitCode.HOLDS
    assert "holds" in stdout
