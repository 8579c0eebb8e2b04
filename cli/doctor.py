"""``mlverify doctor``: what is installed here, and what of it works."""

import click

from .options import OutputFormat, format_option
from .probes import Finding, Health, run_probes
from .render import Tone, print_json, print_table

SCHEMA = "mlverify/doctor/1"
_TONES = {Health.OK: Tone.PLAIN, Health.LIMITED: Tone.GOOD, Health.MISSING: Tone.FAINT}


@click.command("doctor")
@format_option
def doctor_command(format: OutputFormat) -> None:
    """Versions, devices, solvers and their licence sizes, and whether auto_LiRPA is usable."""
    findings = list(run_probes())
    if format is OutputFormat.JSON:
        print_json({"schema": SCHEMA, "findings": [_fields(finding) for finding in findings]})
        return
    rows = [(finding.part, finding.health.value, finding.detail) for finding in findings]
    print_table(("part", "state", "detail"), rows, [_TONES[finding.health] for finding in findings])


def _fields(finding: Finding) -> dict[str, str]:
    return {"part": finding.part, "state": finding.health.value, "detail": finding.detail}
