"""A small network and an image as files, and the command line on them."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from mlverify.cli.main import cli
from onnx_factory import conv_network
from PIL import Image


@pytest.fixture
def run():
    """The result of ``mlverify ARGUMENTS``."""

    def invoke(*arguments):
        return CliRunner().invoke(cli, [str(argument) for argument in arguments])

    return invoke


def save_mask(path, size=10):
    mask = np.zeros((size, size), dtype=np.uint8)
    mask[3:5, 2:5] = 255
    Image.fromarray(mask).save(path)
    return path


@pytest.fixture(scope="session")
def shared_files(tmp_path_factory) -> Path:
    """net.onnx (5 labels a to e, k = 2), image.png and mask.png in one folder; not to be changed."""
    folder = tmp_path_factory.mktemp("files")
    metadata = {"labels": '["a","b","c","d","e"]', "k": "2"}
    conv_network(folder / "net.onnx", (1, 10, 10), 5, pool=True, metadata=metadata)
    pixels = np.random.default_rng(0).integers(0, 256, (10, 10), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "image.png")
    save_mask(folder / "mask.png")
    return folder


@pytest.fixture
def files(shared_files, tmp_path) -> Path:
    """The same files, to play with."""
    for path in shared_files.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path
