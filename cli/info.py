"""``mlverify info MODEL``: what a network consists of, and whether mlverify can read it."""

from collections.abc import Sequence
from pathlib import Path

import click

from ..verifier.network import Network
from ..verifier.onnx_reader import read_labels
from ..verifier.operators import Shape
from ..verifier.survey import Survey, SurveyedNode, survey
from .options import NetworkOptions, OutputFormat, format_option, network_options
from .question import preprocessing_of
from .render import Tone, print_json, print_pairs, print_table

SCHEMA = "mlverify/info/1"
_COLUMNS = ("node", "operator", "output", "read as")


@click.command("info")
@click.argument("model", type=click.Path(path_type=Path))
@network_options
@format_option
def info_command(model: Path, network_options: NetworkOptions, format: OutputFormat) -> None:
    """Operators, shapes and sizes of MODEL, an ONNX file, and what is supported.

    Ends with exit code 2 when an operator is not supported, after the whole table.
    """
    found = survey(model, preprocessing_of(model, network_options))
    network = found.network
    if network is not None and network_options.labels is not None:
        network = network.with_labels(read_labels(network_options.labels, len(network.labels)))
    if format is OutputFormat.JSON:
        print_json(_document(found, network))
    else:
        _print(found, network)
    if found.obstacle is not None:
        raise found.obstacle


def _print(found: Survey, network: Network | None) -> None:
    tones = [Tone.PLAIN if node.supported else Tone.BAD for node in found.nodes]
    print_table(_COLUMNS, [_row(node) for node in found.nodes], tones)
    click.echo()
    pairs = [("file", str(found.path)), ("sha256", found.sha256), ("opset", str(found.opset))]
    print_pairs([*pairs, *(_facts(network) if network is not None else _problem(found))])


def _row(node: SurveyedNode) -> tuple[str, str, str, str]:
    mark = "" if node.supported else "!! "
    return node.name, node.operator, "-" if node.shape is None else _written(node.shape), mark + node.read_as


def _problem(found: Survey) -> list[tuple[str, str]]:
    bad = sum(not node.supported for node in found.nodes)
    return [("verdict", f"can't be read: {bad} of {len(found.nodes)} nodes are not supported, marked !!")]


def _facts(network: Network) -> list[tuple[str, str]]:
    return [
        ("input", f"{_written(network.input_shape)}, pixels in [0, 1]"),
        ("batch", "one image at a time" if network.fixed_batch else "any"),
        ("preprocessing", _preprocessing(network)),
        ("parameters", f"{network.parameters:,}"),
        ("ReLU neurons", f"{network.neurons:,}"),
        ("max-pool outputs", f"{network.pools:,}"),
        *([("sigmoid and tanh neurons", f"{network.curved_neurons:,}")] if network.curves else []),
        ("operators", f"{len(network.operators)} after folding"),
        (
            "scores",
            f"after {network.tail}; properties speak of the logits before it"
            if network.tail != "none"
            else "logits",
        ),
        ("labels", f"{len(network.labels)}: {_listed(network.labels)}"),
        ("decision", _decision(network)),
    ]


def _decision(network: Network) -> str:
    if network.threshold is not None:
        return f"scores above {network.threshold:g} are labels"
    return (
        "not given by the file; set --k"
        if network.k is None
        else f"the {network.k} highest scores are labels"
    )


def _preprocessing(network: Network) -> str:
    given = network.preprocessing
    if given.is_identity:
        return "none: pixels are read as they are"
    parts = (
        [f"(pixel - {_numbers(given.mean, '0')}) / {_numbers(given.std, '1')}"]
        if given.mean or given.std
        else []
    )
    return ", ".join([*parts, f"layout {given.layout}"])


def _numbers(values: Sequence[float], default: str) -> str:
    if not values:
        return default
    text = ", ".join(f"{value:g}" for value in values)
    return text if len(values) == 1 else f"[{text}]"


def _listed(labels: Sequence[str], shown: int = 20) -> str:
    text = ", ".join(labels[:shown])
    return text if len(labels) <= shown else f"{text}, ..."


def _written(shape: Shape) -> str:
    return " x ".join(str(length) for length in shape) or "scalar"


def _document(found: Survey, network: Network | None) -> dict[str, object]:
    document: dict[str, object] = {
        "schema": SCHEMA,
        "model": {"path": str(found.path), "sha256": found.sha256, "opset": found.opset},
        "supported": network is not None,
        "nodes": [
            {
                "name": node.name,
                "operator": node.operator,
                "shape": None if node.shape is None else list(node.shape),
                "read_as": node.read_as,
                "supported": node.supported,
            }
            for node in found.nodes
        ],
    }
    return document if network is None else document | _network_fields(network)


def _network_fields(network: Network) -> dict[str, object]:
    given = network.preprocessing
    return {
        "input_shape": list(network.input_shape),
        "fixed_batch": network.fixed_batch,
        "parameters": network.parameters,
        "relu_neurons": network.neurons,
        "max_pool_outputs": network.pools,
        "curved_neurons": network.curved_neurons,
        "tail": network.tail.value,
        "labels": list(network.labels),
        "k": network.k,
        "threshold": network.threshold,
        "preprocessing": {"mean": list(given.mean), "std": list(given.std), "layout": given.layout.value},
    }
