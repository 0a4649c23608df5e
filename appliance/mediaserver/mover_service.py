"""The MOVER interface as a server: requests, variables and the machine (draft-skardal-ndmpv4-04, 3.6).

The data moves in a thread of its own (`mover_backup`, `mover_restore`); requests only set variables, move
the machine and wake that thread, so MOVER_GET_STATE and MOVER_ABORT are answered while a drive is slow.

Profile compat, the default: a record size that was never set is 10,240; a length of all
ones is "to the end" at any offset (ndmjob sends it for its second cartridge); a window of length 0 in IDLE
is no window, and a window may come between MOVER_LISTEN and the data connection, as in version 3; until it
comes, nothing fits.  Profile strict is the draft to the letter.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from appliance import feeds
from appliance.local import LocalEnds
from appliance.mediaserver.mover_backup import BackupStream
from appliance.mediaserver.mover_restore import RestoreStream
from appliance.mediaserver.mover_stream import MoverStream
from appliance.mediaserver.open_drive import OpenDrive
from appliance.mediaserver.tape_service import TapeService
from appliance.mediaserver.window import Window
from appliance.ndmp import dataconn
from appliance.ndmp import messages as m
from appliance.ndmp.datalisten import DataListener
from appliance.ndmp.enums import (
    ALL_ONES,
    AddressType,
    ErrorCode,
    MoverHaltReason,
    MoverMode,
    MoverPauseReason,
    MoverState,
    TapeOpenMode,
)
from appliance.ndmp.errors import RefusalError
from appliance.ndmp.networks import NO_RULES, DataRules
from appliance.ndmp.session import Handler, Poster
from appliance.ndmp.sessions import Status
from appliance.ndmp.states import MOVER, Machine, MoverEvent
from appliance.ndmp.types import Address
from appliance.ndmp.xdr import Struct
from tape.commands import MAX_TRANSFER_6

RECORD_SIZE_DEFAULT = 10240
"""What DMAs that never set a record size expect, the classic tar record (profile compat)."""


CONNECTION_TIMEOUT_S = 2.0
"""A connection that the data server has reported is at most a network's delay and a thread's turn away."""

LOCAL_READ_WAIT_S = 10.0
"""A mover's thread counts the bytes that it sent within milliseconds, on a busy machine in a second."""

WINDOW_FIRST = 4
"""From this version on the window is set before MOVER_LISTEN; in version 3 after it."""

NO_WINDOW = Window()
NOBODY = Address()


@dataclasses.dataclass
class Variables:
    """The mover's standard variables (draft, 3.6.1.1), new at each return to IDLE.

    Attributes:
        bytes_in_window: written since the window was set; padding counts.
        is_window_new: set since the mover paused.

    """

    mode: MoverMode = MoverMode.NOACTION
    pause_reason: MoverPauseReason = MoverPauseReason.NA
    halt_reason: MoverHaltReason = MoverHaltReason.NA
    record_num: int = 0
    bytes_moved: int = 0
    seek_position: int = 0
    bytes_left: int = 0
    window: Window = NO_WINDOW
    address: Address = NOBODY
    bytes_in_window: int = 0
    is_window_new: bool = False


class MoverService:
    """One session's MOVER service.

    Attributes:
        lock: guards `variables` and the machine together; never held during I/O.
        reporter: tells of the drive's errors.
        strict: profile strict.

    """

    def __init__(
        self,
        poster: Poster,
        tape: TapeService,
        address: str,
        log: Any = None,
        *,
        strict: bool = False,
        version: Callable[[], int] = lambda: 4,
        rules: DataRules = NO_RULES,
        local: LocalEnds | None = None,
        kinds: Callable[[], tuple[AddressType, ...]] = lambda: (AddressType.TCP,),
    ) -> None:
        """`address`: the node's own, where data connections are listened for and made from.

        `version` tells what the session speaks: it is agreed on after the service is made.  `local`: where
        the session's DATA service is found, if it has one.  `kinds`: of addresses, that the session may use.
        """
        self.log = log or structlog.get_logger()
        self.machine: Machine[MoverState, MoverEvent] = Machine("MOVER", MOVER, MoverState.IDLE)
        self.lock = self.machine.changed
        self.variables = Variables()
        self.record_size = 0
        self.reporter = tape.reporter
        self._poster = poster
        self._tape = tape
        self._address = address
        self.strict = strict
        self._version = version
        self.rules = rules
        self._local = local
        self._kinds = kinds
        if local is not None:
            local.serve_reads(self._read_for_local)
        self._moved_before = 0
        self._stream: MoverStream | None = None
        # Streams that were aborted may still wait for their last SCSI command.
        self._streams: list[MoverStream] = []
        tape.in_use = self._holds_drive

    def handlers(self) -> Mapping[type[Struct], Handler]:
        """The requests of the MOVER interface."""
        return {
            m.MoverGetStateRequest: self._get_state,
            m.MoverListenRequest: self._listen,
            m.MoverConnectRequest: self._connect,
            m.MoverReadRequest: self._read,
            m.MoverContinueRequest: self._continue,
            m.MoverCloseRequest: self._close,
            m.MoverAbortRequest: self._abort,
            m.MoverStopRequest: self._stop,
            m.MoverSetWindowRequest: self._set_window,
            m.MoverSetRecordSizeRequest: self._set_record_size,
        }

    def close(self) -> None:
        """End of the session: end the stream, and wait for the command that it is in."""
        with self.lock:
            self.machine.try_fire(MoverEvent.ABORT)
            self._stream = None
        for stream in self._streams:
            stream.cancel()
        for stream in self._streams:
            stream.join()

    def status(self) -> Status:
        """For the list of sessions."""
        now = self.variables
        return {
            "mover": {
                "state": self.machine.state.name.lower(),
                "mode": now.mode.name.lower(),
                "bytes": now.bytes_moved,
                "moved": self._moved_before + now.bytes_moved,
            }
        }

    # -- what a stream tells; each is ignored once another stream has taken its place ------------------
    def accepted(self, stream: MoverStream, peer: Address) -> bool:
        """The data server connected.  False when the mover was halted meanwhile."""
        with self.lock:
            if self._stream is not stream or not self.machine.try_fire(MoverEvent.ACCEPTED):
                return False
            self.variables.address = peer
            return True

    def paused(self, stream: MoverStream, reason: MoverPauseReason, position: int) -> bool:
        """The stream cannot go on without the DMA.  False when the mover was halted meanwhile."""
        with self.lock:
            if self._stream is not stream or not self.machine.try_fire(MoverEvent.PAUSED):
                return False
            self.variables.pause_reason = reason
            self.variables.is_window_new = False
        self.log.info("mover paused", reason=reason.name, position=position)
        self._poster.post(m.NotifyMoverPausedPost(reason, position))
        return True

    def halted(self, stream: MoverStream, reason: MoverHaltReason) -> None:
        """The stream has ended by itself, its connection is closed."""
        with self.lock:
            if self._stream is not stream or not self.machine.try_fire(MoverEvent.HALTED):
                return
            self._note_halt(reason)
        self._tell_halt(reason)

    def drive(self) -> OpenDrive:
        """The drive that is open now.  Raises RefusalError(DEV_NOT_OPEN)."""
        return self._tape.drive()

    # -- requests --------------------------------------------------------------------------------------
    def _await_connection(self) -> None:
        """Wait for ACTIVE, if LISTEN is the state and a connection is all that is missing.

        The DMA knows of the connection from the data server's reply, which may be here before the last
        packet of that connection, and before our thread has taken it.
        """
        with self.lock:
            self.lock.wait_for(lambda: self.machine.state is not MoverState.LISTEN, CONNECTION_TIMEOUT_S)

    def _get_state(self, _: m.MoverGetStateRequest) -> m.MoverGetStateReply:
        if self._stream is not None and self._stream.is_called():
            self._await_connection()
        with self.lock:
            now = dataclasses.replace(self.variables)
            state = self.machine.state
        return m.MoverGetStateReply(
            mode=now.mode,
            state=state,
            pause_reason=now.pause_reason,
            halt_reason=now.halt_reason,
            record_size=self.record_size,
            record_num=now.record_num & 0xFFFFFFFF,
            bytes_moved=now.bytes_moved,
            seek_position=now.seek_position,
            bytes_left_to_read=now.bytes_left,
            window_offset=now.window.offset,
            window_length=now.window.length,
            data_connection_addr=now.address,
        )

    def _set_record_size(self, request: m.MoverSetRecordSizeRequest) -> m.MoverSetRecordSizeReply:
        self.machine.check(MoverEvent.SET_RECORD_SIZE)
        if not 0 < request.length <= MAX_TRANSFER_6:
            raise RefusalError(
                ErrorCode.ILLEGAL_ARGS,
                f"a record of {request.length} bytes; 1 to {MAX_TRANSFER_6} are possible",
            )
        with self.lock:
            self.record_size = request.length
            self._put_window(NO_WINDOW)
        return m.MoverSetRecordSizeReply()

    def _set_window(self, request: m.MoverSetWindowRequest) -> m.MoverSetWindowReply:
        window = Window(request.offset, request.length)
        if not self.strict:
            window = window.to_the_end()
        with self.lock:
            state = self.machine.state
            self.machine.check(MoverEvent.SET_WINDOW)
            if state is MoverState.LISTEN:
                self._check_late_window(window)
            self._default_record_size()
            window.check()
            if not window.is_set and (self.strict or state is MoverState.PAUSED):
                raise RefusalError(ErrorCode.ILLEGAL_ARGS, "a window of length 0")
            if state is not MoverState.IDLE and not window.fits(self.variables.mode, self.record_size):
                raise RefusalError(
                    ErrorCode.ILLEGAL_ARGS, f"{window} does not fit records of {self.record_size}"
                )
            self._put_window(window)
        return m.MoverSetWindowReply()

    def _check_late_window(self, window: Window) -> None:
        """In version 3 the window comes in LISTEN.  DMAs that learned it there send their first one so in 4.

        Raises RefusalError(ILLEGAL_STATE).
        """
        if self._window_comes_late:
            return
        if self.strict or self.variables.window.is_set or not window.is_set:
            raise RefusalError(ErrorCode.ILLEGAL_STATE, "MOVER: the window was to be set before MOVER_LISTEN")

    @property
    def _window_comes_late(self) -> bool:
        return self._version() < WINDOW_FIRST

    def _put_window(self, window: Window) -> None:
        self.variables.window = window
        self.variables.record_num = window.offset // self.record_size
        self.variables.bytes_in_window = 0
        self.variables.is_window_new = window.is_set

    def _default_record_size(self) -> None:
        if self.record_size:
            return
        if self.strict:
            raise RefusalError(ErrorCode.PRECONDITION, "no record size was set")
        self.record_size = RECORD_SIZE_DEFAULT

    def _listen(self, request: m.MoverListenRequest) -> m.MoverListenReply:
        self.machine.check(MoverEvent.LISTEN)
        self._check_start(request.mode, request.addr_type)
        if self._local is not None and request.addr_type is AddressType.LOCAL:
            token, address = feeds.new_token(), Address()
            listener = DataListener(self._address, NO_RULES)
            self._local.listen(listener.address(feeds.token_env(token)))
        else:
            listener = DataListener(self._address, self.rules, request.addr_type)
            token, address = b"", listener.address()
        make = BackupStream if request.mode is MoverMode.READ else RestoreStream
        self._begin(MoverEvent.LISTEN, request.mode, make(self, listener=listener, token=token))
        return m.MoverListenReply(connect_addr=address)

    def _connect(self, request: m.MoverConnectRequest) -> m.MoverConnectReply:
        self.machine.check(MoverEvent.CONNECT)
        self._check_start(request.mode, request.addr.type)
        # There is no LISTEN here in which it could come later.
        self._need_window()
        if self._local is not None and request.addr.type is AddressType.LOCAL:
            connection, peer = dataconn.connect(self._local.take(), self._address), Address()
        else:
            connection = dataconn.connect(request.addr, self._address, self.rules)
            peer = dataconn.peer_address(connection)
        make = BackupStream if request.mode is MoverMode.READ else RestoreStream
        self._begin(MoverEvent.CONNECT, request.mode, make(self, connection=connection))
        with self.lock:
            self.variables.address = peer
        return m.MoverConnectReply()

    def _check_start(self, mode: MoverMode, kind: AddressType) -> None:
        """What LISTEN and CONNECT need (draft, 3.6.2.3 and 3.6.2.4).  Raises RefusalError."""
        if mode not in (MoverMode.READ, MoverMode.WRITE):
            raise RefusalError(ErrorCode.ILLEGAL_ARGS, f"mode {mode.name}")
        if kind not in self._kinds():
            raise RefusalError(ErrorCode.ILLEGAL_ARGS, f"{kind.name} is not offered")
        drive = self._check_drive(mode)
        self._default_record_size()
        window = self.variables.window
        if self.strict and not self._window_comes_late:
            self._need_window()
        if not window.fits(mode, self.record_size):
            raise RefusalError(ErrorCode.PRECONDITION, f"{window} does not fit records of {self.record_size}")
        with self._answering("record size", drive):
            drive.check_record(self.record_size)

    def _need_window(self) -> None:
        if not self.variables.window.is_set:
            raise RefusalError(ErrorCode.PRECONDITION, "no window was set")

    def _check_drive(self, mode: MoverMode) -> OpenDrive:
        """The open drive, if it may be used in this mode.  Raises RefusalError."""
        drive = self._tape.drive()
        if mode is MoverMode.READ:
            if drive.mode is TapeOpenMode.READ:
                raise RefusalError(ErrorCode.PERMISSION, f"{drive.unit.name} is open for reading only")
            with self._answering("write check", drive):
                drive.verify_writable()
        return drive

    def _begin(self, event: MoverEvent, mode: MoverMode, stream: MoverStream) -> None:
        with self.lock:
            self.machine.fire(event)
            self.variables.mode = mode
            self._stream = stream
        self._streams = [*(old for old in self._streams if old.is_alive()), stream]
        # After the reply: whatever the stream meets first must not be told before it.
        self._poster.after_reply(stream.start)

    def _read(self, request: m.MoverReadRequest) -> m.MoverReadReply:
        stream = self._begin_read(request.offset, request.length)
        self._poster.after_reply(stream.go)
        return m.MoverReadReply()

    def _begin_read(self, offset: int, length: int) -> RestoreStream:
        """Note what is to be read; the stream that is returned starts by `go`.  Raises RefusalError."""
        if isinstance(self._stream, RestoreStream):
            self._await_connection()
        with self.lock:
            self.machine.check(MoverEvent.READ)
            stream = self._stream
            if not isinstance(stream, RestoreStream):
                raise RefusalError(ErrorCode.ILLEGAL_STATE, "the mover writes tape; there is nothing to read")
            if not length or offset + length > ALL_ONES:
                raise RefusalError(ErrorCode.ILLEGAL_ARGS, f"part {offset}+{length} of the image")
            if self.variables.bytes_left:
                raise RefusalError(ErrorCode.READ_IN_PROGRESS, "the read before is not finished")
            self.variables.seek_position = offset
            self.variables.bytes_left = length
        return stream

    def _read_for_local(self, offset: int, length: int) -> None:
        """What MOVER_READ does, for the DATA service of this session, in its thread.

        It may have the last byte of the read before in hand when the mover does not yet know that it sent it.
        """
        with self.lock:
            self.lock.wait_for(self._read_is_over, LOCAL_READ_WAIT_S)
        self._begin_read(offset, length).go()

    def _read_is_over(self) -> bool:
        return not self.variables.bytes_left or self.machine.state is not MoverState.ACTIVE

    def _continue(self, _: m.MoverContinueRequest) -> m.MoverContinueReply:
        self.machine.check(MoverEvent.CONTINUE)
        self._check_drive(self.variables.mode)
        with self.lock:
            if not self.variables.is_window_new:
                raise RefusalError(ErrorCode.PRECONDITION, "no window was set since the mover paused")
            self.machine.fire(MoverEvent.CONTINUE)
            self.variables.pause_reason = MoverPauseReason.NA
            stream = self._stream
        if stream is not None:
            self._poster.after_reply(stream.go)
        return m.MoverContinueReply()

    def _close(self, _: m.MoverCloseRequest) -> m.MoverCloseReply:
        self._end(MoverEvent.CLOSE, MoverHaltReason.CONNECT_CLOSED)
        return m.MoverCloseReply()

    def _abort(self, _: m.MoverAbortRequest) -> m.MoverAbortReply:
        self._end(MoverEvent.ABORT, MoverHaltReason.ABORTED)
        return m.MoverAbortReply()

    def _end(self, event: MoverEvent, reason: MoverHaltReason) -> None:
        """Halt by request; the reply comes first, then the post.  Aborting twice changes nothing."""
        with self.lock:
            already = self.machine.state is MoverState.HALTED
            self.machine.fire(event)
            if already:
                return
            self._note_halt(reason)
            stream = self._stream
        if stream is not None:
            stream.cancel()
        self._poster.after_reply(lambda: self._tell_halt(reason))

    def _note_halt(self, reason: MoverHaltReason) -> None:
        self.variables.halt_reason = reason
        self.variables.pause_reason = MoverPauseReason.NA

    def _tell_halt(self, reason: MoverHaltReason) -> None:
        self.log.info("mover halted", reason=reason.name, bytes_moved=self.variables.bytes_moved)
        self._poster.post(m.NotifyMoverHaltedPost(reason))

    def _stop(self, _: m.MoverStopRequest) -> m.MoverStopReply:
        with self.lock:
            self.machine.fire(MoverEvent.STOP)
            self._stream = None
            self._moved_before += self.variables.bytes_moved
            self.variables = Variables()
        return m.MoverStopReply()

    def _holds_drive(self) -> bool:
        return self.machine.state in (MoverState.LISTEN, MoverState.ACTIVE)

    def _answering(self, request: str, drive: OpenDrive) -> Any:
        return self.reporter.answering(request, drive.unit, drive)
