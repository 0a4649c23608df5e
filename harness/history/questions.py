"""What people ask the history: how did a check do, since when does it fail, what flakes."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

BAD = ("failed", "error")
# A check that changed its outcome so often among its last runs, on one revision, flakes.
FLAKE_CHANGES = 2
RECENT = 20


@dataclass(frozen=True)
class Standing:
    """How one check stands on one topology.

    Attributes:
        outcomes: of its last runs, the oldest first.
        since: revision and time of the first bad run of the present row of bad ones; None: it is good.
        last_good: revision of the run before that; "" if there was none.

    """

    topology: str
    scenario: str
    name: str
    outcomes: tuple[str, ...]
    summary: str
    evidence: str
    since: tuple[str, float] | None
    last_good: str

    @property
    def bad(self) -> bool:
        """Whether the last run was bad."""
        return self.outcomes[-1] in BAD

    @property
    def changed(self) -> str:
        """Return what the last run changed: "broken", "mended", "new", or ""."""
        if len(self.outcomes) == 1:
            return "new"
        before = self.outcomes[-2] in BAD
        return "" if before == self.bad else "broken" if self.bad else "mended"

    @property
    def flakes(self) -> bool:
        """Whether it was good and bad by turns."""
        states = [outcome in BAD for outcome in self.outcomes]
        return sum(one != other for one, other in pairwise(states)) >= FLAKE_CHANGES

    @property
    def title(self) -> str:
        """Its full name."""
        return f"{self.scenario}: {self.name}"


def standings(history: sqlite3.Connection, pattern: str = "*", topology: str = "") -> list[Standing]:
    """Return how every check stands whose `SCENARIO: CHECK` matches a shell pattern."""
    rows = history.execute(
        "SELECT run.topology, run.revision, run.started, run.folder, result.* FROM result"
        " JOIN run ON run.id = result.run WHERE scenario || ': ' || name GLOB ? AND ? IN ('', topology)"
        " AND status != 'left-out' ORDER BY topology, scenario, name, run.id",
        (pattern, topology),
    ).fetchall()
    key = ("topology", "scenario", "name")
    grouped = groupby(rows, key=lambda row: tuple(row[each] for each in key))
    return [_standing(names, list(found)) for names, found in grouped]


def _standing(names: tuple[str, ...], rows: Sequence[Any]) -> Standing:
    first_bad = None
    last_good = ""
    for row in rows:
        if row["status"] not in BAD:
            first_bad, last_good = None, row["revision"]
        elif first_bad is None:
            first_bad = (row["revision"], row["started"])
    last = rows[-1]
    evidence = f"{last['folder']}/{last['evidence']}" if last["evidence"] else ""
    outcomes = tuple(row["status"] for row in rows[-RECENT:])
    topology, scenario, name = names
    return Standing(topology, scenario, name, outcomes, last["summary"], evidence, first_bad, last_good)
