"""What a backup and a restore over several owners share: waiting, aborting, sessions that must be closed."""

from __future__ import annotations

import contextlib
import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from appliance.ndmp.client import Client
from appliance.ndmp.enums import LogType
from appliance.ndmp.session import Poster
from appliance.peers import ChannelSession, Event, Events, FeedSession, Peers

POLL_S = 1.0
"""How often counters are fetched while a part runs (docs/architecture.md: DATA_GET_STATE)."""


class JobFailedError(Exception):
    """The job cannot go on; the text, with global paths only, is for the DMA's log."""


class JobAbortedError(Exception):
    """The DMA aborted the job, or is gone."""


def new_job_name() -> str:
    """A name that sorts by time and is unique: it stands in every header of the image."""
    return time.strftime("%Y%m%dT%H%M%S", time.gmtime()) + "-" + secrets.token_hex(4)


@dataclass
class JobTotals:
    """What the DMA is told at the end."""

    bytes: int = 0
    files: int = 0
    problems: int = 0
    skipped: int = 0

    @property
    def status(self) -> str:
        """complete, problems (single files), or incomplete (an owner's whole share is missing)."""
        if self.skipped:
            return "incomplete"
        return "problems" if self.problems else "complete"


@dataclass(frozen=True)
class JobContext:
    """What a job is given: peers, the channel and its events, and the way back to the DMA."""

    name: str
    peers: Peers
    channel: ChannelSession
    events: Events
    poster: Poster
    progress: Callable[[int], None]
    ask: Callable[[int, int], None]
    tell: Callable[[LogType, str], None]
    log: Any


class Job:
    """Base of the two jobs: runs in the DATA service's thread, aborted from the control thread."""

    def __init__(self, context: JobContext) -> None:
        self.context = context
        self._aborted = threading.Event()
        self._open: list[Client | FeedSession] = []
        self._lock = threading.Lock()

    def abort(self) -> None:
        """End the job: its sessions are closed, which ends what runs at the other ends."""
        self._aborted.set()
        with self._lock:
            sessions = list(self._open)
        for session in sessions:
            session.close()
        self.context.events.put(Event("abort", None))

    @property
    def is_aborted(self) -> bool:
        """Whether the job was aborted."""
        return self._aborted.is_set()

    def check_abort(self) -> None:
        """Raise JobAbortedError once the job was aborted."""
        if self._aborted.is_set():
            raise JobAbortedError

    @contextlib.contextmanager
    def session(self, session: Client | FeedSession) -> Iterator[None]:
        """Hold a session open for a while; an abort closes it."""
        with self._lock:
            self._open.append(session)
        try:
            self.check_abort()
            yield
        finally:
            with self._lock:
                self._open.remove(session)
            session.close()

    def wait(self, poll: Callable[[], None]) -> Event:
        """The next event; `poll` runs each second until it comes.  Raises JobAbortedError."""
        while True:
            self.check_abort()
            try:
                event = self.context.events.get(timeout=POLL_S)
            except queue.Empty:
                poll()
                continue
            self.check_abort()
            return event
