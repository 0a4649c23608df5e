"""The DATA interface as a server: what entry server, owner and connection server have in common.

The machine, its counters and replies live here; what a connection and an operation are is a subclass's.
Source: draft-skardal-ndmpv4-04, 2.11.5 and 3.5.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import structlog

from appliance.ndmp import messages as m
from appliance.ndmp.enums import (
    ALL_ONES,
    AddressType,
    DataHaltReason,
    DataOperation,
    DataState,
    DataUnsupported,
    ErrorCode,
    LogType,
)
from appliance.ndmp.errors import RefusalError
from appliance.ndmp.logcontext import carrying, forget, note
from appliance.ndmp.session import Handler, Poster
from appliance.ndmp.sessions import Status
from appliance.ndmp.states import DATA, DataEvent, Machine
from appliance.ndmp.types import Address, Name, Pval
from appliance.ndmp.xdr import Struct

WORKER_JOIN_S = 10.0
"""How long STOP and the end of a session wait for a stream's thread.  Its sockets are shut by then, so it
is gone at once unless a disk hangs; ABORT itself does not wait at all."""


ACCEPT_LAG_S = 3.0
"""How long START_* in LISTEN waits for the mover's connection: MOVER_CONNECT is answered when the kernel of
the listening host has it, which is before that host has told us."""


class DataService(ABC):
    """One session's DATA service.

    Attributes:
        job: the name of the job that the session works for, empty before there is one.

    """

    reported_as: ClassVar[str] = "data"

    def __init__(self, poster: Poster, log: Any = None) -> None:
        self.poster = poster
        self.log = log or structlog.get_logger()
        self.machine: Machine[DataState, DataEvent] = Machine("DATA", DATA, DataState.IDLE)
        self.accept_lag_s = ACCEPT_LAG_S
        self._worker: threading.Thread | None = None
        self._moved_before = 0
        self.bytes_processed = 0
        self._clear()

    def _clear(self) -> None:
        forget("job")
        self.job = ""
        self._moved_before += self.bytes_processed
        self.operation = DataOperation.NOACTION
        self.halt_reason = DataHaltReason.NA
        self.bytes_processed = 0
        self.read_offset = 0
        self.read_length = 0
        self.env: dict[bytes, list[bytes]] = {}

    def begin_job(self, name: str) -> None:
        """The session works for this job from now on: its log lines and the list of sessions say so."""
        self.job = name
        note(job=name)

    # What a subclass supplies.

    @abstractmethod
    def listen(self, kind: AddressType) -> Address:
        """Make the endpoint of this kind that the mover will connect to.  Raises RefusalError."""

    @abstractmethod
    def connect(self, address: Address) -> None:
        """Connect to the mover.  Raises RefusalError(CONNECT)."""

    @abstractmethod
    def backup(self, butype: bytes) -> Callable[[], DataHaltReason]:
        """Check the environment, and return what runs the backup in a thread of its own.

        Raises RefusalError for what can be refused at once.
        """

    @abstractmethod
    def recover(self, butype: bytes, names: Sequence[Name]) -> Callable[[], DataHaltReason]:
        """Check environment and names, and return what runs the restore.  Raises RefusalError."""

    @abstractmethod
    def cancel(self) -> None:
        """Wake and end whatever runs or waits; called at an abort and at the end of the session."""

    @abstractmethod
    def release(self) -> None:
        """Close the data connection; called when the operation is over and at the end of the session.

        Safe to repeat.
        """

    def listen_local(self) -> Address:
        """Let the mover of this session connect, and return LOCAL.  Raises RefusalError(ILLEGAL_ARGS)."""
        raise RefusalError(ErrorCode.ILLEGAL_ARGS, "LOCAL is not offered: this session has no mover")

    def connect_local(self) -> None:
        """Connect to the mover of this session.  Raises RefusalError."""
        raise RefusalError(ErrorCode.ILLEGAL_ARGS, "LOCAL is not offered: this session has no mover")

    def kinds(self) -> tuple[AddressType, ...]:
        """The kinds of address that are listened at and connected to, LOCAL aside."""
        return (AddressType.TCP,)

    def connection_address(self) -> Address:
        """The mover's endpoint for DATA_GET_STATE."""
        return Address()

    # What they share.

    def handlers(self) -> Mapping[type[Struct], Handler]:
        """The requests of the DATA interface."""
        return {
            m.DataGetStateRequest: self._on_get_state,
            m.DataListenRequest: self._on_listen,
            m.DataConnectRequest: self._on_connect,
            m.DataStartBackupRequest: self._on_start_backup,
            m.DataStartRecoverRequest: self._on_start_recover,
            m.DataStartRecoverFilehistRequest: self._on_start_recover_filehist,
            m.DataAbortRequest: self._on_abort,
            m.DataStopRequest: self._on_stop,
            m.DataGetEnvRequest: self._on_get_env,
        }

    def status(self) -> Status:
        """For the list of sessions."""
        return {
            self.reported_as: {
                "state": self.machine.state.name.lower(),
                "operation": self.operation.name.lower(),
                "job": self.job,
                "bytes": self.bytes_processed,
                "moved": self._moved_before + self.bytes_processed,
            }
        }

    def close(self) -> None:
        """End of the session: stop the stream and give everything back."""
        self.machine.try_fire(DataEvent.HALTED)
        self.cancel()
        self._join()
        self.release()

    def value(self, name: bytes, default: bytes = b"") -> bytes:
        """The last value of an environment variable."""
        values = self.env.get(name)
        return values[-1] if values else default

    def set_value(self, name: bytes, value: bytes | int | str) -> None:
        """Set an environment variable that DATA_GET_ENV returns."""
        self.env[name] = [value if isinstance(value, bytes) else str(value).encode()]

    def halt(self, reason: DataHaltReason, current: Callable[[], bool] = lambda: True) -> None:
        """Enter HALTED and say so, unless an abort did already.

        `current` tells, with the machine's lock held, whether what ended is still what the state is about.
        """
        with self.machine.changed:
            halted = current() and self.machine.try_fire(DataEvent.HALTED)
            if halted:
                self.halt_reason = reason
        if halted:
            self.release()
            self.log.info("data halted", reason=reason.name, bytes=self.bytes_processed)
            self.poster.post(m.NotifyDataHaltedPost(reason))

    def message(self, kind: LogType, text: str) -> None:
        """A line for the DMA's log: global paths only, never a local one."""
        self.poster.post(m.LogMessagePost(kind, 0, text.encode("utf-8", "backslashreplace")))

    def ask_for_image(self) -> None:
        """Post NOTIFY_DATA_READ for the whole image (draft, 4.1.5)."""
        self.ask_for(0, ALL_ONES)

    def ask_for(self, offset: int, length: int) -> None:
        """Post NOTIFY_DATA_READ for a part of the image; all ones as the length stand at offset 0 only."""
        self.read_offset, self.read_length = offset, length
        self.poster.post(m.NotifyDataReadPost(offset, length))

    def _on_get_state(self, _: m.DataGetStateRequest) -> m.DataGetStateReply:
        with self.machine.changed:
            return m.DataGetStateReply(
                unsupported=int(DataUnsupported.EST_BYTES_REMAIN | DataUnsupported.EST_TIME_REMAIN),
                operation=self.operation,
                state=self.machine.state,
                halt_reason=self.halt_reason,
                bytes_processed=self.bytes_processed,
                data_connection_addr=self.connection_address(),
                read_offset=self.read_offset,
                read_length=self.read_length,
            )

    def _on_listen(self, request: m.DataListenRequest) -> m.DataListenReply:
        self.machine.check(DataEvent.LISTEN)
        if request.addr_type in self.kinds():
            address = self.listen(request.addr_type)
        elif request.addr_type is AddressType.LOCAL:
            address = self.listen_local()
        else:
            raise RefusalError(ErrorCode.ILLEGAL_ARGS, f"{request.addr_type.name} is not offered")
        self.machine.fire(DataEvent.LISTEN)
        return m.DataListenReply(connect_addr=address)

    def _on_connect(self, request: m.DataConnectRequest) -> m.DataConnectReply:
        self.machine.check(DataEvent.CONNECT)
        if request.addr.type in self.kinds():
            self.connect(request.addr)
        elif request.addr.type is AddressType.LOCAL:
            self.connect_local()
        else:
            raise RefusalError(ErrorCode.ILLEGAL_ARGS, f"{request.addr.type.name} is not offered")
        self.machine.fire(DataEvent.CONNECT)
        return m.DataConnectReply()

    def _on_start_backup(self, request: m.DataStartBackupRequest) -> m.DataStartBackupReply:
        self._await_connection()
        self.machine.check(DataEvent.START_BACKUP)
        self._set_env(request.env)
        run = self.backup(request.butype_name)
        self.operation = DataOperation.BACKUP
        self._start(DataEvent.START_BACKUP, run)
        return m.DataStartBackupReply()

    def _on_start_recover(self, request: m.DataStartRecoverRequest) -> m.DataStartRecoverReply:
        self._await_connection()
        self.machine.check(DataEvent.START_RECOVER)
        self._set_env(request.env)
        run = self.recover(request.butype_name, request.nlist)
        self.operation = DataOperation.RECOVER
        self._start(DataEvent.START_RECOVER, run)
        return m.DataStartRecoverReply()

    def _on_start_recover_filehist(
        self, _: m.DataStartRecoverFilehistRequest
    ) -> m.DataStartRecoverFilehistReply:
        self.machine.check(DataEvent.START_RECOVER_FILEHIST)
        raise RefusalError(ErrorCode.NOT_SUPPORTED, "file history is not rebuilt by this server")

    def _await_connection(self) -> None:
        """A DMA whose mover has connected is right to start, though word of it is still on its way."""
        with self.machine.changed:
            self.machine.changed.wait_for(
                lambda: self.machine.state is not DataState.LISTEN, self.accept_lag_s
            )

    def _on_abort(self, _: m.DataAbortRequest) -> m.DataAbortReply:
        with self.machine.changed:
            already = self.machine.state is DataState.HALTED
            self.machine.fire(DataEvent.ABORT)
            if not already:
                self.halt_reason = DataHaltReason.ABORTED
        if not already:
            self.poster.after_reply(self._after_abort)
        return m.DataAbortReply()

    def _after_abort(self) -> None:
        self.poster.post(m.NotifyDataHaltedPost(DataHaltReason.ABORTED))
        self.cancel()
        if self._worker is None:
            self.release()

    def _on_stop(self, _: m.DataStopRequest) -> m.DataStopReply:
        self.machine.check(DataEvent.STOP)
        if not self._join():
            # Back in IDLE it would set variables of the next operation, and halt it.
            raise RefusalError(ErrorCode.ILLEGAL_STATE, "the operation that was ended still hangs")
        self.machine.fire(DataEvent.STOP)
        self._clear()
        return m.DataStopReply()

    def _on_get_env(self, _: m.DataGetEnvRequest) -> m.DataGetEnvReply:
        self.machine.check(DataEvent.GET_ENV)
        # A copy: the operation's thread may be adding a variable.
        pairs = [Pval(name, value) for name, values in self.env.copy().items() for value in values]
        return m.DataGetEnvReply(env=tuple(pairs))

    def _set_env(self, pairs: Sequence[Pval]) -> None:
        """Keep every variable, known or not: all are returned (draft, 3.5.2.7); repeated ones in order."""
        self.env = {}
        for pair in pairs:
            self.env.setdefault(pair.name, []).append(pair.value)

    def _start(self, event: DataEvent, run: Callable[[], DataHaltReason]) -> None:
        self.machine.fire(event)
        worker = threading.Thread(target=carrying(self._run), args=(run,), name="data-operation", daemon=True)
        self._worker = worker
        self.poster.after_reply(worker.start)

    def _run(self, run: Callable[[], DataHaltReason]) -> None:
        reason = DataHaltReason.INTERNAL_ERROR
        try:
            reason = run()
        except Exception as error:
            # Whatever broke, the DMA is told that its job did.
            self.log.error("operation failed", why=str(error), exc_info=True)
            self.message(
                LogType.ERROR, "the job failed by an internal error; the server's log has the details"
            )
        finally:
            self.halt(reason)
            # After an abort it falls to this thread: nobody closes a connection under its user's hands.
            self.release()

    def _join(self) -> bool:
        """Wait for the operation's thread, and return whether it is gone."""
        if self._worker is not None and self._worker.ident is not None:
            self._worker.join(WORKER_JOIN_S)
            if self._worker.is_alive():
                return False
        self._worker = None
        return True
