"""The entry server and snapshots: all owners of a job make theirs at one moment, before anything is read.

First everybody is asked to make ready, which may take long.  When all have answered, all are told to go on
at once; what is between that word and the last answer is the moment.  No two clocks are compared.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from appliance.agreement import BEFORE_NEGOTIATION
from appliance.gns.map import Part
from appliance.ndmp import extension as x
from appliance.ndmp.client import Client
from appliance.ndmp.errors import NdmpError
from appliance.ndmp.logcontext import carrying
from appliance.peers import Peers
from appliance.text import show_path

CONNECT_S = 10.0
"""How long an owner is waited for; one that is away saves nothing either."""

PREPARE_S = 300.0
"""How long an owner may flush what its clients wrote."""

TAKE_S = 120.0
"""How long snapshots may take; LVM's tools wait for each other."""

NAMED_MAX = 20
"""Paths that one line of a log names."""


@dataclass
class Snapshots:
    """What came of it, by the global paths of parts.

    `taken` have one; `refused` are read as they are, and why ("" where that is no news); `forbidden` are not
    read at all.  `spread_ms`: all were made within so many milliseconds.  `agreed`: the version of what nodes
    say to each other that all owners speak.
    """

    taken: frozenset[bytes] = frozenset()
    refused: dict[bytes, str] = field(default_factory=dict)
    forbidden: dict[bytes, str] = field(default_factory=dict)
    spread_ms: int = 0
    agreed: int = x.CLASS_VERSION

    def lines(self, saved: Mapping[bytes, bool]) -> list[str]:
        """What people may want to know of the parts that were saved, each from a snapshot or not."""
        said = []
        frozen = sorted(path for path, is_frozen in saved.items() if is_frozen)
        if frozen:
            within = "a snapshot" if len(frozen) == 1 else f"snapshots made within {self.spread_ms} ms"
            said.append(f"read from {within}: {_named(frozen)}")
        by_reason: dict[str, list[bytes]] = {}
        for path, why in sorted(self.refused.items()):
            if why and saved.get(path) is False:
                by_reason.setdefault(why, []).append(path)
        said += [f"read without a snapshot: {_named(paths)}: {why}" for why, paths in by_reason.items()]
        return said


class _Owner:
    """One owner, its session, and what it has answered."""

    def __init__(self, name: str, paths: Sequence[bytes]) -> None:
        self.name = name
        self.paths = paths
        self.client: Client | None = None
        self.refused: dict[bytes, str] = {}
        self.is_required = False
        # Of one that is away nobody knows; it may be back when its part is due.
        self.agreed = BEFORE_NEGOTIATION[0]

    def prepare(self, peers: Peers, job: str, generation: int, hold: Callable[[Client], None]) -> None:
        try:
            client = peers.open(self.name, patience=CONNECT_S)
            hold(client)
            self.agreed = client.agreed
            request = x.SnapshotPrepareRequest(job.encode(), generation, tuple(self.paths))
            reply = client.call(request, x.SnapshotPrepareReply, PREPARE_S)
        except NdmpError as error:
            self._refuse_all(error)
            return
        self.is_required = bool(reply.required)
        self._take_in(reply.refusals)
        if len(self.refused) < len(self.paths):
            self.client = client

    def take(self) -> None:
        if self.client is None:
            return
        try:
            self._take_in(self.client.call(x.SnapshotTakeRequest(), x.SnapshotTakeReply, TAKE_S).refusals)
        except NdmpError as error:
            self._refuse_all(error)

    def _take_in(self, refusals: Iterable[x.SnapshotRefusal]) -> None:
        self.refused |= {each.path: each.why.decode("utf-8", "replace") for each in refusals}

    def _refuse_all(self, error: NdmpError) -> None:
        self.refused |= {path: str(error) for path in self.paths if path not in self.refused}


def take_snapshots(
    peers: Peers,
    job: str,
    generation: int,
    parts: Sequence[Part],
    hold: Callable[[Client], None],
    check: Callable[[], None],
    log: Any,
) -> Snapshots:
    """Have the owners of `parts` make snapshots.

    `hold` is given each session, at once: snapshots last as long as these.  It raises if the job is over, and
    so does `check`.
    """
    paths: dict[str, list[bytes]] = {}
    for part in parts:
        paths.setdefault(part.junction.owner, []).append(part.path)
    owners = [_Owner(name, theirs) for name, theirs in paths.items()]
    if not owners:
        return Snapshots()
    holding = threading.Lock()

    def hold_one(client: Client) -> None:
        with holding:
            hold(client)

    with ThreadPoolExecutor(len(owners)) as pool:
        _all(pool, owners, lambda owner: owner.prepare(peers, job, generation, hold_one))
        check()
        began = time.monotonic()
        _all(pool, owners, _Owner.take)
        spread_ms = math.ceil((time.monotonic() - began) * 1000)
    found = Snapshots(spread_ms=spread_ms, agreed=min(owner.agreed for owner in owners))
    for owner in owners:
        (found.forbidden if owner.is_required else found.refused).update(owner.refused)
    found.taken = frozenset(p.path for p in parts if p.path not in {**found.refused, **found.forbidden})
    log.info("snapshots", parts=len(found.taken), without=len(parts) - len(found.taken), within_ms=spread_ms)
    return found


def _all(pool: ThreadPoolExecutor, owners: Sequence[_Owner], work: Callable[[_Owner], None]) -> None:
    """Do something with all owners at once.  Raises what the first raises, when all are done."""
    runs = [pool.submit(carrying(work), owner) for owner in owners]
    for run in runs:
        run.exception()
    for run in runs:
        run.result()


def _named(paths: Sequence[bytes]) -> str:
    """Paths, for a line; a job may have thousands of parts."""
    shown = ", ".join(show_path(path) for path in paths[:NAMED_MAX])
    more = len(paths) - NAMED_MAX
    return f"{shown} and {more} more" if more > 0 else shown
