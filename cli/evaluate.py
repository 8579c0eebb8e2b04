"""``mlverify evaluate MODEL DATASET``: what a deployment engineer reads before a network goes out."""

from pathlib import Path

import click

from ..errors import InputError
from .main import ExitCode
from .option_types import EpsilonType
from .options import (
    DatasetOptions,
    DecisionOptions,
    EngineOptions,
    NetworkOptions,
    OutputOptions,
    dataset_options,
    decision_options,
    engine_options,
    network_options,
    output_options,
    resize_option,
)


@click.command("evaluate")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("source", metavar="DATASET")
@click.option(
    "--eps",
    type=EpsilonType(),
    multiple=True,
    help="Attack and certify at this epsilon, as 2/255; repeatable.",
)
@click.option(
    "--sample",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="Attack and certify only so many images, drawn by --seed.",
)
@click.option(
    "--proof-timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=2.0,
    show_default=True,
    metavar="S",
    help="Seconds for the proofs of all labels of one image at one epsilon.",
)
@click.option(
    "--attack-steps", type=click.IntRange(min=1), default=40, show_default=True, help="APGD steps per attack."
)
@click.option("--d-score/--no-d-score", default=True, help="D-Score-like on the sample  [default: yes]")
@click.option("--resume", is_flag=True, help="Continue the run that wrote -o OUT.json and its OUT.npz.")
@dataset_options
@resize_option
@network_options
@decision_options
@engine_options
@output_options
def evaluate_command(
    model: Path,
    source: str,
    eps: tuple[float, ...],
    sample: int,
    proof_timeout: float,
    attack_steps: int,
    d_score: bool,
    resume: bool,
    dataset_options: DatasetOptions,
    resize: bool,
    network_options: NetworkOptions,
    decision_options: DecisionOptions,
    engine_options: EngineOptions,
    output_options: OutputOptions,
) -> None:
    """Measure MODEL (ONNX, or a checkpoint of `mlverify train`) on DATASET: accuracy, attacks, proofs.

    DATASET is a folder of VOC, COCO or NUS-WIDE, a .csv beside its pictures, an .npz, or double-mnist or
    triple-mnist. With -o OUT.json the table is also OUT.table.csv, a figure OUT.png, and OUT.npz keeps what was
    found, so that --resume can continue after Ctrl-C or a time limit. Exit codes: 0 all images are done, 3 time
    limit, 130 interrupted.
    """
    from ..attacks.apgd import Apgd
    from ..evaluation.run import EvaluationSettings
    from ..models.dscore import DScoreSettings
    from .evaluate_run import Run, carry_out

    if resume and output_options.output is None:
        raise InputError("--resume continues the run of a result file: name it with -o OUT.json")
    settings = EvaluationSettings(
        epsilons=tuple(sorted(set(eps))),
        sample=sample,
        seed=engine_options.seed,
        attack=Apgd(steps=attack_steps, restarts=2),
        proof_seconds=proof_timeout,
        d_score=DScoreSettings() if d_score else None,
    )
    run = Run(model, source, dataset_options, network_options, decision_options, engine_options, resize)
    complete, interrupted = carry_out(run, settings, output_options, resume=resume)
    if interrupted:
        raise SystemExit(ExitCode.INTERRUPTED)
    raise SystemExit(ExitCode.HOLDS if complete else ExitCode.UNKNOWN)
