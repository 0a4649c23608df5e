"""Jobs in the catalogue."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from appliance.backupserver import process
from appliance.backupserver.catalogue import Catalogue
from appliance.errors import ConfigurationError, ExitCode
from appliance.text import path_json, show_path

LATEST = "latest"
"""The word for the newest job that can be restored."""

PROBLEM_LINES_MAX = 10_000
"""Lines kept of one job; all are counted.  More would be one broken disk said ten thousand times."""


class Status(StrEnum):
    """How a job stands."""

    RUNNING = "running"
    COMPLETE = "complete"
    PROBLEMS = "problems"
    INCOMPLETE = "incomplete"
    FAILED = "failed"
    ABORTED = "aborted"

    @property
    def exit_code(self) -> ExitCode:
        """What a command that ran such a job ends with."""
        return _EXIT_CODES[self]


_EXIT_CODES = {
    Status.RUNNING: ExitCode.FAILED,
    Status.COMPLETE: ExitCode.COMPLETE,
    Status.PROBLEMS: ExitCode.PROBLEMS,
    Status.INCOMPLETE: ExitCode.PROBLEMS,
    Status.FAILED: ExitCode.FAILED,
    Status.ABORTED: ExitCode.FAILED,
}

RESTORABLE = (Status.COMPLETE, Status.PROBLEMS, Status.INCOMPLETE)
"""What `latest` may mean: a failed job must be asked for by its id."""


@dataclass(frozen=True)
class Job:
    """One row of the catalogue; the cartridges of its images, and the jobs that they are based on."""

    id: int
    status: Status
    paths: tuple[bytes, ...]
    entry: str
    level: int
    started: float
    ended: float | None
    files: int
    bytes: int
    problems: int
    reason: str
    media: tuple[tuple[str, int], ...] = field(default=())
    based_on: tuple[int, ...] = field(default=())

    def document(self) -> dict[str, Any]:
        """The job for `--json`."""
        return {
            "id": str(self.id),
            "status": self.status.value,
            "paths": [show_path(path) for path in self.paths],
            "paths_base64": [path_json(path)["path_base64"] for path in self.paths],
            "entry": self.entry,
            "level": self.level,
            "based_on": [str(job) for job in self.based_on],
            "started": _iso(self.started),
            "ended": None if self.ended is None else _iso(self.ended),
            "files": self.files,
            "bytes": self.bytes,
            "problems": self.problems,
            "reason": self.reason,
            "media": [{"barcode": barcode, "file": file} for barcode, file in self.media],
        }


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds")


def create(catalogue: Catalogue, paths: Sequence[bytes], entry: str, level: int) -> int:
    """Enter a job that begins now, run by this process; return its id."""
    with catalogue.transaction() as connection:
        cursor = connection.execute(
            "INSERT INTO job (status, paths, entry, level, started, process)"
            " VALUES ('running', ?, ?, ?, ?, ?)",
            (b"".join(path + b"\0" for path in paths), entry, level, time.time(), process.identity()),
        )
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def count(catalogue: Catalogue, job: int, files: int, size: int, problems: int) -> None:
    """Store how far a job is."""
    with catalogue.transaction() as connection:
        connection.execute(
            "UPDATE job SET files = ?, bytes = ?, problems = ? WHERE id = ?", (files, size, problems, job)
        )


def finish(catalogue: Catalogue, job: int, status: Status, reason: str = "") -> None:
    """Store how a job ended."""
    with catalogue.transaction() as connection:
        connection.execute(
            "UPDATE job SET status = ?, reason = ?, ended = ? WHERE id = ?",
            (status.value, reason, time.time(), job),
        )


def add_problems(catalogue: Catalogue, job: int, lines: Sequence[tuple[str, bytes]]) -> None:
    """Store log lines, each (severity, text): error, warning or note."""
    with catalogue.transaction() as connection:
        (kept,) = connection.execute("SELECT count(*) FROM problem WHERE job = ?", (job,)).fetchone()
        connection.executemany(
            "INSERT INTO problem (job, moment, severity, line) VALUES (?, ?, ?, ?)",
            [
                (job, time.time(), severity, line)
                for severity, line in lines[: max(0, PROBLEM_LINES_MAX - kept)]
            ],
        )


def problems(catalogue: Catalogue, job: int) -> list[tuple[str, bytes]]:
    """The stored log lines of a job, in order."""
    rows = catalogue.connection.execute(
        "SELECT severity, line FROM problem WHERE job = ? ORDER BY id", (job,)
    )
    return [(row["severity"], row["line"]) for row in rows]


def list_all(catalogue: Catalogue) -> Iterator[Job]:
    """Every job, oldest first."""
    for row in catalogue.connection.execute("SELECT * FROM job ORDER BY id").fetchall():
        yield _job(catalogue, row)


def get(catalogue: Catalogue, job: int) -> Job:
    """The job with this id.  Raises KeyError."""
    row = catalogue.connection.execute("SELECT * FROM job WHERE id = ?", (job,)).fetchone()
    if row is None:
        raise KeyError(job)
    return _job(catalogue, row)


def find(catalogue: Catalogue, word: str) -> Job:
    """The job that people call `word`: its id, or `latest`.  Raises ConfigurationError."""
    if word == LATEST:
        return _latest(catalogue)
    if word.isascii() and word.isdecimal():
        try:
            return get(catalogue, int(word))
        except (KeyError, OverflowError):
            pass
    raise ConfigurationError(f"there is no job {word!r}: `spanreel jobs` lists them")


def _latest(catalogue: Catalogue) -> Job:
    marks = ", ".join("?" * len(RESTORABLE))
    row = catalogue.connection.execute(
        f"SELECT * FROM job WHERE status IN ({marks}) ORDER BY id DESC LIMIT 1",  # noqa: S608  (only marks)
        [status.value for status in RESTORABLE],
    ).fetchone()
    if row is None:
        raise ConfigurationError("there is no finished backup yet: `spanreel backup /` makes one")
    return _job(catalogue, row)


def _job(catalogue: Catalogue, row: sqlite3.Row) -> Job:
    media = catalogue.connection.execute(
        "SELECT barcode, file FROM segment JOIN image ON image.id = segment.image WHERE job = ?"
        " ORDER BY image.number, segment.number",
        (row["id"],),
    )
    based_on = catalogue.connection.execute(
        "SELECT DISTINCT base.job FROM image JOIN image AS base ON base.uuid = image.base"
        " WHERE image.job = ? ORDER BY base.job",
        (row["id"],),
    )
    return Job(
        id=row["id"],
        status=Status(row["status"]),
        paths=tuple(row["paths"].split(b"\0")[:-1]),
        entry=row["entry"],
        level=row["level"],
        started=row["started"],
        ended=row["ended"],
        files=row["files"],
        bytes=row["bytes"],
        problems=row["problems"],
        reason=row["reason"],
        media=tuple((barcode, file) for barcode, file in media),
        based_on=tuple(job for (job,) in based_on),
    )
