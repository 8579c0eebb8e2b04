"""Checking a result of ``mlverify explain``: the result of every pair, and the matrix made of them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import DisagreementError, InputError
from ..synthesis.relations import relations
from ..verifier.network import Network
from .options import EngineOptions
from .results import ResultFile, Schema, read_result
from .show_relations import reaches_of, relation_fields

CheckOne = Callable[[ResultFile, Network, EngineOptions], str | None]
"""Checks the result of one pair; None when it is confirmed, else why it is not."""


def check_relations(
    result: ResultFile, network: Network, options: EngineOptions, check: CheckOne
) -> str | None:
    """Check every pair and the matrix; None when all is confirmed, else why not.

    Raises:
        InputError: when the result or one it rests on is damaged or missing.
        DisagreementError: when it claims something that is not so.
    """
    rows = [row for row in result.get("rows", list) if "failed" not in row]
    try:
        claimed = relation_fields(relations(reaches_of(rows)))
        kept = [row.get("result") for row in rows]
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(f"{result.path}: a row is damaged ({error!r}); write the result again") from None
    if claimed != result.get("relations", list):
        raise DisagreementError(f"the relations of {result.path} do not follow from its rows")
    if None in kept or not rows:
        return (
            f"{kept.count(None)} of {len(rows)} pairs have no kept result; run `mlverify explain` with --keep"
        )
    if len(result.get("labels", list)) != len(network.labels):
        raise InputError(f"{result.path}: field 'labels' should name {len(network.labels)} labels")
    doubts = [_check_row(result, row, network, options, check) for row in rows]
    open_ = [doubt for doubt in doubts if doubt is not None]
    return f"{len(open_)} of {len(rows)} pairs, the first: {open_[0]}" if open_ else None


def _check_row(
    result: ResultFile, row: Mapping[str, Any], network: Network, options: EngineOptions, check: CheckOne
) -> str | None:
    one = read_result(_folder(result) / Path(str(row["result"])).name, Schema.SYNTH)
    if one.get("model", dict).get("sha256") != network.sha256:
        raise DisagreementError(f"{one.path} is of another network than {result.path}")
    size, weights = one.get("size", float), one.numbers("weights")
    same = one.get("target_number", int) == row["target"] and one.get("k", int) == row["k"]
    # named as the run named them, perhaps by --labels
    named = one.get("objects", list) == [result.get("labels", list)[row["object"]]]
    if not (same and named and size == row["size"] and one.get("epsilons", list) == row["epsilons"]):
        raise DisagreementError(f"{one.path} is not what {result.path} says of it")
    if row["reach"] != size / float(weights.sum()):
        raise DisagreementError(
            f"{result.path} claims a reach of {row['reach']} that {one.path} does not give"
        )
    return check(one, network, options)


def _folder(result: ResultFile) -> Path:
    """Where the pairs' results are: as written, or beside the result."""
    written = Path(result.get("keep", str))
    places = (written, result.path.parent / written, result.path.parent / written.name)
    return next((place for place in places if place.is_dir()), written)
