"""The work of ``mlverify explain``: which pairs of labels there are, and synthesis on each."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import ImageError, InputError, PropertyError
from ..synthesis.layers import Bands, ObjectLayers
from ..synthesis.objective import Objective, Weighting, weights_of
from ..synthesis.problem import SynthesisProblem, SynthesisSettings
from ..synthesis.result import Synthesis
from ..synthesis.synthesize import synthesize
from ..verifier.budget import Budget
from ..verifier.decision import TopK
from ..verifier.network import Network
from ..verifier.operators import FloatArray
from ..verifier.region import Layered
from ..verifier.session import Judge
from .documents import synth_fields
from .image_set import ImageSet
from .objects import FoundObjects, find_objects
from .question import DEFAULT_K, Question
from .render import note
from .results import Schema, write_result
from .row_log import Row
from .synth_output import write_arrays


@dataclass(frozen=True, slots=True)
class ExplainSettings:
    """What is asked of every pair.

    Attributes:
        k: labels per image; None for as many as an image is known to have, else the file's k, else 2.
        weighting: of the layers in the size.
        objective: what is made large.
        bands: which distances share an epsilon.
        around: only layers up to this distance from the object grow, None for all.
        seconds: longest time for one pair.
        synthesis: effort and strategy.
    """

    k: int | None
    weighting: Weighting
    objective: Objective
    bands: Bands | int | None
    around: int | None
    seconds: float
    synthesis: SynthesisSettings

    def as_fields(self) -> Mapping[str, object]:
        """What rows of two runs must share to stand in one matrix."""
        verify = self.synthesis.verify
        bands = list(self.bands.starts) if isinstance(self.bands, Bands) else self.bands
        return {
            "k": self.k,
            "weights": str(self.weighting),
            "objective": str(self.objective),
            "tie": bands,
            "around": self.around,
            "timeout": self.seconds,
            "cutting": str(self.synthesis.cutting),
            "solver": str(verify.solver),
            "seed": verify.seed,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """One object of one image, and one label that should stay."""

    row: int
    name: str
    question: Question
    item: int
    target: int

    @property
    def key(self) -> tuple[str, int, int]:
        """What makes it different from all other pairs."""
        return self.name, self.item, self.target


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What there is to do.

    Attributes:
        pairs: to work on, image by image.
        skipped: names of images that can't be used, with the reason.
    """

    pairs: tuple[Pair, ...]
    skipped: Mapping[str, str]


def fingerprint(images: ImageSet) -> str:
    """A hash of the images and of what is known about them."""
    digest = hashlib.sha256()
    for name, pixels in zip(images.names, images.images, strict=True):
        digest.update(name.encode() + b"\0" + np.ascontiguousarray(pixels).tobytes())
    for known in (images.labels, images.objects):
        digest.update(b"-" if known is None else np.ascontiguousarray(known).tobytes())
    return digest.hexdigest()


def plan(
    network: Network, images: ImageSet, k: int | None, objects: Sequence[int], targets: Sequence[int]
) -> Plan:
    """Every ordered pair of labels that the network sees in an image; ``objects`` and ``targets`` select.

    An image whose true labels are known must be seen as labelled.
    """
    judge = Judge(network)
    pairs: list[Pair] = []
    skipped: dict[str, str] = {}
    for row, name in enumerate(images.names):
        question = _question(network, judge, images, row, k)
        reason = _unusable(question, images, row)
        if reason is not None:
            skipped[name] = reason
            continue
        seen = sorted(question.predicted)
        pairs.extend(
            Pair(row, name, question, item, target)
            for item in seen
            for target in seen
            if item != target and item in (objects or seen) and target in (targets or seen)
        )
    return Plan(tuple(pairs), skipped)


def _question(network: Network, judge: Judge, images: ImageSet, row: int, k: int | None) -> Question:
    pixels = images.images[row]
    known = 0 if images.labels is None else int(images.labels[row].sum())
    # an image with all labels or none has no top-k set; it is not seen as labelled then
    known = known if known < len(network.labels) else 0
    decision = TopK(k or known or network.k or DEFAULT_K)
    logits = judge.logits(pixels[None])[0]
    scores = judge.scores(pixels[None])[0]
    return Question(
        network, Path(images.names[row]), pixels, scores, logits, decision, decision.predicted(logits)
    )


def _unusable(question: Question, images: ImageSet, row: int) -> str | None:
    if images.labels is not None:
        truth = set(np.flatnonzero(images.labels[row]).tolist())
        if truth != set(question.predicted):
            return "the network does not see the labels that the file gives"
    return "one label only" if len(question.predicted) < 2 else None


def work(
    pair: Pair, images: ImageSet, settings: ExplainSettings, budget: Budget
) -> tuple[Row, "Outcome | None"]:
    """Synthesis on one pair: its row, and what it rests on (None where synthesis can't be done)."""
    row: dict[str, object] = {
        "image": pair.name,
        "object": pair.item,
        "target": pair.target,
        "k": pair.question.decision.k if isinstance(pair.question.decision, TopK) else None,
    }
    try:
        found = _objects(pair, images, settings.bands)
        weights = _weights(found.layers, settings)
        problem = _problem(pair, found.layers, weights, settings.objective)
        if found.doubt is not None:
            row["doubt"] = found.doubt
        part = budget.at_most(settings.seconds)
        synthesis = synthesize(problem, settings.synthesis, part, note)
    except (ImageError, PropertyError) as error:
        return {**row, "failed": str(error)}, None
    return {
        **row,
        "reach": synthesis.size / float(weights.sum()),
        "size": synthesis.size,
        "epsilons": synthesis.epsilons.tolist(),
        "engine": synthesis.proof.engine,
        "stopped": synthesis.stopped,
        "seconds": round(synthesis.seconds, 3),
    }, Outcome(pair, found, weights, synthesis)


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """A synthesis and the question it answers."""

    pair: Pair
    found: FoundObjects
    weights: FloatArray
    synthesis: Synthesis

    def keep(self, folder: Path, weighting: Weighting) -> str:
        """Write it as a result of ``mlverify synth`` that can be checked and shown; the file's name."""
        question, pair = self.pair.question, self.pair
        safe = re.sub(r"[^\w.-]", "_", pair.name)
        path = folder / f"{pair.row:04d}-{safe}.{pair.item}-{pair.target}.json"
        assert isinstance(question.decision, TopK)
        fields = synth_fields(
            question,
            self.found,
            self.synthesis,
            pair.target,
            [pair.item],
            question.decision.k,
            weighting,
            self.weights.tolist(),
        )
        files = write_arrays(path, question.image, self.found.layers, self.synthesis)
        write_result(path, Schema.SYNTH, {**fields, **files})
        return path.name


def _objects(pair: Pair, images: ImageSet, bands: Bands | int | None) -> FoundObjects:
    if images.objects is None:
        return find_objects(pair.question, [pair.item], [], bands)
    mask = images.objects[pair.row] == pair.item + 1
    return FoundObjects(ObjectLayers.around(mask, bands), ())


def _weights(layers: ObjectLayers, settings: ExplainSettings) -> FloatArray:
    weights = weights_of(settings.weighting, layers)
    if settings.around is None:
        return weights
    near = np.array([part.first <= settings.around for part in layers.parts])
    return np.where(near, weights, 0.0)


def _problem(pair: Pair, layers: ObjectLayers, weights: FloatArray, objective: Objective) -> SynthesisProblem:
    question = pair.question
    assert isinstance(question.decision, TopK)
    where = Layered(question.image, layers.layers, np.zeros(layers.count))
    return SynthesisProblem(question.network, where, pair.target, question.decision.k, weights, objective)


def check_pairs(found: Plan) -> None:
    """There must be something to do.

    Raises:
        InputError: when there is not.
    """
    if found.pairs:
        return
    reasons = sorted(set(found.skipped.values()))
    because = f" ({'; '.join(reasons)})" if reasons else ""
    raise InputError(
        f"no image shows two labels that are asked about{because}; check --k, --object, --target"
    )


def open_pairs(found: Plan, rows: Sequence[Row]) -> Iterator[Pair]:
    """Pairs that have no row yet."""
    done = {(row.get("image"), row.get("object"), row.get("target")) for row in rows}
    return (pair for pair in found.pairs if pair.key not in done)
