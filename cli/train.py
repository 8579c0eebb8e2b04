"""``mlverify train``: a configuration in, an ONNX file out."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from ..models.training import EpochMetrics


@click.command("train")
@click.argument("config", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The ONNX file to write; default: the name of CONFIG with .onnx, in the current folder.",
)
@click.option(
    "--mnist",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder with the four MNIST .gz files; default: $MLVERIFY_MNIST, else downloaded once.",
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--seed", type=click.IntRange(min=0), help="Replaces the seed of CONFIG.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads; default: torch's choice.")
def train_command(
    config: Path, output: Path | None, mnist: Path | None, device: str, seed: int | None, threads: int | None
) -> None:
    """Train the network that CONFIG (a TOML file) describes and export it to ONNX.

    Beside the ONNX file stand a checkpoint (.safetensors) and the metrics of each epoch (.csv);
    interrupting keeps those of the last finished epoch.
    """
    from dataclasses import replace

    import torch

    from ..errors import InputError
    from ..models.config import read_config
    from ..models.devices import Device, resolve_device
    from ..models.export import ExportInfo, export_onnx
    from ..models.mnist import Split, find_mnist, load_digits
    from ..models.training import TrainingDigits, train

    settings = read_config(config)
    if seed is not None:
        settings = replace(settings, seed=seed)
    if threads is not None:
        torch.set_num_threads(threads)
    target = output if output is not None else Path(config.with_suffix(".onnx").name)
    if target.suffix != ".onnx":
        raise InputError(
            f"'{target}' must end in .onnx: checkpoint and metrics take its name with their suffix"
        )
    if not target.absolute().parent.is_dir():
        raise InputError(f"the folder of '{target}' does not exist: make it first")
    chosen = resolve_device(Device(device))
    folder = find_mnist(mnist)
    digits = TrainingDigits(load_digits(folder, Split.TRAIN), load_digits(folder, Split.TEST))
    with _progress() as progress:
        result = train(settings, digits, chosen, target.with_suffix(".safetensors"), _Bar(progress))
    export_onnx(result.network, ExportInfo.of(result.provenance), target)
    seconds = result.history[-1].seconds
    click.echo(f"{target}  exact match {result.provenance.exact_match:.2%}  {seconds:.0f} s  ({chosen.type})")


def _progress() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=False)


class _Bar:
    """Shows a training as one progress bar."""

    def __init__(self, progress: "Progress") -> None:
        self._progress = progress
        self._task: TaskID | None = None
        self._epochs = 0

    def started(self, epochs: int, batches: int) -> None:
        """Set the length of the bar."""
        self._epochs = epochs
        self._task = self._progress.add_task("training", total=epochs * batches)

    def batch_done(self) -> None:
        """Move the bar."""
        if self._task is not None:
            self._progress.advance(self._task)

    def epoch_done(self, metrics: "EpochMetrics") -> None:
        """Say how good the network is."""
        if self._task is not None:
            text = f"epoch {metrics.epoch}/{self._epochs}  exact match {metrics.exact_match:.2%}"
            self._progress.update(self._task, description=text)
