"""The commands on a tiny network and tiny images in the layout of the real data."""

import numpy as np
import pytest
from mlverify.benchmarks import baselines, synth_table, thesis_figures, thesis_loop
from mlverify.benchmarks.samples import NETWORKS, network_file, read_samples
from mlverify.errors import InputError
from mlverify.verifier.onnx_reader import load_network
from mlverify.verifier.session import Judge
from onnx_factory import conv_network
from PIL import Image

SIDE = 8


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two images on which the network sees the two labels that their objects have."""
    folder = tmp_path_factory.mktemp("data")
    for name in NETWORKS:
        conv_network(network_file(folder, name), (1, SIDE, SIDE), seed=3)
    judge = Judge(load_network(network_file(folder, NETWORKS[0])))
    images = np.random.default_rng(0).integers(0, 256, size=(2, 1, SIDE, SIDE), dtype=np.uint8)
    objects = np.zeros((2, SIDE, SIDE), dtype=np.uint8)
    for number, scores in enumerate(judge.logits(images.astype(np.float32) / np.float32(255))):
        target, item = sorted(np.argsort(scores)[-2:])
        objects[number, 1:3, 1:3], objects[number, 5:7, 5:7] = target + 1, item + 1
    names = np.array(["a", "b"])
    np.savez(folder / "dmnist_samples.npz", names=names, images=images)
    np.savez(folder / "dmnist_objects.npz", names=names, objects=objects)
    rows = [
        f"noDef,{sample.name},{min(sample.masks)},{max(sample.masks)},0.01" for sample in read_samples(folder)
    ]
    (folder / "targets.csv").write_text(
        "\n".join(["network,image,target,object,prototype_size", *rows, "noDef,c,0,1,0.01\n"])
    )
    return folder


def test_synth_table(data, tmp_path, capsys):
    command = [str(data), str(data / "targets.csv"), "--timeout", "0.5", "--threads", "1"]
    command += ["--csv", str(tmp_path / "rows.csv")]
    synth_table.main(command)
    first = capsys.readouterr().out
    assert first.count(" holds\n") == 2
    assert "no sample image c" in first
    synth_table.main(command)
    again = capsys.readouterr().out
    assert "2 of 3 rows are in the file already" in again
    # the row that failed is tried again and takes another time
    assert _without_seconds(again) == _without_seconds(first)


def _without_seconds(shown: str) -> list[str]:
    return [line.split("seconds")[0] for line in shown.splitlines()[-2:]]


def test_synth_table_needs_its_targets(data, capsys):
    with pytest.raises(SystemExit, match="error: "):
        synth_table.main([str(data), str(data / "nothing.csv")])


def test_thesis_loop(data, capsys):
    thesis_loop.main([str(data), "--images", "1", "--timeout", "0.3", "--threads", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == list(NETWORKS)
    assert all(float(line.split()[2]) > 0 for line in lines[1:4])
    assert lines[-1].startswith("over sensitivity weights, 3 rows")


def test_thesis_figures(data, tmp_path, capsys):
    command = [str(data), "-o", str(tmp_path / "maps.png"), "--timeout", "0.2", "--threads", "1"]
    thesis_figures.main(command)
    first = capsys.readouterr().out.splitlines()
    assert len(first) == 2 + 3 * 5
    assert all(line.endswith(" holds") for line in first[1:-1])
    with Image.open(tmp_path / "maps.png") as picture:
        picture.load()
    thesis_figures.main(command)
    assert capsys.readouterr().out.splitlines() == first
    with pytest.raises(SystemExit, match="--timeout"):
        thesis_figures.main([*command[:-3], "0.3", "--threads", "1"])
    with pytest.raises(SystemExit, match="no sample image z"):
        thesis_figures.main([*command, "--image", "z"])


def test_baselines(data, tmp_path, capsys):
    command = [
        str(data),
        "--images",
        "1",
        "--timeout",
        "0.3",
        "--threads",
        "1",
        "--csv",
        str(tmp_path / "b.csv"),
    ]
    baselines.main(command)
    first = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in first[1:10]] == ["thesis", "marvel", "liu"] * 3
    assert all(float(line.split()[3]) > 0 for line in first[1:10])
    assert [line.split()[0] for line in first[11:]] == ["thesis", "marvel", "liu"]
    baselines.main(command)
    assert capsys.readouterr().out.splitlines() == first


def test_missing_data_is_named(tmp_path):
    with pytest.raises(InputError, match="dmnist_samples"):
        read_samples(tmp_path)
