"""From paths and options to what every command starts with: a network, an image, and what is seen in it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..verifier.decision import Decision, Threshold, TopK
from ..verifier.declared import declared_preprocessing
from ..verifier.image import load_image
from ..verifier.network import Network, Tail
from ..verifier.onnx_reader import load_network, read_labels
from ..verifier.preprocessing import Preprocessing
from ..verifier.session import Judge
from .options import DecisionOptions, DecisionRule, NetworkOptions

# the thesis's data sets show two objects per image
DEFAULT_K = 2
# a probability; most networks that decide by threshold end in a sigmoid
_DEFAULT_THRESHOLD = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """A network, an image, and the labels the network sees in it.

    Attributes:
        network: read and checked.
        image_path: the user's file.
        image: float32 input of the network's shape, pixels in [0, 1].
        scores: (labels,) of the user's file in onnxruntime.
        logits: (labels,) the same before a trailing softmax or sigmoid, whose rounding can make ties.
        decision: how scores become a label set.
        predicted: the label set, most confident first.
    """

    network: Network
    image_path: Path
    image: NDArray[np.float32]
    scores: NDArray[np.float32]
    logits: NDArray[np.float32]
    decision: Decision
    predicted: tuple[int, ...]


def open_network(path: Path, options: NetworkOptions, preprocessing: Preprocessing | None = None) -> Network:
    """Load a network with its preprocessing and label names.

    Args:
        path: the ONNX file.
        options: of the user.
        preprocessing: in place of what options and file say.

    Raises:
        InputError: for an unusable network or label file.
    """
    network = load_network(path, preprocessing or preprocessing_of(path, options))
    if options.labels is None:
        return network
    return network.with_labels(read_labels(options.labels, len(network.labels)))


def preprocessing_of(path: Path, options: NetworkOptions) -> Preprocessing | None:
    """Preprocessing as the options say, the rest as the file declares; None when they say nothing.

    Raises:
        InputError: for options or metadata that make no sense.
    """
    if not options.changes_inputs:
        return None
    declared = declared_preprocessing(path)
    return Preprocessing(
        options.mean or declared.mean, options.std or declared.std, options.layout or declared.layout
    )


def decision_of(options: DecisionOptions, network: Network) -> Decision:
    """The decision rule as the options say, else as the file declares, else the top 2.

    Raises:
        InputError: when the options contradict one another, or a threshold is no score of the network.
    """
    decision = chosen_decision(options, network.k, network.threshold)
    if isinstance(decision, Threshold) and network.tail is Tail.SIGMOID:
        # outside (0, 1) no score ever changes sides
        decision.logits(len(network.labels), network.tail)
    return decision


def chosen_decision(options: DecisionOptions, k: int | None, threshold: float | None) -> Decision:
    """The decision rule as the options say, else by the k or threshold that the file declares, else the top 2.

    A k among the options asks for the top k, a threshold for that.

    Raises:
        InputError: when the options contradict one another.
    """
    rule = options.decision
    if rule is None and options.k is None and (threshold is not None or options.threshold is not None):
        rule = DecisionRule.THRESHOLD
    if rule is DecisionRule.THRESHOLD:
        if options.k is not None:
            raise InputError("--k goes with --decision top-k; leave out --k or --decision threshold")
        declared = _DEFAULT_THRESHOLD if threshold is None else threshold
        return Threshold((declared,) if options.threshold is None else options.threshold)
    if options.threshold is not None:
        raise InputError("--threshold goes with --decision threshold; leave out --threshold or the other")
    return TopK(options.k or k or DEFAULT_K)


def ask(
    model: Path,
    image: Path,
    network_options: NetworkOptions,
    decision_options: DecisionOptions,
    *,
    resize: bool,
) -> Question:
    """Load a network and an image, and see what the network predicts.

    Raises:
        InputError: for an unusable file or a decision rule that does not fit.
    """
    network = open_network(model, network_options)
    pixels = load_image(image, network.input_shape, resize=resize)
    judge = Judge(network)
    scores, logits = judge.scores(pixels[None])[0], judge.logits(pixels[None])[0]
    decision = decision_of(decision_options, network)
    predicted = decision.predicted(scores if isinstance(decision, Threshold) else logits)
    return Question(network, image, pixels, scores, logits, decision, predicted)
