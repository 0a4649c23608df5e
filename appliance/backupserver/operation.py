"""One run of the DATA and MOVER services against each other, watched until both have halted.

What the run does when the mover pauses, or the data server wants to read, is a subclass's.
"""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Final

from appliance.backupserver.cartridge import Tape
from appliance.backupserver.events import Event
from appliance.backupserver.media import Segment
from appliance.backupserver.peers import Peers
from appliance.ndmp import messages as m
from appliance.ndmp.client import Client
from appliance.ndmp.enums import (
    ALL_ONES,
    AddressType,
    DataHaltReason,
    ErrorCode,
    MoverHaltReason,
    MoverMode,
    MoverPauseReason,
)
from appliance.ndmp.errors import NdmpError, ReplyError
from appliance.ndmp.xdr import Struct

POLL_S: Final = 1.0
"""Both servers are asked this often how they are: for progress, and to notice that one is gone."""

WINDOW_FIRST: Final = 4
"""From this version on the window is set before MOVER_LISTEN; in version 3 after it, and not earlier."""

HALT_WAIT_S: Final = 60.0
"""When one side failed, the other notices its closed connection; one that does not is aborted."""

ABORT_WAIT_S: Final = 10.0
"""An abort is answered within ten seconds, whatever the servers behind the entry do (design.md, 2)."""


@dataclass(frozen=True)
class Halts:
    """How both services ended, and what they counted."""

    data: DataHaltReason
    mover: MoverHaltReason
    processed: int
    moved: int

    @property
    def good(self) -> bool:
        """Whether both ended as they should."""
        return self.data is DataHaltReason.SUCCESSFUL and self.mover is MoverHaltReason.CONNECT_CLOSED

    def agreed(self, record_size: int) -> int | None:
        """The bytes of the image that both counted; None when their counts differ.

        The padding of the last record is not the image's (draft, 3.6.1.1), yet some movers count it.
        """
        padding = self.moved - self.processed
        padded = 0 < padding < record_size and self.moved % record_size == 0
        return self.processed if padding == 0 or padded else None


def drive_failed(tape: Tape, segment: Segment, pause: m.NotifyMoverPausedPost) -> bool:
    """Whether a mover that reads paused because its drive failed: at a byte that is on this stretch of tape.

    Servers of other makes halt then.
    """
    return pause.reason is MoverPauseReason.SEEK and segment.holds(pause.seek_position) and tape.had_error()


class Operation(ABC):
    """From MOVER_LISTEN to both STOPs."""

    def __init__(self, peers: Peers) -> None:
        self.peers = peers
        self.data_halt: DataHaltReason | None = None
        self.mover_halt: MoverHaltReason | None = None
        self._halted_since: float | None = None
        self._record_size = 1

    # -- what the services ask for -------------------------------------------------------------------
    @abstractmethod
    def on_paused(self, pause: m.NotifyMoverPausedPost) -> None:
        """The mover paused: let it go on, or close it."""

    @abstractmethod
    def on_read(self, read: m.NotifyDataReadPost) -> None:
        """The data server wants a part of the image."""

    @abstractmethod
    def on_poll(self, data: m.DataGetStateReply, mover: m.MoverGetStateReply) -> None:
        """Both services told how they are."""

    # -- the run -------------------------------------------------------------------------------------
    def connect(self, mode: MoverMode, record_size: int, offset: int, length: int) -> None:
        """Join the two services by a data connection; the tape stands where the window begins."""
        mover = self.peers.mover
        mover.do(m.MoverSetRecordSizeRequest(record_size))
        self._record_size = record_size
        if mover.version >= WINDOW_FIRST:
            self.set_window(offset, length)
        listening = mover.call(m.MoverListenRequest(mode, AddressType.TCP), m.MoverListenReply)
        if mover.version < WINDOW_FIRST:
            self.set_window(offset, length)
        self.peers.data.do(m.DataConnectRequest(listening.connect_addr))

    def set_window(self, offset: int, length: int) -> None:
        """Set the mover's window; some movers take whole records only, where the image ends within one."""
        mover, padding = self.peers.mover, -length % self._record_size
        try:
            mover.do(m.MoverSetWindowRequest(offset, length))
        except ReplyError as error:
            if (
                error.code is not ErrorCode.ILLEGAL_ARGS
                or not padding
                or length > ALL_ONES - offset - padding
            ):
                raise
            mover.do(m.MoverSetWindowRequest(offset, length + padding))

    def watch(self) -> Halts:
        """Serve events until both services have halted."""
        poll_at = time.monotonic()
        while self.data_halt is None or self.mover_halt is None:
            event = self.peers.events.next(max(0.0, poll_at - time.monotonic()))
            if event is not None:
                self._handle(event)
            if time.monotonic() >= poll_at:
                self._poll()
                poll_at = time.monotonic() + POLL_S
        return self._counts(self.data_halt, self.mover_halt)

    def _counts(self, data: DataHaltReason, mover: MoverHaltReason) -> Halts:
        counted = self._poll()
        return Halts(data, mover, counted[0].bytes_processed, counted[1].bytes_moved)

    def stop(self) -> None:
        """Return both services to IDLE."""
        self.peers.data.do(m.DataStopRequest())
        self.peers.mover.do(m.MoverStopRequest())

    def abort(self) -> int | None:
        """End both services at once and return the bytes on tape, None when the media server is gone.

        Called on the way out of a failure, so errors of its own are not raised.
        """
        moved = None
        if not self._ask_to_abort(self.peers.data, m.DataAbortRequest()):
            self.data_halt = self.data_halt or DataHaltReason.NA
        if not self._ask_to_abort(self.peers.mover, m.MoverAbortRequest()):
            self.mover_halt = self.mover_halt or MoverHaltReason.NA
        self._await_halts()
        with contextlib.suppress(NdmpError):
            request = m.MoverGetStateRequest()
            moved = self.peers.mover.call(request, m.MoverGetStateReply, ABORT_WAIT_S).bytes_moved
        with contextlib.suppress(NdmpError):
            self.peers.mover.do(m.MoverStopRequest(), ABORT_WAIT_S)
        with contextlib.suppress(NdmpError):
            self.peers.data.do(m.DataStopRequest(), ABORT_WAIT_S)
        return moved

    @staticmethod
    def _ask_to_abort(client: Client, request: Struct) -> bool:
        """Whether the service will tell that it halted; one that was idle or is gone will not."""
        try:
            client.do(request, ABORT_WAIT_S)
        except NdmpError:
            return False
        return True

    def _await_halts(self) -> None:
        """Counters are exact, and STOP is legal, once both have halted."""
        deadline = time.monotonic() + ABORT_WAIT_S
        while (self.data_halt is None or self.mover_halt is None) and time.monotonic() < deadline:
            event = self.peers.events.next(max(0.0, deadline - time.monotonic()))
            if isinstance(event, m.NotifyDataHaltedPost):
                self.data_halt = event.reason
            elif isinstance(event, m.NotifyMoverHaltedPost):
                self.mover_halt = event.reason

    def _handle(self, event: Event) -> None:
        if isinstance(event, m.NotifyDataHaltedPost):
            self.data_halt = event.reason
        elif isinstance(event, m.NotifyMoverHaltedPost):
            self.mover_halt = event.reason
        elif isinstance(event, m.NotifyMoverPausedPost):
            self.on_paused(event)
        else:
            self.on_read(event)

    def _poll(self) -> tuple[m.DataGetStateReply, m.MoverGetStateReply]:
        data = self.peers.data.call(m.DataGetStateRequest(), m.DataGetStateReply)
        mover = self.peers.mover.call(m.MoverGetStateRequest(), m.MoverGetStateReply)
        self.on_poll(data, mover)
        self._end_the_other()
        return data, mover

    def _end_the_other(self) -> None:
        """When one side failed and the other does not notice, abort the other.

        A mover whose data server ended well is left its time: a tape change may take an hour.
        """
        if (self.data_halt is None) == (self.mover_halt is None):
            return
        if self.data_halt is DataHaltReason.SUCCESSFUL:
            return
        self._halted_since = self._halted_since or time.monotonic()
        if time.monotonic() - self._halted_since < HALT_WAIT_S:
            return
        with contextlib.suppress(NdmpError):
            if self.data_halt is None:
                self.peers.data.do(m.DataAbortRequest())
            else:
                self.peers.mover.do(m.MoverAbortRequest())
