"""`spanreel lab run`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import click

from harness import bringup, known_issues, namespace, session
from harness.commands.options import no_wait, which_lab
from harness.errors import HarnessError
from harness.evidence import Journals, collect, keep_journals
from harness.history import store
from harness.job.main import main_job
from harness.job.record import Run
from harness.known_issues import KnownIssue
from harness.providers.base import Provider
from harness.report import write
from harness.report.summary import show
from harness.scenarios import rewind, runner, table
from harness.topology import Topology

Job = Callable[[Run], None]
# Brings the lab up.
Begin = Callable[[Provider], None]


@click.command()
@which_lab
@click.option("--keep", is_flag=True, help="Leave the lab running afterwards. It stays up anyway if it was.")
@no_wait
@click.option("--hold-on-fail", is_flag=True, help="Leave the lab running if a check does not pass.")
@click.option(
    "--scenario",
    "names",
    multiple=True,
    metavar="NAME|quick|all",
    help="Run scenarios instead of the main job; `spanreel lab scenarios` lists them. Repeatable.",
)
@click.option(
    "--seed",
    "number",
    type=click.IntRange(0),
    help="Number that everything left to chance comes from. Default: the topology's.",
)
@click.option(
    "--known-issues",
    "known",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Failures that are known. Default: those shipped with the harness.",
)
@click.option("--fresh", is_flag=True, help="Boot cold, whatever runs and whatever is kept.")
@click.option("--dry-run", is_flag=True, help="Say what would run, and how long it took before; do nothing.")
@click.pass_context
def run(
    ctx: click.Context,
    topology: str | None,
    name: str | None,
    keep: bool,
    hold_on_fail: bool,
    names: tuple[str, ...],
    number: int | None,
    known: Path | None,
    fresh: bool,
    dry_run: bool,
    wait: bool,
) -> None:
    """Run the main job, or scenarios, prove what must hold, report.

    The main job: seed, back up through each file server, restore.

    \b
    Examples:
      spanreel lab run --topology process
      spanreel lab run --topology process --scenario all --seed 7
    """
    lab, wanted = session.wanted(topology, name)
    scenarios = table.chosen(names)
    number = wanted.seed.number if number is None else number
    if dry_run:
        _plan(wanted.name, scenarios)
        return
    issues = known_issues.read(known or known_issues.shipped())
    done, report, up = perform(
        lab, wanted, scenarios, number, issues, keep=keep, hold_on_fail=hold_on_fail, wait=wait, fresh=fresh
    )
    store.keep(done)
    show(done, report)
    if up:
        click.echo(f"The lab is still up; end it: spanreel lab down --lab {lab}")
    ctx.exit(done.exit_code)


def perform(
    lab: str,
    wanted: Topology,
    scenarios: Sequence[table.Scenario],
    number: int,
    issues: Sequence[KnownIssue],
    *,
    keep: bool = False,
    hold_on_fail: bool = False,
    wait: bool = True,
    fresh: bool = False,
) -> tuple[Run, Path, bool]:
    """Run scenarios, or without any the main job; return the run, its report, whether the lab is still up."""
    play: Job = main_job
    begin: Begin = partial(bringup.up, fresh=fresh)
    if scenarios:
        play = partial(runner.play, scenarios=scenarios, number=number)
        begin = partial(rewind.bring_up, number=number, fresh=fresh)
    with session.holding(lab, wanted, wait=wait) as provider:
        keep = keep or provider.lab.state in ("ready", "seeded")
        seed = replace(provider.topology.seed, number=number)
        provider.topology = replace(provider.topology, seed=seed)
        done = new_run(provider)
        done.number, done.known = number, issues
        try:
            job(done, play, begin)
            for result in known_issues.expired(issues):
                done.check(result)
        finally:
            keep = keep or (hold_on_fail and done.exit_code != 0)
            # Also after Ctrl-C and after mistakes of our own: nothing is left running unasked.
            if not keep:
                with done.guard("bring the lab down"):
                    bringup.down(provider)
    return done, write(done), keep


def _plan(topology: str, scenarios: list[table.Scenario]) -> None:
    """Print what would run, with the seconds of the last time."""
    took = store.last_seconds(topology)
    total = 0.0
    for name in [item.name for item in scenarios] or ["main job"]:
        seconds = took.get(name)
        total += seconds or 0.0
        click.echo(f"{name:<32} {f'{seconds:.0f} s' if seconds is not None else 'not run before'}")
    click.echo(f"in all {total / 60:.1f} minutes, besides bringing lab {topology} up and down")


def new_run(provider: Provider) -> Run:
    """Make the record of a run, with a folder of its own."""
    folder = provider.lab.folder / "runs" / time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    folder.mkdir(parents=True)
    return Run(provider, folder)


def job(done: Run, play: Job = main_job, begin: Begin = bringup.up) -> None:
    """Bring the lab up and run a job on it; expected errors end up in the record."""
    provider = done.provider
    ready = False
    with done.guard("bring the lab up"), done.phase("bring the lab up"):
        begin(provider)
        namespace.require_as_in_topology(provider)
        ready = True
    if ready:
        journals = Journals(provider)
        play(done)
        keep_journals(provider, done.folder / "journals")
        if provider.leases is not None:
            with done.guard("the library was ours alone"):
                provider.leases.verify()
        if play is main_job:
            _look_back(done, journals)
        provider.lab.state = "seeded"
        provider.lab.save()
    done.seconds = time.time() - done.started


def _look_back(done: Run, journals: Journals) -> None:
    """After the main job: read the journals, and keep evidence of what went wrong."""
    with done.guard("journals"):
        for result in journals.checks():
            done.check(result)
    if done.exit_code:
        try:
            done.mark_evidence(0, collect(done, "", done.number, journals))
        except HarnessError as problem:
            done.notes.append(f"no evidence was kept: {problem}")
