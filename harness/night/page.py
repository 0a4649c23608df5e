"""What a night leaves for people: one self-contained page, and a few lines for mail."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from harness.history import questions, store
from harness.history.questions import Standing
from harness.night.clusters import clusters
from harness.night.trends import trends

# Lines of a mail, besides its head.
MAIL_LINES = 20


def render(history: sqlite3.Connection, night: str, *, whole: bool = True) -> str:
    """Return the page of a night, which is in the history; `whole`: it was not broken off."""
    environment = Environment(
        loader=PackageLoader("harness.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["when"] = store.when
    standings = tonight(history, night)
    return environment.get_template("night.html.j2").render(
        night=night,
        whole=whole,
        runs=runs_of(history, night),
        standings=standings,
        broken=[each for each in standings if each.changed == "broken"],
        mended=[each for each in standings if each.changed == "mended"],
        bad=[each for each in standings if each.bad],
        known=[each for each in standings if each.outcomes[-1] == "known"],
        flakes=[each for each in standings if each.flakes],
        clusters=clusters(standings),
        trends=trends(history, night),
    )


def mail(history: sqlite3.Connection, night: str, page: str, *, whole: bool = True) -> str:
    """Return a short text: the first line is the subject; `whole`: the night was not broken off."""
    standings = tonight(history, night)
    bad = [each for each in standings if each.bad]
    broken = [each for each in standings if each.changed == "broken"]
    mended = [each for each in standings if each.changed == "mended"]
    outcome = f"{len(bad)} of {len(standings)} checks fail" if bad else "all passed"
    subject = (
        f"Spanreel {night}: {outcome}" if whole else f"Spanreel {night}: broken off; until then {outcome}"
    )
    lines = [subject, ""]
    for title, group in (("broken since last night", broken), ("mended", mended), ("failing", bad)):
        if group:
            lines.append(f"{title}: {len(group)}")
            lines += [f"  {each.topology}: {each.title}: {_since(each)}" for each in group[:MAIL_LINES]]
    return "\n".join([*lines, f"page: {page}", ""])


def tonight(history: sqlite3.Connection, night: str) -> list[Standing]:
    """Return how the checks stand that ran this night."""
    rows = history.execute(
        "SELECT DISTINCT run.topology, scenario, name FROM result JOIN run ON run.id = result.run"
        " WHERE night = ?",
        (night,),
    )
    ran = {(row["topology"], row["scenario"], row["name"]) for row in rows}
    every = questions.standings(history)
    return [each for each in every if (each.topology, each.scenario, each.name) in ran]


def runs_of(history: sqlite3.Connection, night: str) -> Sequence[Any]:
    """Return the runs of a night with how many checks ended how."""
    counts = ("passed", "failed", "error", "known")
    sums = ", ".join(f"sum(status = '{status}') AS {status}" for status in counts)
    return history.execute(
        f"SELECT run.*, {sums} FROM run JOIN result ON result.run = run.id"  # noqa: S608 - words of our own
        " WHERE night = ? GROUP BY run.id ORDER BY run.id",
        (night,),
    ).fetchall()


def _since(standing: Standing) -> str:
    if standing.since is None:
        return "passed"
    return f"since {store.when(standing.since[1])} at {standing.since[0]}: {standing.summary[:160]}"
