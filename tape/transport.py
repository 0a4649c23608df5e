"""The port through which everything in this package speaks to a device.

A transport delivers one CDB and brings back status, data and sense.  It does not judge: CHECK
CONDITION is a result like GOOD.  Real and fake devices implement the same class, and the backup
server sends CDBs through one that wraps them into NDMP messages.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import IntEnum
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from tape.carry import Carrier

__all__ = ["DEFAULT_TIMEOUT_S", "LANES", "Completion", "DataOut", "Running", "ScsiStatus", "Transport"]

# Long enough for a drive that first repositions the tape, short enough to notice a dead one.
# Commands that may take minutes bring a limit of their own (see `tape.drive`, `tape.changer`).
DEFAULT_TIMEOUT_S = 120.0

# Buffers of a transport: one is filled or emptied while the command of the other runs.
LANES = 2

DataOut = bytes | bytearray | memoryview


class ScsiStatus(IntEnum):
    """Status byte of a finished command (SAM-5, 5.3.1)."""

    GOOD = 0x00
    CHECK_CONDITION = 0x02
    BUSY = 0x08
    RESERVATION_CONFLICT = 0x18
    TASK_SET_FULL = 0x28
    TASK_ABORTED = 0x40


@dataclass(frozen=True, slots=True)
class Completion:
    """How a command ended.

    Attributes:
        status: status byte, see `ScsiStatus`.
        data: what the device sent.  Only valid with GOOD, or where the sense data says how much is:
            after CHECK CONDITION some hosts hand over stale bytes.
        sense: raw sense bytes, empty if there are none.
        residual: bytes asked for and not transferred.  Behind QEMU's iSCSI it is always 0.

    """

    status: int
    data: bytes = b""
    sense: bytes = b""
    residual: int = 0


class Running:
    """A command that was begun, and whose end is yet to be taken note of.  This one has ended already.

    Attributes:
        cdb: the command.
        length: bytes it was to move.
        descriptor: readable (poll) as soon as it has ended; None: it has.

    """

    descriptor: int | None = None

    def __init__(self, cdb: bytes, length: int, done: Completion | None = None) -> None:
        self.cdb = cdb
        self.length = length
        self._done = done

    def finish(self) -> Completion:
        """Wait for its end, and return it; to be called exactly once.

        Raises:
            TransportError: it was not delivered.
            CommandTimeoutError: no answer in time.

        """
        assert self._done is not None
        return self._done


class Transport(ABC):
    """One path to one device.  Commands are sent one at a time, by one thread at a time.

    Attributes:
        name: what an operator would call the device, e.g. "/dev/sg3"; used in every error.

    """

    name: str

    # Whether a command that was begun runs by itself, so that it pays to do something else meanwhile.
    overlaps = False

    # What carries many records in one call, if there is such a thing.
    carrier: Carrier | None = None

    @abstractmethod
    def execute(
        self,
        cdb: bytes,
        *,
        data_out: DataOut = b"",
        data_in_length: int = 0,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> Completion:
        """Deliver one command and wait for its end.

        Args:
            cdb: 6 to 16 bytes.
            data_out: bytes for the device; excludes `data_in_length`.
            data_in_length: the most bytes to receive.
            timeout_s: seconds after which the command is given up.

        Raises:
            TransportError: it could not be delivered.
            CommandTimeoutError: no answer within `timeout_s`.
            TapeMisuseError: closed transport, or both directions at once.

        """

    def execute_into(
        self, cdb: bytes, buffer: memoryview, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> Completion:
        """As `execute`, receiving up to `len(buffer)` bytes into `buffer`.

        `Completion.data` is empty: the bytes are in `buffer`, `len(buffer) - residual` of them.
        Transports that can avoid the copy override this.
        """
        done = self.execute(cdb, data_in_length=len(buffer), timeout_s=timeout_s)
        count = min(len(done.data), len(buffer))
        buffer[:count] = done.data[:count]
        return Completion(done.status, b"", done.sense, len(buffer) - count)

    def begin(
        self, cdb: bytes, lane: memoryview, *, out: bool, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> Running:
        """Begin one command that sends a lane's bytes (`out`), or receives into them.

        No other command until `finish` of what is returned, and no hand on that lane's bytes: they are the
        device's.  Transports that can have a command run by itself override this; here it runs to its end.

        Raises:
            TransportError, CommandTimeoutError, TapeMisuseError: as `execute`.

        """
        if out:
            done = self.execute(cdb, data_out=lane, timeout_s=timeout_s)
        else:
            done = self.execute_into(cdb, lane, timeout_s)
        return Running(cdb, len(lane), done)

    def buffer(self, size: int, lane: int = 0) -> memoryview:
        """Return `size` writable bytes that this transport moves fastest, to fill or receive in place.

        A transport has LANES such buffers; asking again may give the same bytes.  Here: plain memory.
        """
        del lane
        return memoryview(bytearray(size))

    @abstractmethod
    def close(self) -> None:
        """Give the path up.  Closing twice is allowed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
