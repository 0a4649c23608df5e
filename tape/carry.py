"""Records between a drive and a socket, many in one call, where the compiled helper (native/) is there.

What Python takes for a record is 1 % of what a fast drive takes, and a third of it in an emulated guest.  The
helper is compiled when the product is installed, if there is a C compiler.  Without it the mover does all,
record by record; ``SPANREEL_QUICK=0`` in the environment has it left alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from ctypes import Structure

    from tape.transport import Running

__all__ = ["CALL_BYTES", "Carried", "Carrier", "CarryHelper", "Move", "Peer", "helper"]

CALL_BYTES = 4 << 20
"""Records of one call, in bytes, if it does not end before, as after half a second.  They are counted after
it: so much is not yet there for a DMA that asks."""

Lane = tuple[int, "Structure", memoryview]
"""Descriptor of an open sg node, the `SgIoHeader` of its next or present command, memory of one record."""

Report = tuple[int, int, int, int, int, int]
"""Records done; bytes of one more that went through the socket, and its lane or -1; the lane of a command
that runs or -1; 1 if that one has ended, otherwise than plainly; errno of the socket or 0."""


Move = Callable[[Lane, Lane, int, int, bytearray, int, int], Report]
"""The two lanes, which of them has a command that runs, the socket, a byte that is not 0 once nothing more is
to be begun, bytes of the record that comes in, and how many records."""


class CarryHelper(Protocol):
    """What the helper does.  A call ends at anything out of the ordinary, and when it would wait long."""

    @property
    def send(self) -> Move:
        """From tape: read records, and send each whole.  One more read is begun than records are sent."""

    @property
    def receive(self) -> Move:
        """To tape: receive records, and write each.  Done are those that the drive has written."""


@dataclass(frozen=True, slots=True)
class Carried:
    """What became of a call of `Carrier`.

    Attributes:
        records: carried, each whole; their commands have ended.
        running: the command at the drive, or one that ended otherwise than plainly; None: there is none.
        odd: bytes of one more record that went through the socket.
        held: the lane of that record.  None, in sending only: there is no record that was read and not sent.
        error: errno of the socket; 0 if nothing is wrong with it.

    """

    records: int
    running: Running | None
    odd: int
    held: int | None
    error: int


@dataclass(frozen=True, slots=True)
class Peer:
    """Where records go to or come from.

    Attributes:
        descriptor: of the socket.
        halt: one byte; as soon as it is not 0, nothing more is begun.

    """

    descriptor: int
    halt: bytearray


class Carrier(Protocol):
    """Carries records between the lanes of a transport and a socket.

    A call returns before `count` at whatever is out of the ordinary, and rather than wait long.  Nothing is
    lost by that.  The command that it is given is finished, or given back as `Carried.running`.
    """

    def send_records(self, running: Running, peer: Peer, count: int) -> Carried:
        """Read records, and send each while the drive reads the next.

        Args:
            running: the READ of the first record, begun in a lane; the other lane is free.
            peer: where they go to.
            count: records to send, 1 at least.  One more is read.

        Raises:
            TapeMisuseError: the command was not begun in a lane.

        """

    def receive_records(self, running: Running, peer: Peer, odd: int, count: int) -> Carried:
        """Receive records, and write each while the next comes in.

        Args:
            running: the WRITE of the record before, begun in a lane.
            peer: where they come from.
            odd: bytes of the next record that are in the other lane already.
            count: records that may be written, that one included, 1 at least.  One more is begun.

        Raises:
            TapeMisuseError: the command was not begun in a lane.

        """


def _load() -> CarryHelper | None:
    try:
        return cast("CarryHelper", import_module("tape._carry"))
    except ImportError:  # not compiled, or for another machine
        return None


_helper = _load()


def helper() -> CarryHelper | None:
    """The helper, None where it is not there or not wanted."""
    return None if os.environ.get("SPANREEL_QUICK") == "0" else _helper
