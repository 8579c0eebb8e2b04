import pytest
from mlverify.errors import InputError
from mlverify.models.architectures import Architecture
from mlverify.models.config import DefenceKind, read_config
from mlverify.models.defences import NoDefence, PgdDefence, RectangleDefence
from mlverify.models.losses import Loss

LEAST = 'architecture = "dmnist-cnn"\n[schedule]\nepochs = 3\n'


def read(tmp_path, text: str):
    file = tmp_path / "run.toml"
    file.write_text(text)
    return read_config(file)


def test_defaults_are_filled_in(tmp_path):
    config = read(tmp_path, LEAST)
    assert config.architecture is Architecture.DMNIST_CNN
    assert config.loss is Loss.TWO_SIDED
    assert config.defence == NoDefence()
    assert config.schedule.epochs == 3
    assert config.seed == 0


def test_defences_are_read(tmp_path):
    config = read(tmp_path, LEAST + '[defence]\nkind = "linf"\nepsilon = 0.05\nsteps = 2\n')
    assert config.defence_kind is DefenceKind.PGD
    assert config.defence == PgdDefence(epsilon=0.05, steps=2, relative_step=0.75, ramp=0.5)
    assert read(tmp_path, LEAST + '[defence]\nkind = "l0"\nmax_side = 9\n').defence == RectangleDefence(9)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sede = 1\n" + LEAST, r"unknown key 'sede'; did you mean 'seed'\?"),
        (LEAST + "epoch = 4\n", r"unknown key 'schedule.epoch'; did you mean 'epochs'\?"),
        ('architecture = "dmnist-cnn"\n[schedule]\nepocs = 1\n', r"did you mean 'epochs'\?"),
        (LEAST + "[zzz]\n", r"unknown key 'zzz'; valid are 'architecture'"),
        (LEAST + "[defence]\nepsilon = 0.1\n", "unknown key 'defence.epsilon'; valid are 'kind'"),
        (LEAST + '[defence]\nkind = "linf"\n', "'defence.epsilon' is required"),
        (LEAST + '[defence]\nkind = "lin"\n', r"'defence.kind' is 'lin'; did you mean 'linf'\?"),
        ('architecture = "dmnist-cnn"\n', "'schedule.epochs' is required"),
        ("[schedule]\nepochs = 1\n", "'architecture' must be a string|'architecture' is required"),
        ('architecture = "resnet"\n[schedule]\nepochs = 1\n', "'architecture' is 'resnet'"),
        ("architecture = 3\n[schedule]\nepochs = 1\n", "must be a string"),
        (LEAST.replace("3", "0"), "is 0, must be at least 1"),
        (LEAST.replace("3", "true"), "must be an integer, not True"),
        (LEAST.replace("3", '"3"'), "must be an integer, not '3'"),
        (LEAST + "warmup = 1.5\n", r"is 1.5, must lie in \[0, 1\]"),
        (LEAST + 'learning_rate = "fast"\n', "must be a number"),
        (LEAST + "learning_rate = nan\n", "must lie in"),
        ("defence = 3\n" + LEAST, "must be a table"),
        ("seed = = 3", "not valid TOML"),
    ],
)
def test_mistakes_are_named(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path, text)
    assert "run.toml" in str(caught.value)


def test_unreadable_files_are_input_errors(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_config(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="not valid TOML"):
        read_config(tmp_path / "bytes.toml")
