"""Runs scenarios one after the other on one lab, each from a lab that is whole."""

from __future__ import annotations

from collections.abc import Sequence

from harness import packets
from harness.checks.result import left_out
from harness.errors import NotPossibleError
from harness.evidence import Journals, collect
from harness.job.record import Run
from harness.scenarios.rewind import Rewind
from harness.scenarios.stage import Stage
from harness.scenarios.table import Scenario

BAD = ("failed", "error")


def play(run: Run, scenarios: Sequence[Scenario], number: int) -> None:
    """Run scenarios on a lab that is up; what goes wrong is kept in `run`, not raised."""
    stage = Stage(run, number)
    rewind = Rewind(stage)
    with run.guard("prepare the lab"):
        rewind.prepare()
    if not stage.expected:
        return
    for scenario in scenarios:
        run.scenario = scenario.name
        with run.guard("a lab that is whole"):
            rewind.again()
            _one(stage, scenario)
        run.scenario = ""


def _one(stage: Stage, scenario: Scenario) -> None:
    """Run one scenario, mend the lab, read the journals, keep evidence if something went wrong."""
    run = stage.run
    before = len(run.checks)
    journals = Journals(run.provider)
    with packets.recording(run) as recorded:
        with run.guard(scenario.name), run.phase(scenario.name):
            try:
                scenario.play(stage)
            except NotPossibleError as reason:
                run.check(left_out(scenario.name, reason.message))
            finally:
                mend(stage)
        with run.guard("journals"):
            for result in journals.checks():
                run.check(result)
        if any(check.status in BAD for check in run.checks[before:]):
            with run.guard("evidence"):
                folder = collect(run, scenario.name, stage.number, journals, recorded)
                run.mark_evidence(before, folder)


def mend(stage: Stage) -> None:
    """Take faults away and start what is dead: the next scenario begins with a whole lab."""
    stage.tape.clear()
    for node in stage.provider.serving():
        stage.provider.recover(node)
