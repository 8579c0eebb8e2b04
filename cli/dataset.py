"""``mlverify dataset``: what is in a data set, and public ones from the network."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import InputError
from ..models.datasets.public import PublicDataset
from .option_types import EnumChoice
from .options import DatasetOptions, OutputFormat, dataset_options, format_option
from .render import note, print_json, print_table

if TYPE_CHECKING:
    from ..models.datasets.dataset import LabelledImages


@click.command("dataset")
@click.argument("source", metavar="DATASET")
@click.option(
    "--download",
    type=EnumChoice(PublicDataset),
    help="First fetch this public data set into the folder DATASET, checksum and all.",
)
@dataset_options
@format_option
def dataset_command(
    source: str, download: PublicDataset | None, dataset_options: DatasetOptions, format: OutputFormat
) -> None:
    """Count the labels of DATASET: VOC, COCO, NUS-WIDE, CSV with pictures, .npz, or double- or triple-mnist.

    All annotations are read and all pictures looked for, so what is missing is said here.
    """
    from .dataset_source import open_source

    if download is not None:
        _download(download, Path(source))
    data = open_source(source, dataset_options, resize=False)
    if format is OutputFormat.JSON:
        print_json(_document(data))
    else:
        _print(data)


def _download(dataset: PublicDataset, folder: Path) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    from ..models.datasets.public import fetch_dataset

    if folder.is_file():
        raise InputError(f"{folder} is a file; --download needs a folder to unpack into")
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(str(dataset), total=None)

        def advance(done: int, total: int | None) -> None:
            progress.update(task, completed=done, total=total)

        archive = fetch_dataset(dataset, folder, advance)
    note(f"{dataset} is unpacked in {folder}; {archive.name} may be deleted")


def _counts(data: "LabelledImages") -> list[tuple[str, int, int, int]]:
    """Per label: name, and on how many images it is present, absent and unknown."""
    from ..models.marks import Mark

    columns = [(data.marks == mark).sum(axis=0) for mark in (Mark.PRESENT, Mark.ABSENT, Mark.UNKNOWN)]
    return [(name, *map(int, row)) for name, *row in zip(data.names, *columns, strict=True)]


def _document(data: "LabelledImages") -> dict[str, object]:
    rows = [
        {"label": name, "present": present, "absent": absent, "unknown": unknown}
        for name, present, absent, unknown in _counts(data)
    ]
    return {"title": data.title, "images": len(data), "labels": rows}


def _print(data: "LabelledImages") -> None:
    rows = _counts(data)
    print_table(("label", "present", "absent", "unknown"), [[name, *map(str, rest)] for name, *rest in rows])
    positives = sum(row[1] for row in rows) / len(data)
    click.echo(f"\n{data.title}  {len(data)} images  {positives:.2f} labels per image")
    without = [row[0] for row in rows if not row[1]]
    if without:
        note(f"no positive example of {', '.join(without)}")
