import csv
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from mlverify.errors import InputError
from mlverify.models.architectures import Architecture, count_parameters, specification
from mlverify.models.checkpoints import load_checkpoint
from mlverify.models.config import DataConfig, DefenceKind, ScheduleConfig, TrainingConfig
from mlverify.models.defences import NoDefence, PgdDefence, RectangleDefence
from mlverify.models.devices import Device, resolve_device
from mlverify.models.export import ExportInfo, export_onnx
from mlverify.models.losses import Loss
from mlverify.models.training import (
    SilentObserver,
    TrainingDigits,
    TrainingDivergedError,
    held_out_images,
    learning_rate,
    train,
)

CPU = torch.device("cpu")
CONFIG = TrainingConfig(
    architecture=Architecture.DMNIST_CNN,
    loss=Loss.TWO_SIDED,
    defence_kind=DefenceKind.NONE,
    defence=NoDefence(),
    data=DataConfig(train_images=640, test_images=200, test_seed=0),
    schedule=ScheduleConfig(epochs=4, batch=32, learning_rate=0.02, warmup=0.1, weight_decay=0.0),
    seed=5,
)


@pytest.fixture(scope="module")
def both(digits, other_digits):
    return TrainingDigits(digits, other_digits)


@pytest.fixture(scope="module")
def result(both):
    return train(CONFIG, both, CPU)


class Recorder(SilentObserver):
    def __init__(self, interrupt_after: int | None = None):
        self.batches = 0
        self.epochs = []
        self.interrupt_after = interrupt_after

    def batch_done(self):
        self.batches += 1
        if self.batches == self.interrupt_after:
            raise KeyboardInterrupt

    def epoch_done(self, metrics):
        self.epochs.append(metrics.epoch)


def test_training_lowers_the_loss(both):
    data, schedule = replace(CONFIG.data, train_images=1920), replace(CONFIG.schedule, epochs=8)
    history = train(replace(CONFIG, data=data, schedule=schedule), both, CPU).history
    assert history[-1].test_loss < 0.8 * history[0].test_loss
    assert history[-1].exact_match > 0.4
    assert [entry.epoch for entry in history] == list(range(1, 9))


@pytest.mark.parametrize("defence", [RectangleDefence(8), PgdDefence(0.02, 1, 1.0, 0.5)])
def test_defended_training_runs(both, defence):
    config = replace(CONFIG, defence=defence, schedule=replace(CONFIG.schedule, epochs=2))
    history = train(config, both, CPU).history
    assert np.isfinite(history[-1].train_loss)


def test_a_seed_decides_the_weights(both, result):
    again = train(CONFIG, both, CPU).network.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in result.network.state_dict().items())
    other = train(replace(CONFIG, seed=6), both, CPU).network.state_dict()
    assert any(not torch.equal(value, other[name]) for name, value in again.items())


def test_checkpoint_and_metrics_agree_with_the_result(both, tmp_path):
    observer = Recorder()
    result = train(CONFIG, both, CPU, tmp_path / "a.safetensors", observer)
    network, provenance = load_checkpoint(tmp_path / "a.safetensors")
    assert provenance == result.provenance
    assert all(
        torch.equal(value, result.network.state_dict()[name]) for name, value in network.state_dict().items()
    )
    with (tmp_path / "a.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["exact_match"]) for row in rows] == [entry.exact_match for entry in result.history]
    assert observer.epochs == [1, 2, 3, 4]
    assert observer.batches == 80
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.csv", "a.safetensors"]


def test_an_interrupt_keeps_the_last_finished_epoch(both, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(CONFIG, both, CPU, tmp_path / "a.safetensors", Recorder(interrupt_after=50))
    assert load_checkpoint(tmp_path / "a.safetensors")[1].epochs == 2


def test_divergence_stops_and_keeps_the_checkpoint(both, tmp_path):
    class DivergesLate:
        def apply(self, images, targets, step):
            return images if step.progress < 0.5 else images * torch.inf

    with pytest.raises(TrainingDivergedError, match=r"epoch 3 is .*learning_rate"):
        train(replace(CONFIG, defence=DivergesLate()), both, CPU, tmp_path / "a.safetensors")
    assert load_checkpoint(tmp_path / "a.safetensors")[1].epochs == 2


def test_an_unwritable_checkpoint_is_an_input_error(both, tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        train(CONFIG, both, CPU, tmp_path / "none" / "a.safetensors")


def test_damaged_checkpoints_are_input_errors(both, tmp_path):
    file = tmp_path / "a.safetensors"
    with pytest.raises(InputError, match="cannot be read"):
        load_checkpoint(file)
    train(replace(CONFIG, schedule=replace(CONFIG.schedule, epochs=1)), both, CPU, file)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match="cannot be read"):
        load_checkpoint(file)
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, file)
    with pytest.raises(InputError, match="not a checkpoint of mlverify"):
        load_checkpoint(file)


def test_the_rate_rises_and_falls():
    schedule = ScheduleConfig(epochs=1, batch=1, learning_rate=1.0, warmup=0.2, weight_decay=0.0)
    rates = [learning_rate(schedule, progress) for progress in np.linspace(0, 1, 11)]
    assert max(rates) == rates[2] == 1.0
    assert rates[0] == pytest.approx(0.1)
    assert rates[-1] == pytest.approx(0.0)
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert learning_rate(replace(schedule, warmup=1.0), 1.0) == 1.0


@pytest.mark.parametrize("architecture", list(Architecture))
def test_every_architecture_exports_and_agrees(architecture, result, tmp_path):
    spec = specification(architecture)
    torch.manual_seed(0)
    network = spec.build().eval()
    provenance = replace(result.provenance, architecture=architecture)
    export_onnx(network, ExportInfo.of(provenance), tmp_path / "a.onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["a.onnx"]
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    images = np.random.default_rng(3).random((5, *spec.input_shape), np.float32)
    (logits,) = session.run(["logits"], {"input": images})
    with torch.no_grad():
        assert np.allclose(logits, network(torch.from_numpy(images)).numpy(), atol=1e-5)
    metadata = session.get_modelmeta().custom_metadata_map
    assert metadata["labels"] == '["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]'
    assert metadata["k"] == "2"
    assert metadata["architecture"] == architecture.value
    assert metadata["pixel_range"] == "[0, 1]"


def test_layers_without_an_onnx_form_are_named(result, tmp_path):
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Sigmoid())
    with pytest.raises(InputError, match=r"layer1.*Sigmoid"):
        export_onnx(network, ExportInfo.of(result.provenance), tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


def test_parameter_counts():
    assert count_parameters(specification(Architecture.DMNIST_CNN).build()) == 3818
    assert 120_000 < count_parameters(specification(Architecture.DMNIST_LARGE).build()) < 180_000


def test_held_out_images_depend_on_the_test_seed_only(other_digits):
    first = held_out_images(CONFIG, other_digits).images
    assert np.array_equal(first, held_out_images(replace(CONFIG, seed=99), other_digits).images)
    changed = replace(CONFIG, data=replace(CONFIG.data, test_seed=1))
    assert not np.array_equal(first, held_out_images(changed, other_digits).images)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_missing_cuda_is_an_input_error():
    assert resolve_device(Device.AUTO) == CPU
    with pytest.raises(InputError, match="--device cpu"):
        resolve_device(Device.CUDA)
