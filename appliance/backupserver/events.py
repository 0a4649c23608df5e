"""What the two servers say without being asked, for the one thread that runs a job.

The callbacks run in the threads that read the control connections and never wait for the job's thread,
which may itself be waiting for a reply on one of those connections.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from appliance.ndmp import messages as m
from appliance.ndmp.endpoint import Received
from appliance.ndmp.enums import LogType, RecoveryStatus
from appliance.ndmp.errors import NdmpError

LINES_MAX: Final = 10_000
"""Log lines that wait for the job's thread, which may be busy with a tape change; more are only counted."""

Event = m.NotifyDataHaltedPost | m.NotifyMoverHaltedPost | m.NotifyMoverPausedPost | m.NotifyDataReadPost

_HISTORY = frozenset({0x703, 0x704, 0x705})
_SEVERITIES = {LogType.ERROR: "error", LogType.WARNING: "warning"}


@dataclass(frozen=True)
class Line:
    """A log line: its severity is error, warning or note."""

    severity: str
    text: bytes

    @property
    def is_problem(self) -> bool:
        """Whether the line makes the job one with problems."""
        return self.severity != "note"


class Events:
    """A queue of what moves the job on; log lines and results of names beside it."""

    def __init__(self) -> None:
        self.history: Callable[[Received], None] | None = None
        self._expected: frozenset[bytes] = frozenset()
        self.results: dict[bytes, RecoveryStatus] = {}
        self._queue: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._lines: deque[Line] = deque()
        self._uncounted = 0
        self._lock = threading.Lock()

    def expect(self, names: Collection[bytes]) -> None:
        """A restore of these names begins: results of others are ignored."""
        with self._lock:
            self._expected = frozenset(names)
            self.results = {}

    def on_post(self, post: Received) -> None:
        """Take a post from either server."""
        if post.code in _HISTORY:
            if self.history is not None:
                self.history(post)
            return
        try:
            body = post.body()
        except NdmpError as error:
            self.add_line("error", f"a message that cannot be read: {post.name}: {error}".encode())
            return
        if isinstance(body, Event):
            self._queue.put(body)
        elif isinstance(body, m.LogMessagePost):
            self.add_line(_SEVERITIES.get(body.log_type, "note"), body.entry)
        elif isinstance(body, m.LogFilePost):
            self._add_result(body)

    def add_line(self, severity: str, text: bytes) -> None:
        """Enter a log line."""
        line = Line(severity, text.rstrip(b"\n\0"))
        with self._lock:
            if len(self._lines) < LINES_MAX:
                self._lines.append(line)
            elif line.is_problem:
                self._uncounted += 1

    def next(self, timeout: float) -> Event | None:
        """The next event; None when there was none for `timeout` seconds."""
        try:
            return self._queue.get(timeout=timeout)
        except queue.Empty:
            return None

    def take_lines(self) -> tuple[list[Line], int]:
        """The log lines since the last call, and how many problems were too many to keep."""
        with self._lock:
            lines, self._lines = list(self._lines), deque()
            uncounted, self._uncounted = self._uncounted, 0
        return lines, uncounted

    def _add_result(self, post: m.LogFilePost) -> None:
        # The worst counts: a server that reports a directory twice must not hide a failure.
        with self._lock:
            if post.name not in self._expected:
                return
            if self.results.get(post.name, RecoveryStatus.SUCCESSFUL) is RecoveryStatus.SUCCESSFUL:
                self.results[post.name] = post.recovery_status
