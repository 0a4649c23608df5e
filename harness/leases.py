"""Leases of tape libraries: two runs never use one library at once, from two harness hosts neither.

The lease is a file on the media server's host (`guest/lease.py`), so that harnesses that know nothing of
each other agree.  It is renewed while the run lives and runs out by itself when the harness dies.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import os
import socket
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from harness import guest
from harness.errors import HarnessError, InfrastructureError, LabBusyError
from harness.lab import LabState
from harness.providers.base import Provider
from harness.topology import Library

# A media server may be away as long as this (a scenario reboots it) and the lease still be ours.
LEASE_SECONDS = 900.0
RENEW_SECONDS = 60.0
# A media server that is cut off must not keep us from asking again.
ANSWER_SECONDS = 30.0
# How often who waits asks again; well below the minute after which his place is lost.
ASK_SECONDS = 5.0


@dataclass(frozen=True)
class Answer:
    """What the media server's host said."""

    granted: bool
    position: int
    lease: dict[str, Any] | None

    def __str__(self) -> str:
        return describe(self.lease) if self.lease else "nobody holds it, but others wait"


def owner_of(lab: LabState) -> str:
    """Return what tells this lab from all others, on whichever host: no secret, unlike the token."""
    return hashlib.sha256(lab.token.encode()).hexdigest()[:16]


def holder_of(lab: LabState) -> str:
    """Return whom to ask: user, host, lab."""
    return f"{getpass.getuser()}@{socket.gethostname()}, lab {lab.name}, process {os.getpid()}"


def describe(lease: dict[str, Any]) -> str:
    """Say who holds a lease, since when, what for, until when."""
    since = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(lease["since"]))
    left = max(0, int(lease["seconds_left"]))
    ends = f"runs out in {left // 60} min {left % 60} s unless it is renewed"
    return f"held by {lease['holder']} since {since} ({lease['reason']}); {ends}"


def ask(provider: Provider, library: Library, action: str, **words: Any) -> Answer:
    """Take, renew or release one lease."""
    node = provider.topology.node(library.node)
    argument = {"folder": provider.lease_folder(node), "action": action, "library": library.changer}
    argument |= {"owner": owner_of(provider.lab), "holder": holder_of(provider.lab), **words}
    said = guest.call(provider, node, "lease", argument, timeout=ANSWER_SECONDS)
    return Answer(said["granted"] or said.get("released", False), said["position"], said["lease"])


def listed(provider: Provider) -> list[tuple[str, dict[str, Any]]]:
    """Return (node, record) of every library of which the media servers' hosts keep something."""
    found = []
    for name in sorted({library.node for library in provider.topology.libraries}):
        node = provider.topology.node(name)
        records = guest.call(
            provider, node, "lease", {"folder": provider.lease_folder(node), "action": "list"}
        )
        found += [(name, record) for record in records]
    return found


class Leases:
    """The leases of one run: taken once, in one order by everybody, renewed in the background."""

    def __init__(self, provider: Provider, *, wait: bool = True, reason: str = "") -> None:
        self._provider = provider
        self._wait = wait
        self._reason = reason or " ".join(["spanreel", *sys.argv[1:]])[:200]
        self._held: list[Library] = []
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self.lost: list[str] = []

    def pause(self, seconds: float) -> bool:
        """Wait; returns True when there is nothing more to wait for."""
        return self._ended.wait(seconds)

    def take(self) -> None:
        """Take the leases of all libraries of the lab, waiting for the turn; twice is fine.

        Raises LabBusyError, which names the holder, when not waiting is wanted.
        """
        for library in _in_order(self._provider.topology.libraries):
            if library not in self._held:
                self._take(library)
                self._held.append(library)
                # From the first one on: waiting for the next may take longer than a lease lasts.
                self._keep_renewing()

    def _keep_renewing(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._renew, name="renew leases", daemon=True)
            self._thread.start()

    def take_by_hand(self, seconds: float) -> None:
        """Take them for a person, who is not here to renew them, for a time."""
        for library in _in_order(self._provider.topology.libraries):
            self._take(library, seconds=seconds, manual=True)

    def release(self) -> None:
        """Give everything back; a media server that is gone took its lease with it, or lets it run out."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        # A lab that comes up again takes them anew.
        self._thread, self._ended = None, threading.Event()
        for library in self._held:
            try:
                ask(self._provider, library, "release")
            except HarnessError as error:
                self._provider.events.step(
                    library.node, f"release {library.changer}", "skipped", f"runs out by itself: {error}"
                )
        self._held.clear()

    def verify(self) -> None:
        """Raise if another run may have used a library meanwhile."""
        if self.lost:
            raise InfrastructureError(
                f"lost the lease during the run: {'; '.join(self.lost)}",
                hint="another run may have written to the library: repeat this one",
            )

    def _take(self, library: Library, seconds: float = LEASE_SECONDS, *, manual: bool = False) -> None:
        step, waited = f"lease of {library.changer}", False
        with self._provider.events.stepping(library.node, step) as progress:
            while True:
                answer = self._ask(library, queue=self._wait, seconds=seconds, manual=manual)
                if answer.granted:
                    progress("our turn" if waited else "")
                    return
                if not self._wait:
                    raise LabBusyError(
                        f"library {library.changer} is {answer}",
                        hint=f"wait for it (leave out --no-wait; position {answer.position} in the queue), "
                        "or see `spanreel lab lease list`",
                    )
                said = f"waits, position {answer.position}: {answer}"
                if waited:
                    progress(said)
                else:
                    # Shown at once also where progress is shown now and then only.
                    self._provider.events.step(library.node, step, "start", said)
                waited = True
                self._sleep(library)

    def _sleep(self, library: Library) -> None:
        """Wait a little; who goes away meanwhile (Ctrl-C) leaves the queue."""
        try:
            over = self.pause(ASK_SECONDS)
        except BaseException:
            with contextlib.suppress(HarnessError):
                ask(self._provider, library, "release")
            raise
        if over:
            raise LabBusyError(f"no longer waiting for library {library.changer}")

    def _ask(
        self, library: Library, *, queue: bool, seconds: float = LEASE_SECONDS, manual: bool = False
    ) -> Answer:
        words = {"reason": self._reason, "seconds": seconds, "queue": queue, "manual": manual}
        return ask(self._provider, library, "take", **words)

    def _renew(self) -> None:
        while not self.pause(RENEW_SECONDS):
            self.renew()

    def renew(self) -> None:
        """Renew once; a media server that does not answer is asked again the next time."""
        for library in list(self._held):
            try:
                answer = self._ask(library, queue=False)
            except HarnessError:
                continue  # a scenario may have cut it off
            if not answer.granted and not any(said.startswith(library.changer) for said in self.lost):
                self.lost.append(f"{library.changer}: {answer}")


def _in_order(libraries: Iterable[Library]) -> list[Library]:
    """The order in which everybody takes them, so that no two wait for each other."""
    return sorted(libraries, key=lambda library: library.changer)
