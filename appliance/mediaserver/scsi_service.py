"""The SCSI interface as a server, for changers (draft-skardal-ndmpv4-04, 3.3).

A session may have a changer and a drive open at once, which the draft forbids (2.11.4) and DMAs with one
connection for tape and robot do.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import structlog

from appliance.mediaserver import cdb
from appliance.mediaserver.answers import Reporter, Tell, nobody
from appliance.mediaserver.leftovers import Leftovers
from appliance.mediaserver.libraries import Libraries, Library, Unit
from appliance.mediaserver.moves import moves_of, permitted
from appliance.ndmp import messages as m
from appliance.ndmp.enums import ErrorCode
from appliance.ndmp.errors import RefusalError
from appliance.ndmp.session import Handler
from appliance.ndmp.sessions import Status
from appliance.ndmp.xdr import Struct
from tape.commands import READ_ELEMENT_STATUS, name_of
from tape.errors import NoMediumError, NotReadyError, UnitAttentionError
from tape.remedies import remedy_for
from tape.sense import Sense, error_for
from tape.transport import Completion, ScsiStatus, Transport


class ScsiService:
    """One session's SCSI service."""

    def __init__(self, libraries: Libraries, log: Any = None, *, tell: Tell = nobody) -> None:
        self.log = log or structlog.get_logger()
        self._reporter = Reporter(self.log, tell)
        self._libraries = libraries
        self._leftovers = Leftovers()
        self._open_changer: tuple[Library, Unit, Transport] | None = None
        self.has_other_device: Callable[[], bool] = lambda: False

    def handlers(self) -> Mapping[type[Struct], Handler]:
        """The requests of the SCSI interface."""
        return {
            m.ScsiOpenRequest: self._open,
            m.ScsiCloseRequest: self._close,
            m.ScsiGetStateRequest: self._get_state,
            m.ScsiSetTargetRequest: self._set_target,
            m.ScsiResetDeviceRequest: self._reset,
            m.ScsiResetBusRequest: self._reset_bus,
            m.ScsiExecuteCdbRequest: self._execute_cdb,
        }

    @property
    def is_open(self) -> bool:
        """Whether a changer is open in this session."""
        return self._open_changer is not None

    def status(self) -> Status:
        """For the list of sessions; nothing while no changer is open."""
        opened = self._open_changer
        return {"changer": {"state": "open", "device": opened[1].name}} if opened is not None else {}

    def close(self) -> None:
        """End of the session: give the changer back."""
        opened, self._open_changer = self._open_changer, None
        if opened is not None:
            _, unit, transport = opened
            self._leftovers.undo(transport)
            unit.close()
            unit.release(self)
            self.log.info("changer closed", changer=unit.serial)

    def _open(self, request: m.ScsiOpenRequest) -> m.ScsiOpenReply:
        """Open without I/O to the device (draft, 3.3.1)."""
        if self.is_open or self.has_other_device():
            raise RefusalError(ErrorCode.DEVICE_OPENED, "a device is open in this session")
        library, unit = self._libraries.changer(request.device)
        unit.claim(self)
        try:
            with self._reporter.answering("SCSI_OPEN", unit):
                unit.hold()
                transport = unit.open()
        except BaseException:
            unit.release(self)
            raise
        self._open_changer = library, unit, transport
        self.log.info("changer opened", changer=unit.serial)
        return m.ScsiOpenReply()

    def _close(self, _: m.ScsiCloseRequest) -> m.ScsiCloseReply:
        self._opened()
        self.close()
        return m.ScsiCloseReply()

    def _get_state(self, _: m.ScsiGetStateRequest) -> m.ScsiGetStateReply:
        """Devices are known by serial number; bus addresses mean nothing here and are zero."""
        self._opened()
        return m.ScsiGetStateReply()

    def _set_target(self, request: m.ScsiSetTargetRequest) -> m.ScsiSetTargetReply:
        """The open changer is at the address that SCSI_GET_STATE told, and nothing else can be chosen."""
        _, unit, _ = self._opened()
        _, named = self._libraries.changer(request.device)
        address = request.target_controller, request.target_id, request.target_lun
        if named is not unit or any(address):
            raise RefusalError(ErrorCode.NO_DEVICE, "devices are chosen by SCSI_OPEN, by serial number")
        return m.ScsiSetTargetReply()

    def _reset_bus(self, _: m.ScsiResetBusRequest) -> m.ScsiResetBusReply:
        self._opened()
        raise RefusalError(ErrorCode.NOT_SUPPORTED, "a reset would hit other devices on the bus")

    def _reset(self, _: m.ScsiResetDeviceRequest) -> m.ScsiResetDeviceReply:
        self._opened()
        raise RefusalError(ErrorCode.NOT_SUPPORTED, "a reset might hit other devices")

    def _execute_cdb(self, request: m.ScsiExecuteCdbRequest) -> m.ScsiExecuteCdbReply:
        library, unit, transport = self._opened()
        effect = cdb.checked(cdb.CHANGER, request.flags, request.cdb, request.datain_length, request.dataout)
        cdb.check_volume_tag(request.cdb)
        log = self.log.bind(changer=unit.serial)
        what = f"SCSI_EXECUTE_CDB {name_of(request.cdb)}"
        with self._reporter.answering(what, unit), ExitStack() as stack:
            if effect is cdb.Effect.MOVES:
                self._permit(stack, log, library, request.cdb)
            done = self._untold(library, effect, request.cdb) or transport.execute(
                request.cdb,
                data_out=request.dataout,
                data_in_length=cdb.wanted(request.flags, request.datain_length),
                timeout_s=cdb.seconds(request.timeout),
            )
        self._leftovers.note(request.cdb, done)
        self._tell(log, request.cdb, done)
        return m.ScsiExecuteCdbReply(
            status=done.status,
            dataout_length=len(request.dataout),
            datain=done.data,
            ext_sense=done.sense,
        )

    @staticmethod
    def _untold(library: Library, effect: cdb.Effect, command: bytes) -> Completion | None:
        """A unit attention about moved cartridges that our own questions took: the DMA's plan is too old.

        It is told in place of the next move, as the changer would have; a new report makes it needless.
        """
        if effect is not cdb.Effect.MOVES and command[0] != READ_ELEMENT_STATUS.opcode:
            return None
        change, library.change = library.change, None
        if change is None or effect is not cdb.Effect.MOVES:
            return None
        return Completion(ScsiStatus.CHECK_CONDITION, sense=change.raw or change.encode())

    @staticmethod
    def _permit(stack: ExitStack, log: Any, library: Library, command: bytes) -> None:
        """Have a move checked, and noted when it is over.  Raises RefusalError, TapeError."""
        try:
            stack.enter_context(permitted(library, command))
        except RefusalError as error:
            log.warning("move refused", command=name_of(command), why=str(error))
            raise
        # Also when the command fails: a robot may stop half way.
        stack.callback(library.moved, *{address for move in moves_of(command) for address in move})

    def _tell(self, log: Any, command: bytes, done: Completion) -> None:
        """One line for a command that did not simply succeed, its sense in words."""
        if done.status == ScsiStatus.GOOD:
            return
        sense = Sense.parse(done.sense).text if done.sense else ""
        error = error_for(done, "")
        is_routine = error is None or isinstance(error, UnitAttentionError | NotReadyError | NoMediumError)
        log.log(
            logging.INFO if is_routine else logging.WARNING,
            "changer says",
            command=name_of(command),
            status=done.status,
            sense=sense,
            remedy="" if error is None or is_routine else remedy_for(error),
        )

    def _opened(self) -> tuple[Library, Unit, Transport]:
        if self._open_changer is None:
            raise RefusalError(ErrorCode.DEV_NOT_OPEN, "no changer is open in this session")
        return self._open_changer
