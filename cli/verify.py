"""``mlverify verify``: does the property hold for every image of a neighbourhood?"""

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import click

from ..errors import InputError
from ..verifier.all_labels import ask_all_labels
from ..verifier.cases import verify_cases
from ..verifier.certificate import BoundCertificate, certified
from ..verifier.portfolio import Engine, Verifier
from ..verifier.problem import Problem
from ..verifier.proof_of_bounds import proof_of
from ..verifier.result import Result, Stage, Verdict
from ..verifier.window_bounds import WindowBounds
from .certificates import keep_certificate
from .label_certificates import check_certifiable, keep_label_certificates
from .main import ExitCode
from .neighbourhood import Neighbourhood, neighbourhood
from .option_types import EpsilonType
from .options import (
    DecisionOptions,
    EngineOptions,
    NetworkOptions,
    OutputOptions,
    PropertyOptions,
    decision_options,
    engine_options,
    network_options,
    output_options,
    property_options,
    resize_option,
)
from .properties import asks, check_one_question, described_property, property_arrays
from .question import Question, ask
from .render import note
from .results import Schema, load_arrays, read_result
from .session import check_outputs, interruptible, settings_of
from .spec import ask_spec
from .verify_labels import labels_problem, report_labels, tell_label
from .verify_output import Asked, exit_code, report
from .words import reporting_failure, write_words

# Engines that are faster than this need no line of progress.
PATIENCE = 2.0


@click.command("verify")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("image", type=click.Path(path_type=Path), required=False)
@click.option("--eps", type=EpsilonType(), help="Largest change of a pixel, 0 to 1; may be written 2/255.")
@click.option(
    "--epsilons", type=click.Path(path_type=Path), help="Per layer, from a result of `mlverify synth`."
)
@click.option(
    "--mask", type=click.Path(path_type=Path), help="PNG: only its non-zero pixels change (with --eps)."
)
@property_options
@click.option(
    "--vnnlib",
    type=click.Path(path_type=Path),
    help="A VNN-LIB 1.0 or 2.0 file, in place of image and target.",
)
@click.option("--second-opinion", is_flag=True, help="Also ask auto_LiRPA for bounds, where it is installed.")
@click.option(
    "--result-file", type=click.Path(path_type=Path), help="Write sat, unsat, ... in VNN-COMP's words."
)
@click.option(
    "--certificate",
    type=click.Path(path_type=Path),
    help="Write the proof, for `mlverify check`; asks no MILP, whose proofs can't be certified.",
)
@network_options
@decision_options
@resize_option
@engine_options
@output_options
def verify_command(
    model: Path,
    image: Path | None,
    eps: float | None,
    epsilons: Path | None,
    mask: Path | None,
    vnnlib: Path | None,
    second_opinion: bool,
    result_file: Path | None,
    certificate: Path | None,
    property_options: PropertyOptions,
    network_options: NetworkOptions,
    decision_options: DecisionOptions,
    resize: bool,
    engine_options: EngineOptions,
    output_options: OutputOptions,
) -> None:
    """Does the target label of IMAGE stay in the label set of MODEL for every image of a neighbourhood?

    The neighbourhood is every image whose pixels differ by at most --eps, clipped to [0, 1]; or the layered
    one of --epsilons. With --vnnlib a file asks instead. Exit codes: 0 holds, 1 violated, 3 unknown.
    """
    check_one_question(property_options)
    inputs = [model, image, vnnlib, mask, network_options.labels, *_companions(epsilons)]
    check_outputs(_outputs(output_options.output, result_file, certificate), inputs)
    if property_options.all_labels and result_file is not None:
        raise InputError("--result-file has no words for all labels; use -o OUT.json")
    with reporting_failure(result_file):
        if vnnlib is None:
            if image is None:
                raise InputError("give an IMAGE with --eps or --epsilons, or a file with --vnnlib")
            question = ask(model, image, network_options, decision_options, resize=resize)
            around = neighbourhood(question, eps, epsilons, mask)
            if property_options.all_labels:
                code = _answer_all_labels(question, around, engine_options, output_options, certificate)
                raise SystemExit(code)
            asked = _image_question(question, around, property_options)
        else:
            given = (image, eps, epsilons, mask)
            decides = decision_options != DecisionOptions(None, None, None)
            if any(item is not None for item in given) or asks(property_options) or decides or resize:
                raise InputError(
                    "--vnnlib asks the whole question: leave out IMAGE, --eps, --mask, --resize, --decision, --target "
                    "and the like"
                )
            asked = ask_spec(model, vnnlib, network_options)
        with interruptible(engine_options.timeout) as (budget, was_pressed):
            settings = replace(
                settings_of(engine_options), second_opinion=second_opinion, certify=certificate is not None
            )
            verifier = Verifier(asked.network, settings, note, _tell)
            result = _by_certificate(verifier, asked.problems, epsilons)
            if result is None:
                result = verify_cases(verifier, asked.problems, budget)
        timed_out = budget.exhausted and not was_pressed()
        kept = None if certificate is None else keep_certificate(certificate, asked.problems, result)
        report(asked, result, output_options, kept)
        if result_file is not None:
            write_words(result_file, asked.network, result, timed_out=timed_out)
    raise SystemExit(ExitCode.INTERRUPTED if was_pressed() else exit_code(result.verdict))


def _answer_all_labels(
    question: Question,
    around: Neighbourhood,
    engines: EngineOptions,
    output: OutputOptions,
    certificate: Path | None,
) -> ExitCode:
    problem = labels_problem(question, around.region)
    if certificate is not None:
        check_certifiable(question.network)
    tell = partial(tell_label, question.network.labels)
    with interruptible(engines.timeout) as (budget, was_pressed):
        settings = settings_of(engines)
        if certificate is not None:
            settings = replace(settings, engines=settings.engines - {Engine.MILP})
        verifier = Verifier(question.network, settings, note, _tell)
        result = ask_all_labels(verifier, problem, budget, tell)
        kept = None
        if certificate is not None:
            keeper = Verifier(question.network, replace(settings, certify=True), note)
            kept = keep_label_certificates(certificate, keeper, problem, result, budget)
    report_labels(question, result, around, output, kept)
    return ExitCode.INTERRUPTED if was_pressed() else exit_code(result.verdict)


def _tell(stage: Stage) -> None:
    """Progress on stderr: what an engine that took its time has left open."""
    if stage.verdict is Verdict.UNKNOWN and stage.seconds >= PATIENCE:
        note(f"{stage.engine} is undecided after {stage.seconds:.0f} s: {stage.detail}")


def _by_certificate(verifier: Verifier, problems: Sequence[Problem], synthesis: Path | None) -> Result | None:
    """The proof that a synthesis result carries for this very question, None where it has none that holds."""
    if synthesis is None:
        return None
    result = read_result(synthesis, Schema.SYNTH)
    if result.fields.get("certificate") is None:
        return None
    started = time.monotonic()
    certificate = BoundCertificate.from_arrays(load_arrays(result.companion("certificate")))
    try:
        problem = problems[0]
        proof = certificate.check(verifier.bounds.linear, problem.region, problem.property)
        windows = WindowBounds(problem.network)
        searches = not proof.proved and windows.is_available and not verifier.settings.certify
        if searches:
            proof = certificate.check(verifier.bounds.linear, problem.region, problem.property, windows)
    except InputError:
        # of another network or question; the engines answer this one
        return None
    if not proof.proved:
        return None
    found = certified(proof, time.monotonic() - started, windows=searches)
    return (
        replace(found, certificates=(proof_of(problem, certificate),)) if verifier.settings.certify else found
    )


def _outputs(output: Path | None, *others: Path | None) -> list[Path]:
    """Every file that is going to be written."""
    files = [path for path in others if path is not None]
    if output is None:
        return files
    if output.is_dir():
        raise InputError(f"{output} is a folder; give the name of a file in it")
    return [output, output.with_suffix(".npz"), output.with_suffix(".witness.npy"), *files]


def _companions(synthesis: Path | None) -> list[Path]:
    """The files of a synthesis result."""
    return [] if synthesis is None else [synthesis, synthesis.with_suffix(".npz")]


def _image_question(question: Question, around: Neighbourhood, options: PropertyOptions) -> Asked:
    """The question about an image, with what is written beside the result."""
    described = described_property(question, options)
    asked = described.property
    problem = Problem(question.network, around.region, asked, question.image)
    arrays = {**around.arrays, **property_arrays(asked)}
    fields = {"property": asked.text, "question": described.fields, "region": around.fields}
    return Asked(question.network, question.image_path, (problem,), asked.text, fields, arrays)
