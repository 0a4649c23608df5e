"""What a backup counts: files, bytes and problems, from posts, environment and the mover."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from appliance.backupserver import jobs
from appliance.backupserver.events import Events
from appliance.backupserver.history import HistoryWriter
from appliance.backupserver.jobs import Status
from appliance.backupserver.peers import Context
from appliance.text import show_path

STATUS: Final = b"SPANREEL_STATUS"
FILES: Final = b"SPANREEL_FILES"
BYTES: Final = b"SPANREEL_BYTES"
PROBLEMS: Final = b"SPANREEL_PROBLEMS"

VENDOR_TOTALS: Final = frozenset({STATUS, FILES, BYTES, PROBLEMS})
"""What our own entry server adds to the environment after the halt.  A foreign one does not: then what
was seen counts."""

_RANK = {Status.COMPLETE: 0, Status.PROBLEMS: 1, Status.INCOMPLETE: 2}


def number(environment: Mapping[bytes, bytes], name: bytes) -> int | None:
    """A number in the environment; None when it is missing or no number."""
    value = environment.get(name, b"")
    return int(value) if value.isdigit() else None


class Totals:
    """The counts of one job over its images; log lines are stored and shown on the way."""

    def __init__(self, context: Context, events: Events, job: int) -> None:
        self.status = Status.COMPLETE
        self.last_words = ""
        self._context = context
        self._events = events
        self._job = job
        self._files = 0
        self._bytes = 0
        self._problems = 0
        self._image_problems = 0
        self._image_bytes = 0
        self._history: HistoryWriter | None = None

    def begin(self, history: HistoryWriter) -> None:
        """An image begins."""
        self._history = history
        self._image_problems = 0
        self._image_bytes = 0

    def end(self, moved: int, environment: Mapping[bytes, bytes]) -> None:
        """An image ended well, with what its server says about it."""
        assert self._history is not None, "an image began"
        counted = number(environment, FILES)
        self._files += self._history.rows if counted is None else counted
        self._bytes += moved
        problems = max(self._image_problems, number(environment, PROBLEMS) or 0)
        self._problems += problems
        self._history = None
        self._image_problems = self._image_bytes = 0
        self._worsen(_status(environment, problems))

    def show(self, root: bytes, moved: int, barcode: str) -> None:
        """Take the log lines and show progress."""
        self.take_lines()
        self._image_bytes = moved
        files = self._files + (self._history.rows if self._history else 0)
        detail = f"{files} files, to {barcode}" if barcode else f"{files} files, changing cartridges"
        problems = self._problems + self._image_problems
        detail += f", {problems} problems" if problems else ""
        self._context.screen.progress(f"backup of {show_path(root)}", self._bytes + moved, detail)

    def take_lines(self, *, show: bool = True) -> None:
        """Store, show and count the servers' log lines.

        Those that come with a refusal are not shown: the error that it becomes says the same.
        """
        lines, uncounted = self._events.take_lines()
        self._image_problems += uncounted + sum(line.is_problem for line in lines)
        if lines:
            jobs.add_problems(
                self._context.catalogue, self._job, [(line.severity, line.text) for line in lines]
            )
        for line in lines:
            if show:
                self._context.screen.line(line)
            if line.severity == "error":
                self.last_words = show_path(line.text)

    def in_brackets(self) -> str:
        """The servers' last words, to stand behind another text."""
        return f" ({self.last_words})" if self.last_words else ""

    def store(self) -> None:
        """Enter the present counts in the catalogue."""
        jobs.count(
            self._context.catalogue,
            self._job,
            self._files + (self._history.rows if self._history else 0),
            self._bytes + self._image_bytes,
            self._problems + self._image_problems,
        )

    def _worsen(self, status: Status) -> None:
        self.status = max(self.status, status, key=_RANK.__getitem__)


def _status(environment: Mapping[bytes, bytes], problems: int) -> Status:
    told = {status.value.encode(): status for status in _RANK}.get(environment.get(STATUS, b""))
    seen = Status.PROBLEMS if problems else Status.COMPLETE
    return max(told or seen, seen, key=_RANK.__getitem__)
