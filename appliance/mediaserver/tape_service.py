"""The TAPE interface as a server (draft-skardal-ndmpv4-04, 3.4).

Profile compat, the default, differs from the draft in one thing: the implicit filemark is written on
close, rewind and eject only.  Profile strict also writes it before spacing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import structlog

from appliance.mediaserver import cdb
from appliance.mediaserver.answers import Reporter, Tell, nobody
from appliance.mediaserver.early_warning import LogicalEndError
from appliance.mediaserver.libraries import Libraries
from appliance.mediaserver.open_drive import OpenDrive
from appliance.ndmp import messages as m
from appliance.ndmp.enums import ErrorCode, MtioOp, TapeOpenMode, TapeUnsupported
from appliance.ndmp.errors import RefusalError
from appliance.ndmp.session import Handler
from appliance.ndmp.sessions import Status
from appliance.ndmp.xdr import Struct
from tape.commands import MAX_TRANSFER_6
from tape.errors import BlankCheckError, FilemarkError, TapeError

UNKNOWN_32 = 0xFFFFFFFF
"""All ones: not known (draft, 3.4.4)."""

UNKNOWN_64 = 0xFFFFFFFFFFFFFFFF

_UNSUPPORTED = TapeUnsupported.SOFT_ERRORS | TapeUnsupported.TOTAL_SPACE | TapeUnsupported.SPACE_REMAIN


class TapeService:
    """One session's TAPE service.

    Attributes:
        opened: the drive, while one is open.
        reporter: tells of the drive's errors.
        in_use: whether the mover holds the drive (LISTEN or ACTIVE); set by the mover.
        has_other_device: whether the session has a changer open that forbids a drive (profile strict).

    """

    def __init__(
        self, libraries: Libraries, log: Any = None, *, strict: bool = False, tell: Tell = nobody
    ) -> None:
        self.opened: OpenDrive | None = None
        self.in_use: Callable[[], bool] = lambda: False
        self.has_other_device: Callable[[], bool] = lambda: False
        self.log = log or structlog.get_logger()
        self.reporter = Reporter(self.log, tell)
        self._libraries = libraries
        self._strict = strict
        self._close_failed = False

    def handlers(self) -> Mapping[type[Struct], Handler]:
        """The requests of the TAPE interface."""
        return {
            m.TapeOpenRequest: self._open,
            m.TapeCloseRequest: self._close,
            m.TapeGetStateRequest: self._get_state,
            m.TapeMtioRequest: self._mtio,
            m.TapeWriteRequest: self._write,
            m.TapeReadRequest: self._read,
            m.TapeExecuteCdbRequest: self._execute_cdb,
        }

    def status(self) -> Status:
        """For the list of sessions; nothing while no drive is open."""
        opened = self.opened
        if opened is None:
            return {}
        facts = {
            "device": opened.unit.name,
            "mode": opened.mode.name.lower(),
            "cartridge": opened.barcode or "",
        }
        return {"tape": {"state": "open", **facts}}

    def close(self) -> None:
        """End of the session: an implicit TAPE_CLOSE, whatever the drive says to it."""
        if self.opened is None:
            return
        try:
            self.opened.finish()
        except TapeError as error:
            self.reporter.report("end of the session", self.opened.unit, error, self.opened)
        self._release()

    def drive(self) -> OpenDrive:
        """The open drive.  Raises RefusalError(DEV_NOT_OPEN)."""
        if self.opened is None:
            raise RefusalError(ErrorCode.DEV_NOT_OPEN, "no drive is open in this session")
        return self.opened

    def _open(self, request: m.TapeOpenRequest) -> m.TapeOpenReply:
        if self.opened is not None or self.has_other_device():
            raise RefusalError(ErrorCode.DEVICE_OPENED, "a device is open in this session")
        library, unit = self._libraries.drive(request.device)
        unit.claim(self)
        try:
            with self.reporter.answering("TAPE_OPEN", unit):
                unit.hold()
                opened = OpenDrive(library, unit, request.mode, self.log, strict=self._strict)
                try:
                    opened.prepare()
                except BaseException:
                    opened.leave()
                    raise
        except BaseException:
            unit.release(self)
            raise
        self.opened = opened
        unit.in_use = self.in_use
        self._close_failed = False
        opened.log.info("drive opened", mode=request.mode.name, cartridge=opened.barcode)
        return m.TapeOpenReply()

    def _close(self, _: m.TapeCloseRequest) -> m.TapeCloseReply:
        opened = self._free_drive()
        if not self._close_failed:
            # Set first: should this fail, a TAPE_CLOSE that follows at once does no I/O (draft, 3.4.3).
            self._close_failed = True
            with self._answering("TAPE_CLOSE", opened):
                opened.finish()
        self._release()
        return m.TapeCloseReply()

    def _release(self) -> None:
        opened, self.opened = self.opened, None
        if opened is not None:
            opened.leave()
            opened.unit.release(self)
            opened.log.info("drive closed", cartridge=opened.barcode)

    def _get_state(self, _: m.TapeGetStateRequest) -> m.TapeGetStateReply:
        """Answered without I/O and without waiting: a stream may be using the drive."""
        opened = self.opened
        if opened is None:
            everything = TapeUnsupported(0)
            for bit in TapeUnsupported:
                everything |= bit
            return m.TapeGetStateReply(int(everything), ErrorCode.DEV_NOT_OPEN)
        self._close_failed = False
        return m.TapeGetStateReply(
            unsupported=int(_UNSUPPORTED),
            flags=int(opened.flags),
            file_num=_known(opened.file_number),
            soft_errors=UNKNOWN_32,
            block_size=0,
            blockno=_known(opened.block_number),
            total_space=UNKNOWN_64,
            space_remain=UNKNOWN_64,
        )

    def _mtio(self, request: m.TapeMtioRequest) -> m.TapeMtioReply:
        opened = self._ready("TAPE_MTIO")
        with self._answering(f"TAPE_MTIO {request.tape_op.name} {request.count}", opened):
            return m.TapeMtioReply(resid_count=self._operation(opened, request.tape_op, request.count))

    def _operation(self, opened: OpenDrive, operation: MtioOp, count: int) -> int:
        """Do it, and return how much was left to do."""
        match operation:
            case MtioOp.REW:
                opened.rewind()
            case MtioOp.OFF:
                opened.unload()
            case MtioOp.TUR:
                opened.test_ready()
            case _ if count == 0:
                return 0
            case MtioOp.EOF:
                opened.write_filemarks(_bounded(count))
            case MtioOp.FSF:
                return opened.space_filemarks(_bounded(count))
            case MtioOp.BSF:
                return opened.space_filemarks(-_bounded(count))
            case MtioOp.FSR:
                return opened.space_records(_bounded(count))
            case MtioOp.BSR:
                return opened.space_records(-_bounded(count))
        return 0

    def _write(self, request: m.TapeWriteRequest) -> m.TapeWriteReply:
        opened = self._ready("TAPE_WRITE")
        length = len(request.data_out)
        if opened.mode is TapeOpenMode.READ:
            raise RefusalError(ErrorCode.PERMISSION, f"{opened.unit.name} is open for reading only")
        if not length:
            return m.TapeWriteReply()
        _check_length(length)
        with self._answering("TAPE_WRITE", opened):
            try:
                opened.write(request.data_out)
            except LogicalEndError:
                return m.TapeWriteReply(ErrorCode.EOM)
        return m.TapeWriteReply(count=length)

    def _read(self, request: m.TapeReadRequest) -> m.TapeReadReply:
        opened = self._ready("TAPE_READ")
        if not request.count:
            return m.TapeReadReply()
        _check_length(request.count)
        with self._answering("TAPE_READ", opened):
            try:
                return m.TapeReadReply(data_in=opened.read(request.count))
            except FilemarkError:
                return m.TapeReadReply(ErrorCode.EOF)
            except BlankCheckError:
                return m.TapeReadReply(ErrorCode.EOM)

    def _execute_cdb(self, request: m.TapeExecuteCdbRequest) -> m.TapeExecuteCdbReply:
        opened = self._ready("TAPE_EXECUTE_CDB")
        effect = cdb.checked(cdb.DRIVE, request.flags, request.cdb, request.datain_length, request.dataout)
        with self._answering("TAPE_EXECUTE_CDB", opened):
            if effect is cdb.Effect.WRITES:
                opened.verify_writable()
            done = opened.execute(
                request.cdb,
                request.dataout,
                cdb.wanted(request.flags, request.datain_length),
                cdb.seconds(request.timeout),
                harmless=effect is cdb.Effect.ASKS,
            )
        return m.TapeExecuteCdbReply(
            status=done.status,
            dataout_length=len(request.dataout),
            datain=done.data,
            ext_sense=done.sense,
        )

    def _ready(self, request: str) -> OpenDrive:
        """The open drive, for a request that does something with it.  Raises RefusalError."""
        opened = self._free_drive(request)
        self._close_failed = False
        return opened

    def _free_drive(self, request: str = "TAPE_CLOSE") -> OpenDrive:
        opened = self.drive()
        if self.in_use():
            # Control of the drive has passed to the mover (draft, 2.3.5.1.3).
            raise RefusalError(ErrorCode.DEVICE_BUSY, f"{request}: the mover has {opened.unit.name}")
        return opened

    def _answering(self, request: str, opened: OpenDrive) -> Any:
        return self.reporter.answering(request, opened.unit, opened)


def _known(number: int | None) -> int:
    return UNKNOWN_32 if number is None else number & UNKNOWN_32


def _bounded(count: int) -> int:
    """A count that SPACE(6) and WRITE FILEMARKS(6) can carry in 24 bits, one of them for the sign."""
    if count > MAX_TRANSFER_6 >> 1:
        raise RefusalError(ErrorCode.ILLEGAL_ARGS, f"a count of {count} is beyond {MAX_TRANSFER_6 >> 1}")
    return count


def _check_length(length: int) -> None:
    if length > MAX_TRANSFER_6:
        raise RefusalError(ErrorCode.ILLEGAL_ARGS, f"no record has {length} bytes; {MAX_TRANSFER_6} at most")
