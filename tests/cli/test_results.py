import json
from pathlib import Path

import numpy as np
import pytest
from mlverify.cli.results import Scene, Schema, read_result, read_scene, to_json, write_result, write_scene
from mlverify.errors import InputError


def test_floats_come_back_exactly(tmp_path):
    values = np.random.default_rng(0).random(50)
    write_result(tmp_path / "r.json", Schema.SYNTH, {"epsilons": values, "size": values.sum()})
    read = read_result(tmp_path / "r.json", Schema.SYNTH)
    np.testing.assert_array_equal(read.numbers("epsilons"), values)
    assert read.get("size", float) == values.sum()


def test_json_forms():
    value = {
        "a": Path("x/y"),
        "b": Schema.VERIFY,
        "c": np.float32(0.5),
        "d": (np.int64(1), None),
        "e": float("nan"),
    }
    assert to_json(value) == {"a": "x/y", "b": "mlverify/verify/1", "c": 0.5, "d": [1, None], "e": None}
    with pytest.raises(TypeError, match="no JSON form"):
        to_json(object())


def test_a_value_without_json_form_leaves_no_file(tmp_path):
    with pytest.raises(TypeError):
        write_result(tmp_path / "r.json", Schema.SYNTH, {"a": object()})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"schema": "mlverify/synth/1", "epsilons": [0.1', "truncated"),
        (b"", "truncated"),
        (b"\xff\xfe\x00", "not a text file"),
        (b"[1, 2]", "not a result"),
        (b'{"a": 1}', "no schema"),
        (b'{"schema": "mlverify/synth/9"}', "use the mlverify that wrote it"),
        (b'{"schema": ["x"]}', "not a result"),
        (b'{"schema": "mlverify/verify/1"}', "this command reads mlverify/synth/1"),
    ],
)
def test_files_that_can_not_be_read(tmp_path, content, message):
    (tmp_path / "r.json").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_result(tmp_path / "r.json", Schema.SYNTH)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_result(tmp_path / "r.json")
    with pytest.raises(InputError, match="can't be read"):
        read_result(tmp_path)


def result_with(folder, **fields):
    (folder / "r.json").write_text(json.dumps({"schema": "mlverify/synth/1", **fields}))
    return read_result(folder / "r.json")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "missing"),
        ({"epsilons": 3}, "a int"),
        ({"epsilons": [0.1, "x"]}, "list of numbers"),
        ({"epsilons": [True]}, "list of numbers"),
        ({"epsilons": [float("inf")]}, "NaN or infinite"),
    ],
)
def test_fields_are_checked(tmp_path, fields, message):
    with pytest.raises(InputError, match=message):
        result_with(tmp_path, **fields).numbers("epsilons")


def scene():
    mask = np.zeros((4, 5), dtype=bool)
    mask[1, 1] = True
    return Scene(
        np.random.default_rng(0).random((1, 4, 5), dtype=np.float32), np.arange(20).reshape(4, 5), mask * 2
    )


def test_scene_round_trip(tmp_path):
    written = scene()
    name = write_scene(tmp_path / "r.json", written)
    assert name == "r.npz"
    read = read_scene(result_with(tmp_path, arrays=name))
    np.testing.assert_array_equal(read.image, written.image)
    np.testing.assert_array_equal(read.layers, written.layers)
    np.testing.assert_array_equal(read.objects, written.objects)


def test_scenes_that_can_not_be_read(tmp_path):
    with pytest.raises(InputError, match="copy all files"):
        read_scene(result_with(tmp_path, arrays="gone.npz"))
    with pytest.raises(InputError, match="beside it"):
        read_scene(result_with(tmp_path, arrays="../../etc/passwd"))
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 nonsense")
    with pytest.raises(InputError, match="can't be read"):
        read_scene(result_with(tmp_path, arrays="bad.npz"))
    np.savez(
        tmp_path / "odd.npz",
        image=np.zeros((1, 4, 5)),
        layers=np.zeros((3, 3), int),
        objects=np.zeros((4, 5), int),
    )
    with pytest.raises(InputError, match="don't fit"):
        read_scene(result_with(tmp_path, arrays="odd.npz"))
