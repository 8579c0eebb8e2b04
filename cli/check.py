"""``mlverify check RESULT.json``: believe a result file only after proving or replaying it again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from ..errors import DisagreementError, ImageError, InputError, PropertyError
from ..synthesis.layers import Bands, ObjectLayers
from ..synthesis.prover import Prover
from ..verifier.cases import verify_cases
from ..verifier.certificate import BoundCertificate
from ..verifier.network import Network
from ..verifier.onnx_reader import load_network
from ..verifier.portfolio import Verifier
from ..verifier.preprocessing import Layout, Preprocessing
from ..verifier.problem import Problem
from ..verifier.proof_checker import Checked
from ..verifier.proof_of_bounds import proof_of
from ..verifier.property import top_k
from ..verifier.region import Layered
from ..verifier.replay import Rejection, Replay
from ..verifier.result import Result, Verdict, Witness
from . import spec
from .certificates import check_again, prove
from .check_labels import check_labels
from .check_maximality import check_maximality, check_numbers
from .check_relations import check_relations
from .documents import region_of
from .main import ExitCode
from .objects import read_layers
from .options import EngineOptions, engine_options
from .properties import PropertyKind, property_from, property_of, same_clauses
from .render import note
from .results import ResultFile, Scene, Schema, load_arrays, read_result, read_scene
from .session import interruptible, settings_of


@dataclass(frozen=True, slots=True)
class _Finding:
    confirmed: bool
    text: str


@click.command("check")
@click.argument("result", type=click.Path(path_type=Path))
@click.option("--model", type=click.Path(path_type=Path), help="The ONNX file, if it has moved.")
@engine_options
def check_command(result: Path, model: Path | None, engine_options: EngineOptions) -> None:
    """Check RESULT, a JSON file of `mlverify verify`, `synth` or `explain --keep`, trusting nothing in it.

    A witness is replayed in onnxruntime; a proof is found again, from the certificate beside the file if
    there is one. Exit codes: 0 confirmed, 3 not confirmed (in time), 4 contradicted.
    """
    read = read_result(result, Schema.VERIFY, Schema.SYNTH, Schema.EXPLAIN)
    network = _network(read, model)
    finding = _CHECKS[read.schema](read, network, engine_options)
    click.echo(f"{'confirmed' if finding.confirmed else 'not confirmed'}  ({finding.text})")
    raise SystemExit(ExitCode.HOLDS if finding.confirmed else ExitCode.UNKNOWN)


def _network(result: ResultFile, moved: Path | None) -> Network:
    """The network of a result, the very file by its sha256.

    Raises:
        InputError: when it is another file.
    """
    fields = result.get("model", dict)
    try:
        preprocessing = Preprocessing(
            tuple(map(float, fields.get("mean", ()))),
            tuple(map(float, fields.get("std", ()))),
            Layout(fields.get("layout", Layout.NCHW)),
        )
    except (TypeError, ValueError):
        raise InputError(f"{result.path}: field 'model' is damaged; write the result again") from None
    try:
        path = result.find(fields) if moved is None else moved
    except InputError as error:
        raise InputError(f"{error}; or say where it is with --model") from None
    network = load_network(path, preprocessing)
    if network.sha256 != fields.get("sha256"):
        raise InputError(f"{path} is not the file that {result.path} speaks of (its sha256 differs)")
    return network


# --- synth ----------------------------------------------------------------------------------------------


def _check_synth(result: ResultFile, network: Network, options: EngineOptions) -> _Finding:
    scene, epsilons = read_scene(result), result.numbers("epsilons")
    if (epsilons < 0).any() or (epsilons > 1).any():
        raise InputError(f"{result.path}: epsilons must be in [0, 1]")
    target, k = result.get("target_number", int), result.get("k", int)
    check_numbers(result, epsilons)
    _check_layers(result, scene)
    region = Layered(scene.image, scene.layers, epsilons).region
    question = top_k(len(network.labels), target, k)
    problem = Problem(network, region, question, scene.image)
    certificate = None
    if result.fields.get("certificate") is not None:
        certificate = BoundCertificate.from_arrays(load_arrays(result.companion("certificate")))
    finding = _prove_again(problem, certificate, options)
    if not finding.confirmed:
        return finding
    confirmed, text = check_maximality(result, scene, network, question, epsilons)
    return _Finding(confirmed, f"{finding.text}; {text}")


def _prove_again(problem: Problem, certificate: BoundCertificate | None, options: EngineOptions) -> _Finding:
    if certificate is not None and not problem.network.curves:
        checked = prove((problem,), (proof_of(problem, certificate),))
        if checked.proved:
            return _by_checker(checked)
        note("the certificate alone does not prove these epsilons; the engines are asked as well")
    with interruptible(options.timeout) as (budget, was_pressed):
        found = Prover(problem.network, settings_of(options), note).ask(problem, budget, certificate)
    return _finding(found, interrupted=was_pressed())


def _check_layers(result: ResultFile, scene: Scene) -> None:
    """Layers must be the distances from the object, in the numbers of pixels that the result names."""
    described = read_layers(result, scene)
    starts = tuple(sorted({part.first for part in described.parts}))
    try:
        layers = ObjectLayers.around_each(scene.masks, Bands(starts or (0,)))
    except (ImageError, PropertyError) as error:
        raise InputError(f"{result.path}: its layers are damaged ({error}); write the result again") from None
    if not np.array_equal(layers.layers, scene.layers) or layers.parts != described.parts:
        raise DisagreementError(f"the layers of {result.path} are not the distances from its objects")


# --- verify ---------------------------------------------------------------------------------------------


def _check_verify(result: ResultFile, network: Network, options: EngineOptions) -> _Finding:
    verdict = result.get("verdict", str)
    if verdict not in set(Verdict):
        raise InputError(f"{result.path}: '{verdict}' is no verdict; write the result again")
    if result.get("question", dict).get("kind") == PropertyKind.ALL_LABELS:
        return _Finding(*check_labels(result, network, options))
    if verdict == Verdict.UNKNOWN:
        return _Finding(False, "the result itself says unknown")
    if result.get("region", dict).get("kind") == spec.KIND:
        problems = spec.problems_of(result, network)
    else:
        problems = (_problem(result, network, load_arrays(result.companion("arrays"))),)
    if verdict == Verdict.VIOLATED:
        return _replay(result, problems)
    checked = check_again(result, problems)
    if checked is None:
        return _prove(problems, options)
    if checked.proved:
        return _by_checker(checked)
    note(f"the certificate does not prove the result ({checked.reason}); the engines are asked instead")
    return _prove(problems, options)


def _by_checker(checked: Checked) -> _Finding:
    text = f"certificate, margin at most {checked.margin_bound:.3g}"
    return _Finding(True, f"{text}, {checked.leaves} leaves proved by the independent checker")


def _problem(result: ResultFile, network: Network, arrays: Mapping[str, NDArray[Any]]) -> Problem:
    region = region_of(result, arrays)
    try:
        asked = property_from(arrays, result.get("property", str))
        wanted = property_of(result.get("question", dict), len(network.labels))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(f"{result.path} is damaged ({error!r}); write the result again") from None
    if not same_clauses(wanted, asked) or wanted.text != asked.text:
        raise DisagreementError(f"{result.path} speaks of another property than its arrays")
    return Problem(network, region, asked)


def _replay(result: ResultFile, problems: Sequence[Problem]) -> _Finding:
    path = result.companion("witness")
    try:
        image = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} can't be read as the witness ({error})") from None
    if image.shape != problems[0].region.shape or image.dtype != np.float32:
        raise InputError(
            f"{path} is {image.dtype} {image.shape}; a float32 input of the network was expected"
        )
    around = [problem for problem in problems if problem.region.contains(image)]
    if not around:
        raise DisagreementError(f"{path} lies outside the region of {result.path}: it is no witness")
    replay = Replay(problems[0].network)
    judged = [replay.judge(problem.region, problem.property, image) for problem in around]
    for found in judged:
        if isinstance(found, Witness):
            return _Finding(True, f"witness replayed in onnxruntime, margin {found.margin:.3g}")
    reasons = ", ".join(found.reason for found in judged if isinstance(found, Rejection))
    raise DisagreementError(f"{path}: {reasons}")


def _prove(problems: Sequence[Problem], options: EngineOptions) -> _Finding:
    with interruptible(options.timeout) as (budget, was_pressed):
        verifier = Verifier(problems[0].network, settings_of(options), note)
        found = verify_cases(verifier, problems, budget)
    return _finding(found, interrupted=was_pressed())


def _finding(found: Result, *, interrupted: bool) -> _Finding:
    if found.verdict is Verdict.VIOLATED:
        raise DisagreementError(
            "the result claims that the property holds, and a witness was found against it"
        )
    if found.verdict is Verdict.UNKNOWN and interrupted:
        raise KeyboardInterrupt
    return _Finding(found.verdict is Verdict.HOLDS, f"{found.engine}: {found.reason}")


# --- explain --------------------------------------------------------------------------------------------


def _check_explain(result: ResultFile, network: Network, options: EngineOptions) -> _Finding:
    def check(pair: ResultFile, network: Network, options: EngineOptions) -> str | None:
        finding = _check_synth(pair, network, options)
        note(f"{pair.path}: {finding.text}")
        return None if finding.confirmed else finding.text

    doubt = check_relations(result, network, options, check)
    return _Finding(doubt is None, doubt or "every pair and the matrix made of them")


_CHECKS = {Schema.VERIFY: _check_verify, Schema.SYNTH: _check_synth, Schema.EXPLAIN: _check_explain}
