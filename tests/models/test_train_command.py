import pytest
from click.testing import CliRunner
from mlverify.cli.train import train_command
from mlverify.errors import InputError

CONFIG = """
architecture = "dmnist-cnn"
[data]
train_images = 256
test_images = 100
[schedule]
epochs = 1
"""


@pytest.fixture
def config(tmp_path):
    (tmp_path / "run.toml").write_text(CONFIG)
    return tmp_path / "run.toml"


def run(*arguments) -> object:
    return CliRunner().invoke(train_command, [str(argument) for argument in arguments])


def test_the_last_line_names_file_and_accuracy(config, tmp_path, mnist_folder):
    target = tmp_path / "net.onnx"
    result = run(config, "-o", target, "--mnist", mnist_folder, "--device", "cpu", "--seed", 3)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{target}  exact match ")
    assert {file.name for file in tmp_path.iterdir()} == {
        "run.toml",
        "net.onnx",
        "net.safetensors",
        "net.csv",
    }


def test_mistakes_are_found_before_any_training(config, tmp_path):
    nowhere = run(config, "-o", tmp_path / "none" / "net.onnx")
    assert isinstance(nowhere.exception, InputError)
    assert isinstance(run(config, "-o", tmp_path / "net.csv").exception, InputError)
    no_digits = run(config, "-o", tmp_path / "net.onnx", "--mnist", tmp_path)
    assert isinstance(no_digits.exception, InputError)
    assert "lacks" in str(no_digits.exception)
    assert isinstance(run(tmp_path / "none.toml").exception, InputError)
    assert [file.name for file in tmp_path.iterdir()] == ["run.toml"]
