import pytest
import torch
from scenes import Scene, small_scene


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def scene(tmp_path_factory) -> Scene:
    """10 x 10 pixels, 6 layers, 5 labels, a convolution, a max-pool and a dense layer."""
    return small_scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture(scope="session")
def plain_scene(tmp_path_factory) -> Scene:
    """The same without max-pool, another network."""
    return small_scene(tmp_path_factory.mktemp("plain"), pool=False, seed=3)
