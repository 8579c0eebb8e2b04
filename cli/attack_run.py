"""Running attacks for the command line: images in, results, pictures and reports out."""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray

from ..attacks.ball import Ball
from ..attacks.base import AttackRecord
from ..attacks.flips import Flips, Others
from ..attacks.graph import LabelGraph
from ..attacks.graph_builders import coco_graph, read_graph, voc_graph
from ..attacks.metrics import Distortion, distortion, score
from ..errors import InputError
from ..verifier.files import replacing
from ..verifier.image import load_image, save_array
from .attack_figure import AttackPicture, save_curve
from .attack_methods import build
from .attack_names import MethodName
from .attack_target import Target
from .dataset_source import is_dataset, open_source
from .image_set import read_image_set
from .labels import find_label
from .options import DatasetOptions
from .render import print_pairs, print_table
from .results import Schema, print_result, write_result
from .session import check_outputs, interruptible

Pixels = NDArray[np.float32]

_READY: Mapping[str, Callable[[], LabelGraph]] = {"voc": voc_graph, "coco": coco_graph}


@dataclass(frozen=True, slots=True)
class Wish:
    """What to change, as the user wrote it."""

    flip: tuple[str, ...]
    hide_all: bool
    show_most: bool
    keep_others: bool
    consistent: bool

    def flips(self, labels: tuple[str, ...], present: torch.Tensor) -> Flips:
        """The wish for images with these label sets, shape (images, labels), bool.

        Raises:
            InputError: a label does not exist, or there is nothing to hide.
        """
        if self.hide_all:
            if not bool(present.any(dim=1).all()):
                raise InputError("--hide-all: no label is predicted on an image; nothing is there to hide")
            return Flips(-present.to(torch.int8), self._others)
        if self.show_most:
            return Flips.show_most(present)
        targets = torch.zeros_like(present)
        targets[:, [find_label(labels, name) for name in self.flip]] = True
        return Flips.toggle(present, targets, self._others)

    @property
    def _others(self) -> Others:
        return Others.KEEP if self.keep_others else Others.FREE


@dataclass(frozen=True, slots=True, eq=False)
class Attacked:
    """What an attack did; ``interrupted`` when Ctrl-C ended it with its best attempt."""

    record: AttackRecord
    flips: Flips
    interrupted: bool


@dataclass(frozen=True, slots=True, eq=False)
class AttackRun:
    """Everything but the images; ``timeout`` in seconds for each batch of images."""

    target: Target
    method: MethodName
    wish: Wish
    graph_name: str | None
    seed: int
    timeout: float | None
    device: str

    @property
    def graph_path(self) -> Path | None:
        """The file of the label graph, None for none or one that ships."""
        return None if self.graph_name in (None, *_READY) else Path(str(self.graph_name))

    def graph(self) -> LabelGraph | None:
        """The label graph.

        Raises:
            InputError: it can't be read or does not fit the network's labels.
        """
        if self.graph_name is None:
            return None
        make = _READY.get(self.graph_name)
        graph = read_graph(Path(self.graph_name)) if make is None else make()
        if len(graph.names) != len(self.target.labels):
            raise InputError(
                f"the label graph has {len(graph.names)} nodes and the network {len(self.target.labels)} "
                "labels; use the graph of this network's labels"
            )
        return graph

    def attack(self, images: Pixels, ball: Ball) -> Attacked:
        """Attack a batch; label sets and success of the record are the judge's. Ctrl-C ends the search."""
        tensor = torch.from_numpy(images).to(self.device)
        present = torch.from_numpy(self.target.present(images))
        flips = self.wish.flips(self.target.labels, present)
        method = build(self.method, self.graph(), consistent=self.wish.consistent)
        with interruptible(self.timeout) as (budget, was_pressed):
            record = method.attack(
                self.target.scorer,
                tensor,
                flips,
                ball=ball,
                decision=self.target.decision,
                generator=torch.Generator().manual_seed(self.seed),
                stop=lambda: budget.exhausted,
            )
            return Attacked(self._judged(record, flips, present), flips, was_pressed())

    def _judged(self, record: AttackRecord, flips: Flips, present: torch.Tensor) -> AttackRecord:
        images = record.images.cpu()
        after = torch.from_numpy(self.target.present(images.numpy()))
        return AttackRecord(
            images=images,
            success=flips.success(after, present),
            before=present,
            after=after,
            infeasible=record.infeasible.cpu(),
            steps=record.steps,
            gradients=record.gradients,
            seconds=record.seconds,
        )


def attack_one(
    run: AttackRun, path: Path, ball: Ball, output: Path | None, *, as_json: bool, resize: bool
) -> Attacked:
    """Attack one image, print and write the result."""
    if path.is_dir() or path.suffix == ".npz":
        raise InputError(f"{path} holds several images; give --report OUT.csv to attack them all")
    if output is not None:
        suffixes = (".npy", ".adversarial.png", ".png")
        files = [output, *(output.with_suffix(suffix) for suffix in suffixes)]
        check_outputs(files, [path, run.target.path, run.graph_path])
    image = load_image(path, run.target.input_shape, resize=resize)
    attacked = run.attack(image[None], ball)
    record, flips = attacked.record, attacked.flips
    clean = torch.from_numpy(image[None])
    fields = _fields(run, path, record, flips, distortion(clean, record.images))
    fields |= {
        "epsilon": ball.epsilon,
        "norm": ball.norm.value,
        "success_as_png": _survives_png(run.target, record, flips),
        "adversarial": None,
    }
    if output is not None:
        fields["adversarial"] = _write_images(output, image, record, fields)
        write_result(output, Schema.ATTACK, fields)
    if as_json:
        print_result(Schema.ATTACK, fields)
    else:
        _print(fields)
    return attacked


def _survives_png(target: Target, record: AttackRecord, flips: Flips) -> bool:
    """Whether the attack still succeeds when its pixels are rounded to 8 bits."""
    rounded = np.rint(record.images.numpy() * 255).astype(np.float32) / np.float32(255)
    return bool(flips.success(torch.from_numpy(target.present(rounded)), record.before))


@dataclass(frozen=True, slots=True)
class ManyImages:
    """Which images are attacked: all of a folder or .npz, or at most ``sample`` of a data set."""

    source: Path
    dataset: DatasetOptions
    sample: int
    resize: bool


def attack_many(run: AttackRun, many: ManyImages, balls: Sequence[Ball], report: Path) -> bool:
    """Attack every image in every ball; write the rates and their figure.

    Returns:
        Whether all balls are done: Ctrl-C leaves those that are.

    Raises:
        InputError: images or files can't be used.
        KeyboardInterrupt: when Ctrl-C came before the first ball was done.
    """
    check_outputs([report, report.with_suffix(".png")], [many.source, run.target.path, run.graph_path])
    images = _read_many(many, run.target.input_shape, run.seed)
    graph = run.graph()
    rows: list[dict[str, float]] = []
    for ball in sorted(balls, key=lambda ball: ball.epsilon):
        attacked = run.attack(images, ball)
        if attacked.interrupted:
            break
        record = attacked.record
        rates = score(torch.from_numpy(images), record, attacked.flips, graph)
        success = float(record.success.double().mean())
        rows.append({"epsilon": ball.epsilon, "success": success, **asdict(rates), "seconds": record.seconds})
        flipped = f"{int(record.success.sum())} of {len(images)} images flipped"
        click.echo(f"epsilon {ball.epsilon:.4g}: {flipped}, {record.seconds:.1f} s", err=True)
    if not rows:
        raise KeyboardInterrupt
    with replacing(report) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    wanted = ("success", "naive") if graph is None else ("success", "naive", "semantic")
    curves = {name: [(row["epsilon"], row[name]) for row in rows] for name in wanted}
    save_curve(report.with_suffix(".png"), curves, f"{run.method}, {len(images)} images")
    print_table(tuple(rows[0]), [[f"{value:.4g}" for value in row.values()] for row in rows])
    return len(rows) == len(balls)


def _read_many(many: ManyImages, shape: tuple[int, ...], seed: int) -> Pixels:
    source, resize = many.source, many.resize
    if many.dataset.kind is not None or is_dataset(str(source)):
        data = open_source(str(source), many.dataset, resize=resize).sample(many.sample, seed)
        return data.pixels(np.arange(len(data)), shape)
    return read_image_set(source, shape, resize=resize).images


def _fields(
    run: AttackRun, path: Path, record: AttackRecord, flips: Flips, sizes: Distortion
) -> dict[str, object]:
    target = run.target
    graph = run.graph()
    wanted = flips.wanted[0].tolist()
    fields: dict[str, object] = {
        "method": run.method,
        "model": {"path": str(target.path), "sha256": target.sha256},
        "image": str(path),
        "decision": target.rule,
        "flips": [
            {"label": target.labels[label], "to": "show" if side > 0 else "hide"}
            for label, side in enumerate(wanted)
            if side
        ],
        "success": bool(record.success),
        "infeasible": bool(record.infeasible),
        "labels_before": _names(target.labels, record.before),
        "labels_after": _names(target.labels, record.after),
        "linf": float(sizes.linf),
        "l2": float(sizes.l2),
        "rmsd": float(sizes.rmsd),
        "ssim": float(sizes.ssim),
        "steps": record.steps,
        "gradients": record.gradients,
        "seconds": record.seconds,
    }
    if graph is not None:
        offenders = graph.offenders(record.after.numpy())[0]
        fields["consistent"] = not offenders.any()
        fields["inconsistent_labels"] = [target.labels[label] for label in np.flatnonzero(offenders)]
    return fields


def _names(labels: tuple[str, ...], present: torch.Tensor) -> list[str]:
    return [labels[label] for label in torch.nonzero(present[0]).flatten().tolist()]


def _write_images(output: Path, clean: Pixels, record: AttackRecord, fields: Mapping[str, object]) -> str:
    """The adversarial image as .npy and .png, and the figure; the name of the .npy."""
    image = record.images[0].numpy()
    array = output.with_suffix(".npy")
    save_array(array, image)
    if image.ndim == 3 and len(image) in (1, 3):
        _save_picture(output.with_suffix(".adversarial.png"), image)
        before, after = fields["labels_before"], fields["labels_after"]
        assert isinstance(before, list)
        assert isinstance(after, list)
        outcome = "flipped" if fields["success"] else "not flipped"
        title = f"{fields['method']}: {outcome}, linf {fields['linf']:.4g}"
        AttackPicture(clean, image, before, after, title).save(output.with_suffix(".png"))
    return array.name


def _save_picture(path: Path, image: Pixels) -> None:
    from PIL import Image

    bytes_ = np.rint(image * 255).astype(np.uint8)
    picture = Image.fromarray(bytes_[0] if len(bytes_) == 1 else np.moveaxis(bytes_, 0, -1))
    with replacing(path) as temporary:
        picture.save(temporary, format="PNG")


def _print(fields: Mapping[str, object]) -> None:
    pairs = list(_lines(fields))
    print_pairs(pairs)
    outcome = "flipped" if fields["success"] else "not flipped"
    click.echo(f"\n{outcome}  {fields['seconds']:.1f} s  ({fields['method']})")


def _lines(fields: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for name in ("labels_before", "labels_after", "inconsistent_labels"):
        value = fields.get(name)
        if isinstance(value, list):
            yield name.replace("_", " "), ", ".join(map(str, value)) or "none"
    for name in ("linf", "l2", "rmsd", "ssim"):
        yield name, f"{fields[name]:.4g}"
    if fields["success"] and not fields["success_as_png"]:
        yield "note", "only the .npy has the effect: rounding to a PNG's 8 bits undoes it"
    if fields["infeasible"]:
        yield "note", "the method's own sub-problem had no solution; this is its best attempt"
