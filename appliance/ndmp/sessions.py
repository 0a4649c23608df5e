"""The sessions of one process: who is there, since when, in which state, and how to end one.

Nothing here is on a data path: services count for themselves, and are asked when somebody wants to know.
"""

from __future__ import annotations

import itertools
import secrets
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Protocol

from appliance.ndmp import dataconn
from appliance.ndmp import messages as m
from appliance.ndmp.enums import ConnectionReason
from appliance.ndmp.session import VERSION, Session

FAREWELL_S = 2.0
"""How long the last words may take altogether: a peer that does not read is not waited for."""

Status = dict[str, dict[str, object]]
"""What services say of themselves: service → its state and counters."""

Figures = Iterable[tuple[str, str, float]]
"""What a part of the process counts by itself: (name of the counter, what it is of, value)."""

SUMS = ("moved", "waited")
"""Counters of a service that outlive its session: bytes moved, seconds waited."""


class Reporting(Protocol):
    """A service that has something to tell to whoever lists sessions."""

    def status(self) -> Status:
        """State and counters, at once and without waiting, from any thread."""


class LiveSession:
    """A session that is there now.

    Attributes:
        id: unique over all processes and restarts, for practical purposes; on every log line.
        port: which of the node's ports it came to, `ndmp` or `cluster`.
        gone: set once everything that it held was given back.

    """

    def __init__(self, number: str, port: str, session: Session, stream: socket.socket) -> None:
        self.id = number
        self.port = port
        self.session = session
        self.since = time.time()
        self.gone = threading.Event()
        self._stream = stream

    def describe(self) -> dict[str, object]:
        """The session as a JSON object; `services` is what its services say."""
        session = self.session
        return {
            "id": self.id,
            "port": self.port,
            "peer": session.peer,
            "user": session.user,
            "node": session.node,
            "version": session.version,
            "since": self.since,
            "state": session.machine.state.name.lower(),
            "services": session.status(),
        }

    def say_goodbye(self, text: str) -> None:
        """Post CONNECTION_STATUS(SHUTDOWN) (draft-skardal-ndmpv4-04, 4.1.2).  May block."""
        self.session.post(m.NotifyConnectionStatusPost(ConnectionReason.SHUTDOWN, VERSION, text.encode()))

    def cut(self) -> None:
        """End the connection as a lost peer would: the session's thread gives everything back."""
        dataconn.shut(self._stream)


class Sessions:
    """All sessions of this process, and what those before them added up to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._live: dict[str, LiveSession] = {}
        self._prefix = secrets.token_hex(2)
        self._numbers = itertools.count(1)
        self._ended: Counter[tuple[str, str]] = Counter()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._sources: list[Callable[[], Figures]] = []

    def new_id(self) -> str:
        """An id for a session that begins."""
        return f"{self._prefix}-{next(self._numbers)}"

    def add(self, live: LiveSession) -> None:
        """A session began."""
        with self._lock:
            self._live[live.id] = live

    def remove(self, live: LiveSession) -> None:
        """It ended, and has given everything back; what it counted stays."""
        sums = _sums(live.session.status())
        with self._lock:
            if self._live.pop(live.id, None) is not None:
                self._ended.update(sums)
        live.gone.set()

    def all(self) -> list[LiveSession]:
        """Those that are there now, the oldest first."""
        with self._lock:
            return list(self._live.values())

    def find(self, number: str) -> LiveSession | None:
        """The session with this id."""
        with self._lock:
            return self._live.get(number)

    def count(self, name: str, of: str = "") -> None:
        """Count something that happened: a refusal, a job's outcome."""
        with self._lock:
            self._counts[name, of] += 1

    def add_source(self, source: Callable[[], Figures]) -> None:
        """Have `source` asked for what it counts, whenever somebody wants to know."""
        self._sources.append(source)

    def sums(self) -> dict[tuple[str, str], float]:
        """(service, counter of `SUMS`) → total over all sessions, those that ended included."""
        with self._lock:
            total = Counter(self._ended)
            live = list(self._live.values())
        for each in live:
            total.update(_sums(each.session.status()))
        return dict(total)

    def counts(self) -> dict[tuple[str, str], float]:
        """(name, of what) → how often, or what the sources say."""
        with self._lock:
            found: dict[tuple[str, str], float] = dict(self._counts)
        for source in list(self._sources):
            for name, of, value in source():
                found[name, of] = found.get((name, of), 0) + value
        return found


def say_goodbye(sessions: Iterable[LiveSession], text: str) -> None:
    """Tell all of them that they end now, at once; a peer that does not read costs `FAREWELL_S`, once."""
    speakers = [
        threading.Thread(target=each.say_goodbye, args=(text,), name=f"goodbye-{each.id}", daemon=True)
        for each in sessions
    ]
    for speaker in speakers:
        speaker.start()
    deadline = time.monotonic() + FAREWELL_S
    for speaker in speakers:
        speaker.join(max(0.0, deadline - time.monotonic()))


def _sums(status: Status) -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()
    for service, facts in status.items():
        for name in SUMS:
            value = facts.get(name)
            if isinstance(value, int | float):
                found[service, name] += value  # type: ignore[assignment]
    return found
