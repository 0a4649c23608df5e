"""The history's file: runs, their checks and their phases.

$XDG_STATE_HOME/spanreel/history.sqlite.  Runs are only ever added; evidence that was pruned leaves its
checks here.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from harness import lab as labs
from harness.errors import InfrastructureError
from harness.job.record import Run
from harness.known_issues import MAIN_JOB
from harness.report.data import commit

# Two runs that end together wait for each other, for milliseconds.
BUSY_SECONDS = 30.0
# By number, what makes it out of the number before; the first makes an empty file's tables.  It is done as in
# the product's own stores (docs/upgrade.md), whose code the harness does not import.
STEPS = {
    1: """
CREATE TABLE run (
    id INTEGER PRIMARY KEY, started REAL NOT NULL, seconds REAL NOT NULL, topology TEXT NOT NULL,
    lab TEXT NOT NULL, seed INTEGER NOT NULL, revision TEXT NOT NULL, exit_code INTEGER NOT NULL,
    folder TEXT NOT NULL, night TEXT NOT NULL
);
CREATE TABLE result (
    run INTEGER NOT NULL REFERENCES run, scenario TEXT NOT NULL, name TEXT NOT NULL, status TEXT NOT NULL,
    summary TEXT NOT NULL, evidence TEXT NOT NULL
);
CREATE INDEX result_by_run ON result (run);
CREATE INDEX result_by_name ON result (scenario, name);
CREATE TABLE phase (
    run INTEGER NOT NULL REFERENCES run, name TEXT NOT NULL, seconds REAL NOT NULL, bytes INTEGER NOT NULL
);
CREATE INDEX phase_by_run ON phase (run);
""",
}


def path() -> Path:
    """Return where the history is."""
    return labs.state_home() / "history.sqlite"


@contextmanager
def opened() -> Iterator[sqlite3.Connection]:
    """Open the history, made if it is not there.  Raises InfrastructureError for a damaged or newer file."""
    path().parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path(), timeout=BUSY_SECONDS)
    connection.row_factory = sqlite3.Row
    try:
        with connection:
            _prepare(connection)
            yield connection
    except sqlite3.DatabaseError as error:
        raise InfrastructureError(f"{path()}: {error}", hint="move the file away to begin anew") from error
    finally:
        connection.close()


def _prepare(connection: sqlite3.Connection) -> None:
    """Make the tables, or bring those of an earlier release up to date; one transaction with what follows."""
    newest = max(STEPS)
    connection.execute("BEGIN IMMEDIATE")
    (number,) = connection.execute("PRAGMA user_version").fetchone()
    if number > newest:
        raise InfrastructureError(
            f"{path()}: a newer Spanreel wrote this history: it has schema {number}, and this one knows "
            f"up to {newest}; nothing was changed",
            hint="use the newer one, or move the file away to begin anew",
        )
    if 0 < number < newest:
        _keep_copy(path(), path().with_name(f"{path().name}.schema{number}"))
    for step in range(number + 1, newest + 1):
        for statement in filter(str.strip, STEPS[step].split(";")):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {step}")


def _keep_copy(source: Path, target: Path) -> None:
    """Keep the history as it was, whole and on disk; the caller holds its write lock."""
    unfinished = target.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(unfinished)) as copy:
        old.backup(copy)
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())
    unfinished.replace(target)


def keep(run: Run, night: str = "") -> int:
    """Enter a run that has ended; return its number.  `night` names the night it belongs to."""
    topology = run.provider.topology
    with opened() as history:
        row = (run.started, run.seconds, topology.name, run.provider.lab.name, run.number, commit())
        cursor = history.execute(
            "INSERT INTO run VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*row, run.exit_code, str(run.folder), night),
        )
        number = cursor.lastrowid
        assert number is not None
        history.executemany(
            "INSERT INTO result VALUES (?, ?, ?, ?, ?, ?)",
            [
                (number, each.scenario or MAIN_JOB, each.name, each.status, each.summary, each.evidence)
                for each in run.checks
            ],
        )
        history.executemany(
            "INSERT INTO phase VALUES (?, ?, ?, ?)",
            [(number, each.name, each.seconds, each.bytes) for each in run.phases],
        )
        if not any(each.scenario for each in run.checks):
            history.execute("INSERT INTO phase VALUES (?, ?, ?, 0)", (number, MAIN_JOB, run.seconds))
    return number


def last_seconds(topology: str) -> dict[str, float]:
    """Return how long each scenario and phase took the last time it ran."""
    if not path().exists():
        return {}
    with opened() as history:
        rows = history.execute(
            "SELECT name, phase.seconds AS seconds FROM phase JOIN run ON run.id = phase.run"
            " WHERE topology = ? ORDER BY run.id",
            (topology,),
        )
        return {row["name"]: row["seconds"] for row in rows}


def when(moment: float) -> str:
    """Return a time as people write it, in their zone."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))
