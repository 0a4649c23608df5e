"""`spanreel lab nightly`."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from harness import bringup, known_issues, session
from harness import lab as labs
from harness import topology as topologies
from harness.commands.run import perform
from harness.errors import EXIT_COMPLETE, EXIT_FAILED, EXIT_INFRASTRUCTURE
from harness.history import store
from harness.known_issues import KnownIssue
from harness.night import page
from harness.night.prune import prune
from harness.report import junit
from harness.report.data import collect
from harness.scenarios.table import ALL, Scenario, chosen

GIB = 1 << 30
# A run that could not look is tried once more, on a lab made anew; all attempts are kept.
ATTEMPTS = 2


@click.command()
@click.option(
    "--topology",
    "names",
    multiple=True,
    metavar="NAME|FILE",
    help="Topologies of the matrix. Default: process and vms. Repeatable.",
)
@click.option(
    "--scenario", "wanted", multiple=True, metavar="NAME|quick|all", default=(ALL,), show_default=True
)
@click.option("--seed", "number", type=click.IntRange(0), help="Seed number. Default: the date, as YYYYMMDD.")
@click.option("--keep-days", type=click.IntRange(1), default=30, show_default=True, help="Age of evidence.")
@click.option("--keep-gib", type=click.IntRange(1), default=50, show_default=True, help="Size of evidence.")
@click.pass_context
def nightly(
    ctx: click.Context,
    names: tuple[str, ...],
    wanted: tuple[str, ...],
    number: int | None,
    keep_days: int,
    keep_gib: int,
) -> None:
    """Run the main job and scenarios on each topology, and write one page that says what changed.

    Beside the page: junit-*.xml, checks.jsonl, mail.txt. Evidence beyond an age or size is removed.

    Example: spanreel lab nightly --topology process
    """
    scenarios = chosen(wanted)
    found = [topologies.read(topologies.find(name)) for name in names or ("process", "vms")]
    issues = known_issues.read(known_issues.shipped())
    night = time.strftime("%Y-%m-%d %H:%M:%S")
    number = int(time.strftime("%Y%m%d")) if number is None else number
    folder = labs.state_home() / "nights" / time.strftime("%Y%m%dT%H%M%S")
    folder.mkdir(parents=True)
    codes = []
    whole = False
    try:
        for topology in found:
            name = night_lab(topology.name)
            _begin_anew(name)
            parts: tuple[list[Scenario], ...] = ([], scenarios)
            codes += [_one(name, topology.name, part, number, issues, night, folder) for part in parts]
        whole = True
    finally:
        # Of a night that is broken off, too: the runs that ended before are in the history.
        text = _write_page(folder, night, whole=whole)
    gone = prune(keep_days, keep_gib * GIB)
    click.echo(text + (f"removed {len(gone)} old folders of evidence" if gone else ""))
    ctx.exit(worst(codes))


def _write_page(folder: Path, night: str, *, whole: bool) -> str:
    """Write the night's page, and its short form, which is returned."""
    target = folder / "night.html"
    with store.opened() as history:
        target.write_text(page.render(history, night, whole=whole), encoding="utf-8")
        text = page.mail(history, night, str(target), whole=whole)
    (folder / "mail.txt").write_text(text, encoding="utf-8")
    return text


def night_lab(topology: str) -> str:
    """Return the name of the lab that nights of a topology use."""
    return f"night-{topology}"[:31]


def _begin_anew(lab: str) -> None:
    """Remove what earlier nights wrote: cartridges would be full one night.  Their runs and evidence stay."""
    if labs.load(lab) is not None:
        with session.holding(lab, None) as provider:
            bringup.down(provider)
        labs.begin_anew(lab)


def worst(codes: list[int]) -> int:
    """Return the night's exit code: a failure of the product outweighs one of the infrastructure."""
    for code in (EXIT_FAILED, EXIT_INFRASTRUCTURE):
        if code in codes:
            return code
    return max(codes, default=EXIT_COMPLETE)


def _one(
    lab: str,
    topology: str,
    scenarios: list[Scenario],
    number: int,
    issues: list[KnownIssue],
    night: str,
    folder: Path,
) -> int:
    """Run one cell of the matrix, again if the infrastructure failed; return the last exit code."""
    code = EXIT_COMPLETE
    for attempt in range(ATTEMPTS):
        if attempt:
            _begin_anew(lab)
        _, wanted = session.wanted(topology, None)
        done, _, _ = perform(lab, wanted, scenarios, number, issues)
        store.keep(done, night)
        data = collect(done)
        kind = "scenarios" if scenarios else "main"
        (folder / f"junit-{lab}-{kind}-{attempt}.xml").write_text(junit.render(data), encoding="utf-8")
        with (folder / "checks.jsonl").open("a", encoding="utf-8") as lines:
            for check in data["checks"]:
                lines.write(json.dumps(check | {"topology": wanted.name, "attempt": attempt}) + "\n")
        code = done.exit_code
        if code != EXIT_INFRASTRUCTURE:
            break
    return code
