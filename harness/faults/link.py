"""A node's link to all others, cut or made bad: nothing arrives, nothing leaves, some is lost, all is slow.

In the process lab every connection is a socket of a process that we may reach, so the kernel itself can lose
packets there (`filters`).  That holds for every connection, also for data connections whose ports nobody
knows beforehand, which a relay could not get between.  Clients of the relay before a node see what the
node's clients would.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from harness.faults import borrow
from harness.faults.filters import EVERYTHING, Rule, program

# New connections are looked for this often while a link is bad.
LOOK_SECONDS = 0.1
# Whoever watches its peers waits minutes for them.  Their own clocks are made faster, and only those: a
# connection that is not watched stays so.
HASTE = 30
_WATCHED_IDLE_SECONDS_MAX = 600


@dataclass(frozen=True)
class Bad:
    """What is wrong with a link.

    Attributes:
        arriving, leaving: whether it is wrong for what comes to the node, and for what it sends.
        loss: part of the packets that is lost, from 0 to 1.
        bytes_per_second: nothing goes faster over one connection; None: no limit.

    """

    arriving: bool = True
    leaving: bool = True
    loss: float = 1.0
    bytes_per_second: int | None = None

    @property
    def cut(self) -> bool:
        """Whether nothing gets through, at least one way."""
        return self.loss >= 1


CUT = Bad()
DEAF = Bad(leaving=False)
MUTE = Bad(arriving=False)
LOSSY = Bad(loss=0.03)
SLOW = Bad(loss=0.0, bytes_per_second=8 << 20)


@dataclass(frozen=True)
class Ends:
    """Who is at which end of a node's link.

    Attributes:
        address: the node's.
        inside: processes of the node.
        front: processes that stand before it (a recording relay), and where they listen.
        outside: everybody else's processes.

    """

    address: str
    inside: tuple[int, ...]
    front: tuple[int, ...]
    front_at: tuple[str, int] | None
    outside: tuple[int, ...]


def rules(bad: Bad, ends: Ends) -> Mapping[int, Sequence[Rule]]:
    """Return for each process what its sockets lose."""
    from_node = Rule(ends.address)
    leaving = [from_node]
    if ends.front_at is not None:
        leaving.append(Rule(*ends.front_at))
    found: dict[int, list[Rule]] = {}
    if bad.arriving:
        for pid in ends.inside:
            found[pid] = [EVERYTHING]
        for pid in ends.front:
            found[pid] = [Rule(ends.address, others=True)]
    if bad.leaving:
        for pid in ends.front:
            found.setdefault(pid, []).append(from_node)
        for pid in ends.outside:
            found[pid] = list(leaving)
    return found


class Link:
    """One node's link; `ends` is asked again and again, since processes come and go."""

    def __init__(self, ends: Iterator[Ends]) -> None:
        self._ends = ends

    @contextmanager
    def made(self, bad: Bad) -> Iterator[None]:
        """Have the link bad while the block runs.  Raises NotPossibleError."""
        stop = threading.Event()
        self._apply(bad)
        keeper = threading.Thread(target=self._keep, args=(bad, stop), name="bad link", daemon=True)
        keeper.start()
        try:
            yield
        finally:
            stop.set()
            keeper.join()
            self._mend()

    def _keep(self, bad: Bad, stop: threading.Event) -> None:
        while not stop.wait(LOOK_SECONDS):
            self._apply(bad)

    def _apply(self, bad: Bad) -> None:
        ends = next(self._ends)
        for pid, lost in rules(bad, ends).items():
            code = program(lost, bad.loss) if bad.loss > 0 else None
            for found in borrow.tcp_sockets(pid):
                if code is not None:
                    borrow.attach(found, code)
                if bad.cut:
                    hasten(found)
        if bad.bytes_per_second is not None:
            for found in _sockets((*ends.inside, *ends.outside)):
                if ends.address in _addresses(found):
                    borrow.pace(found, bad.bytes_per_second)

    def _mend(self) -> None:
        ends = next(self._ends)
        for found in _sockets((*ends.inside, *ends.front, *ends.outside)):
            borrow.detach(found)
            borrow.pace(found, None)


def hasten(found: socket.socket) -> None:
    """Make the watch that a process keeps over its peer faster; where there is none, none is made."""
    idle = found.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
    watched = found.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    if watched and HASTE < idle <= _WATCHED_IDLE_SECONDS_MAX:
        for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL):
            before = found.getsockopt(socket.IPPROTO_TCP, option)
            found.setsockopt(socket.IPPROTO_TCP, option, max(1, before // HASTE))
    limit = found.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    if limit > HASTE * 1000:
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, limit // HASTE)


def _sockets(pids: Iterable[int]) -> Iterator[socket.socket]:
    for pid in pids:
        yield from borrow.tcp_sockets(pid)


def _addresses(found: socket.socket) -> set[str]:
    """Both addresses of a connection."""
    try:
        return {found.getsockname()[0], found.getpeername()[0]}
    except OSError:  # a listener, or a connection that is over
        return {found.getsockname()[0]}
