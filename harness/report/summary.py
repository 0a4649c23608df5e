"""What `spanreel lab run` ends with."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from harness.checks.result import CheckResult
from harness.job.record import Run

STYLE = {
    "passed": "green",
    "failed": "bold red",
    "error": "bold red",
    "left-out": "yellow",
    "known": "yellow",
}


def show(run: Run, report: Path, console: Console | None = None) -> None:
    """Print every check, the phases that moved data, and where the report is."""
    console = console or Console()
    console.print()
    checks = Table("outcome", "check", Column("found", overflow="fold"), box=None, padding=(0, 2, 0, 0))
    for check in run.checks:
        checks.add_row(Text(check.status, STYLE[check.status]), Text(_name(check)), Text(check.summary))
    console.print(checks)
    for note in run.notes:
        console.print(Text(f"note: {note}", "yellow"))
    for phase in run.phases:
        if phase.bytes:
            console.print(
                Text(f"{phase.name}: {phase.seconds:.1f} s, {phase.mib_per_second:.1f} MiB/s", "dim")
            )
    passed = run.exit_code == 0
    what = f"scenarios (seed {run.number})" if any(check.scenario for check in run.checks) else "main job"
    verdict = "passed" if passed else "NOT PASSED"
    counts = f"{run.count('passed')} of {len(run.checks)} checks passed"
    console.print(
        Text(f"\n{what} {verdict}: {counts}, {run.seconds:.1f} s", "bold green" if passed else "bold red")
    )
    console.print(f"report: {report}", soft_wrap=True)


def _name(check: CheckResult) -> str:
    return f"{check.scenario}: {check.name}" if check.scenario else check.name
