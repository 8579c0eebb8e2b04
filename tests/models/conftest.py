"""Digits for the tests: made-up ones that need no file, and the real ones where they are at hand."""

import os
from pathlib import Path

import numpy as np
import pytest
from mlverify.models.mnist import DIGIT_SIDE, FOLDER_VARIABLE, Digits


def made_up_digits(per_class: int, seed: int) -> Digits:
    """Class c is a fixed pattern of 4x4 blocks in the middle of the square, of noisy brightness."""
    patterns = np.random.default_rng(7).random((10, 5, 5)) < 0.5
    rng = np.random.default_rng(seed)
    labels = np.tile(np.arange(10, dtype=np.uint8), per_class)
    images = np.zeros((len(labels), DIGIT_SIDE, DIGIT_SIDE), np.uint8)
    shapes = np.kron(patterns[labels], np.ones((4, 4), bool))
    images[:, 4:24, 4:24] = shapes * rng.integers(150, 256, shapes.shape)
    return Digits(images, labels)


@pytest.fixture(scope="session")
def digits() -> Digits:
    return made_up_digits(20, seed=0)


@pytest.fixture(scope="session")
def other_digits() -> Digits:
    return made_up_digits(10, seed=1)


@pytest.fixture(scope="session")
def mnist_folder() -> Path:
    named = os.environ.get(FOLDER_VARIABLE)
    folder = Path(named) if named else Path(__file__).parents[2] / ".." / "shared" / "data" / "mnist"
    if not (folder / "train-images-idx3-ubyte.gz").is_file():
        pytest.skip(f"the MNIST files are not at hand (set {FOLDER_VARIABLE})")
    return folder
