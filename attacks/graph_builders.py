"""Label graphs from a JSON file, from label co-occurrence, from WordNet, and those that ship."""

import json
import re
from collections.abc import Sequence
from importlib import import_module, resources
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .graph import BoolArray, LabelGraph

_SYNSET_NAME = re.compile(r"(\S+)\.n\.\d\d")
_REMEDY = "pip install nltk, then python -m nltk.downloader wordnet"


def voc_graph() -> LabelGraph:
    """PASCAL VOC: 20 classes, then 15 hypernyms (35 nodes, the rows of the ML-GCN experiments)."""
    return _shipped("voc35.json")


def coco_graph() -> LabelGraph:
    """COCO: 80 classes in the official order, then 45 hypernyms (125 nodes)."""
    return _shipped("coco125.json")


def _shipped(name: str) -> LabelGraph:
    file = resources.files(__package__) / "graphs" / name
    return parse_graph(file.read_text(encoding="utf-8"), name)


def read_graph(path: Path) -> LabelGraph:
    """Read a label graph from a JSON file; see `parse_graph`.

    Raises:
        InputError: the file can't be read or describes no acyclic graph.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read the label graph {path}: {error.strerror}") from None
    return parse_graph(text, str(path))


def parse_graph(text: str, where: str) -> LabelGraph:
    """Parse {"names": [...], "edges": [[parent, child], ...], "labels": n}.

    Edges name nodes by name or number. The first n nodes are classes of the data set and may be present
    without a child; without "labels", every node may not.

    Raises:
        InputError: the text is not such a graph, or has a cycle; `where` is named.
    """
    try:
        content: dict[str, Any] = json.loads(text)
        names = [str(name) for name in content["names"]]
        edges = [(_node(parent, names), _node(child, names)) for parent, child in content["edges"]]
        labels = int(content.get("labels", 0))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f'{where} is no label graph ({error}); write {{"names": [...], "edges": [[parent, child], ...]}}'
        ) from None
    return LabelGraph.of_edges(names, edges, range(labels))


def _node(node: object, names: Sequence[str]) -> int:
    if isinstance(node, int):
        return node
    if node not in names:
        raise ValueError(f"an edge names '{node}', which is no node")
    return names.index(str(node))


def cooccurrence_graph(
    names: Sequence[str],
    together: NDArray[np.integer[Any]],
    alone: NDArray[np.integer[Any]],
    share: float = 1.0,
) -> LabelGraph:
    """A graph from label counts: j is above i when (nearly) every image with i also has j.

    Args:
        names: one per label.
        together: images with both labels, shape (labels, labels); the diagonal is not used.
        alone: images with each label, shape (labels,).
        share: the part of the images with i that must have j; 1 asks for all of them.

    Returns:
        The graph of the closest such labels (its transitive reduction). Labels that occur on exactly
        the same images have no order and get no edge between them.

    Raises:
        InputError: the counts do not fit the names, or share is not in (0, 1].
    """
    count = len(names)
    if together.shape != (count, count) or alone.shape != (count,):
        raise InputError(f"{count} names need counts of shapes ({count}, {count}) and ({count},)")
    if not 0 < share <= 1:
        raise InputError(f"the share of images {share} must be above 0 and at most 1")
    enough = together >= share * alone[:, None]
    above = np.asarray(enough & (alone[:, None] > 0) & (alone[None, :] > alone[:, None]), dtype=np.bool_)
    return LabelGraph.of_edges(names, _closest(above))


def image_label_graph(names: Sequence[str], labels: BoolArray, share: float = 1.0) -> LabelGraph:
    """`cooccurrence_graph` of the label sets of a data set, shape (images, labels), bool."""
    counts = labels.astype(np.int64)
    return cooccurrence_graph(names, counts.T @ counts, counts.sum(axis=0), share)


def _closest(above: BoolArray) -> list[tuple[int, int]]:
    """Edges (ancestor, node) of the transitive reduction of an ancestor relation [node, ancestor]."""
    edges = []
    for node, row in enumerate(above):
        ancestors = np.flatnonzero(row)
        through = np.logical_or.reduce(above[ancestors], axis=0, initial=False)
        edges += [(int(ancestor), node) for ancestor in ancestors if not through[ancestor]]
    return edges


class Synset(Protocol):
    """The part of nltk's WordNet synsets that the builder needs."""

    def name(self) -> str:
        """Unique name, such as "car.n.01"."""

    def definition(self) -> str:
        """The gloss."""

    def hypernyms(self) -> list["Synset"]:
        """The more general synsets."""

    def wup_similarity(self, other: "Synset") -> float | None:
        """Wu-Palmer similarity, or None without a common ancestor."""


def wordnet_graph(labels: Sequence[str], descriptions: Sequence[str] | None = None) -> LabelGraph:
    """A tree over labels from WordNet's hypernyms; needs nltk and its WordNet data.

    Args:
        labels: class names; spaces stand for underscores.
        descriptions: one per label; the synset whose gloss shares most of both's words is chosen. Without
            them, or on a tie, the most frequent sense. The name of a synset ("pot_plant.n.01") chooses that one,
            which a label needs that is no noun of WordNet.

    Returns:
        The labels, then the hypernyms that join at least two of them.

    Raises:
        InputError: nltk or its data is missing, WordNet has no noun or synset of that name, or there are
            not as many descriptions as labels.

    Reference:
        H. Mahmood and E. Elhamifar, "Semantic-aware multi-label adversarial attacks", 2024, section 4.2,
        "Knowledge graph construction": one parent per node by highest Wu-Palmer similarity.
    """
    hints = [""] * len(labels) if descriptions is None else descriptions
    if len(hints) != len(labels):
        raise InputError(f"{len(labels)} labels need as many descriptions, not {len(hints)}")
    try:
        wordnet = _wordnet()
        synsets = [_sense(wordnet, label, hint) for label, hint in zip(labels, hints, strict=True)]
        return synset_tree(labels, synsets)
    except OSError as error:
        raise InputError(f"nltk's WordNet data is not complete ({error}); {_REMEDY}") from None


def synset_tree(labels: Sequence[str], synsets: Sequence[Synset]) -> LabelGraph:
    """The tree over chosen synsets (see `wordnet_graph`)."""
    owner = {synset.name(): label for label, synset in zip(labels, synsets, strict=True)}
    if len(owner) < len(labels):
        raise InputError("two labels mean the same WordNet synset; merge them or give descriptions")
    parent: dict[str, str] = {}
    for synset in synsets:
        current = synset
        while current.name() not in parent and current.hypernyms():
            above = max(current.hypernyms(), key=lambda higher: current.wup_similarity(higher) or 0.0)
            parent[current.name()] = above.name()
            current = above
    return _collapsed(labels, owner, parent)


def _collapsed(labels: Sequence[str], owner: dict[str, str], parent: dict[str, str]) -> LabelGraph:
    """Drop inner nodes with a single child and, when it is no label, the common root."""
    kids: dict[str, set[str]] = {}
    for child, above in parent.items():
        kids.setdefault(above, set()).add(child)
    kept = {node for node in {*owner, *parent, *kids} if node in owner or len(kids.get(node, ())) > 1}
    edges = []
    for node in kept:
        nearest = parent.get(node)
        while nearest is not None and nearest not in kept:
            nearest = parent.get(nearest)
        if nearest is not None:
            edges.append((nearest, node))
    roots = kept - {child for _, child in edges} - owner.keys()
    if len(roots) == 1:
        kept -= roots
        edges = [(above, node) for above, node in edges if above not in roots]
    inner = sorted(kept - owner.keys())
    title = {node: owner.get(node) or _title(node, owner) for node in kept}
    names = [*labels, *(title[node] for node in inner)]
    place = {name: index for index, name in enumerate(names)}
    return LabelGraph.of_edges(
        names, [(place[title[a]], place[title[b]]) for a, b in sorted(edges)], range(len(labels))
    )


def _title(synset: str, owner: dict[str, str]) -> str:
    """A readable name, or the synset's own where a label has that name already."""
    words = synset.split(".")[0].replace("_", " ")
    return synset if words in owner.values() else words


def _sense(wordnet: Any, label: str, description: str) -> Synset:
    named = _SYNSET_NAME.fullmatch(description)
    senses: list[Synset] = wordnet.synsets(named[1] if named else label.replace(" ", "_"), pos="n")
    if named:
        senses = [sense for sense in senses if sense.name() == description]
    if not senses:
        raise InputError(
            f"WordNet has no noun '{description if named else label}' (label '{label}'); "
            "give one of its synsets, such as 'dog.n.01', as the description, or a JSON graph"
        )
    words = set(description.lower().split())

    def likeness(sense: Synset) -> float:
        gloss = set(sense.definition().lower().split())
        return len(words & gloss) / max(1, len(words | gloss))

    return max(senses, key=likeness)


def _wordnet() -> Any:
    try:
        wordnet = import_module("nltk.corpus").wordnet
    except ImportError:
        raise InputError(f"building a graph from WordNet needs nltk; {_REMEDY}") from None
    try:
        wordnet.ensure_loaded()
    except LookupError:
        raise InputError(f"nltk has no WordNet data; {_REMEDY}") from None
    return wordnet
