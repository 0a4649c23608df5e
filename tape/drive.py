"""A tape drive, in variable-block mode: one WRITE makes one record, one READ gives one (SSC-4).

What a drive says through sense data becomes a return value where it is part of normal work (early
warning, a record shorter than asked, a space that ended early), and a typed error otherwise.

Two lengths are told apart.  The drive's own account of a record's length is the INFORMATION field of
ILI sense, never the transport's residual: behind QEMU's iSCSI that is always 0 (tape.md, A).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache

from tape.alerts import parse_alerts
from tape.carry import Carried
from tape.commands import (
    ERASE_6,
    LOAD_UNLOAD,
    LOCATE_10,
    LOG_SENSE,
    MAX_TRANSFER_6,
    MODE_SELECT_6,
    MODE_SENSE_6,
    READ_6,
    READ_BLOCK_LIMITS,
    READ_POSITION,
    RELEASE_6,
    REPORT_LUNS,
    RESERVE_6,
    REWIND,
    SPACE_6,
    SPACE_CODE_BLOCKS,
    SPACE_CODE_END_OF_DATA,
    SPACE_CODE_FILEMARKS,
    WRITE_6,
    WRITE_FILEMARKS_6,
    name_of,
)
from tape.device import ScsiDevice
from tape.drive_data import (
    LIMITS_FIELDS,
    LIMITS_LENGTH,
    MODE_FIELDS,
    MODE_LENGTH,
    POSITION_FIELDS,
    POSITION_LENGTH,
    BlockLimits,
    Position,
)
from tape.errors import (
    BlankCheckError,
    CommandTimeoutError,
    DeviceError,
    EndOfMediumError,
    FilemarkError,
    IllegalRequestError,
    RecordSizeError,
    TapeMisuseError,
    TransportError,
)
from tape.fields import decode_fields
from tape.sense import Sense, SenseKey, error_for
from tape.transport import Completion, DataOut, Running, ScsiStatus, Transport

__all__ = ["BlockLimits", "Drive", "Position"]

# An LTO drive may wind its whole tape (two minutes) and retry on the way; LTO manuals ask for up to
# 25 minutes for READ and WRITE with error recovery.
TRANSFER_TIMEOUT_S = 1500.0
# LOCATE and SPACE over a full LTO tape with recovery; LTO manuals ask for up to 40 minutes.
MOVE_TIMEOUT_S = 2700.0
# A long erase of a whole LTO tape; LTO manuals ask for up to 5 hours, later generations more.
ERASE_TIMEOUT_S = 12 * 3600.0

# Every host adapter carries so much; asking would only cost a command.
_CARRIED_BYTES = 64 * 1024
_PAGE_TAPE_ALERT = 0x2E
# 64 flags of 5 bytes, and a header.
_LOG_LENGTH = 512


class Drive(ScsiDevice):
    """One tape drive.

    After construction or a reset call `wait_ready`, which takes note of unit attentions; any other
    method raises UnitAttentionError if one is pending, since the position may be lost.

    Attributes:
        file_number: filemarks between the beginning of the tape and here; None when not known.
        block_number: records between the last filemark and here; None when not known.
        last_record_length: true length of the last record read, also when it was longer than asked.
        last_stop: the error that ended the last space early; None if it went all the way.

    """

    def __init__(
        self,
        transport: Transport,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(transport, now=now, sleep=sleep)
        self.file_number: int | None = None
        self.block_number: int | None = None
        self.last_record_length = 0
        self.last_stop: DeviceError | None = None

    # -- records -------------------------------------------------------------------------------------
    def read(self, length: int) -> bytes:
        """Read one record and return its first `length` bytes, or all of it if it is shorter.

        `last_record_length` then holds its true length, so that a caller can tell a record that was
        cut.  The tape stands behind the record in either case.

        Raises:
            FilemarkError: a filemark came instead; the tape stands behind it.
            BlankCheckError: end of data.
            TapeMisuseError: `length` outside 1 to MAX_TRANSFER_6.

        """
        cdb = self._read_cdb(length)
        done = self.transport.execute(cdb, data_in_length=length, timeout_s=TRANSFER_TIMEOUT_S)
        return done.data[: self._record_read(done, cdb, length)]

    def read_into(self, buffer: memoryview) -> int:
        """Read one record into `buffer` and return the number of bytes in it, as `read` otherwise.

        With a buffer that the transport gave (`Transport.buffer`), nothing is copied.
        """
        cdb = self._read_cdb(len(buffer))
        done = self.transport.execute_into(cdb, buffer, TRANSFER_TIMEOUT_S)
        return self._record_read(done, cdb, len(buffer))

    def begin_read(self, lane: memoryview) -> Running:
        """Begin what `read_into` does, into a buffer that the transport gave; `end_read` ends it."""
        return self.transport.begin(self._read_cdb(len(lane)), lane, out=False, timeout_s=TRANSFER_TIMEOUT_S)

    def end_read(self, running: Running) -> int:
        """Wait for the end of a read that was begun; result and errors are those of `read_into`."""
        return self._record_read(running.finish(), running.cdb, running.length)

    def note_carried(self, carried: Carried, length: int, *, read: bool) -> None:
        """Take note of whole records of this length that the transport's carrier has read or written."""
        records = carried.records + (read and carried.held is not None)
        self._advance_blocks(records)
        if read and records:
            self.last_record_length = length

    @staticmethod
    @lru_cache(maxsize=16)
    def _read_cdb(length: int) -> bytes:
        """Return a READ of one variable-length record, with SILI off so that its length is reported."""
        if not 0 < length <= MAX_TRANSFER_6:
            raise TapeMisuseError(f"cannot read {length} bytes; 1 to {MAX_TRANSFER_6} are possible")
        return READ_6.cdb(transfer_length=length)

    def _record_read(self, done: Completion, cdb: bytes, length: int) -> int:
        """Judge the end of a READ, and return the number of valid bytes."""
        actual = length
        if done.status != ScsiStatus.GOOD:
            actual = self._length_from_sense(done, cdb, length)
        self._advance_blocks(1)
        self.last_record_length = actual
        return min(actual, length)

    def _length_from_sense(self, done: Completion, cdb: bytes, length: int) -> int:
        """Return the length of a record that was not as long as asked; raise for anything else."""
        error = error_for(done, self.name, name_of(cdb))
        sense = error.sense if error is not None else None
        if error is None:
            return length
        if sense is None or not self._is_record(sense):
            self._lose_track(error)
            raise error
        if not sense.ili:
            return length
        actual = length - (sense.information or 0)
        if sense.information is None or not 0 <= actual <= MAX_TRANSFER_6:
            self._lose_track(error)
            raise error
        return actual

    @staticmethod
    def _is_record(sense: Sense) -> bool:
        """Tell whether a record was transferred: nothing wrong but its length, or early warning."""
        harmless = sense.key in (SenseKey.NO_SENSE, SenseKey.RECOVERED_ERROR)
        return harmless and not sense.filemark and not sense.deferred and (sense.ili or sense.eom)

    def write(self, record: DataOut) -> bool:
        """Write one record, and return True if the drive gave early warning with it.

        Early warning means: the record is on the tape, little room is left.

        Raises:
            EndOfMediumError: the tape is full, and the record was not written.
            WriteProtectedError: as it says.
            TapeMisuseError: the record is empty or longer than MAX_TRANSFER_6.

        """
        cdb = self._write_cdb(len(record))
        done = self.transport.execute(cdb, data_out=record, timeout_s=TRANSFER_TIMEOUT_S)
        return self._record_written(done, cdb, len(record))

    def begin_write(self, lane: memoryview) -> Running:
        """Begin what `write` does, from a buffer that the transport gave; `end_write` ends it."""
        return self.transport.begin(self._write_cdb(len(lane)), lane, out=True, timeout_s=TRANSFER_TIMEOUT_S)

    def end_write(self, running: Running) -> bool:
        """Wait for the end of a write that was begun; result and errors are those of `write`."""
        return self._record_written(running.finish(), running.cdb, running.length)

    @staticmethod
    @lru_cache(maxsize=16)
    def _write_cdb(length: int) -> bytes:
        if not 0 < length <= MAX_TRANSFER_6:
            raise TapeMisuseError(f"cannot write {length} bytes; 1 to {MAX_TRANSFER_6} are possible")
        return WRITE_6.cdb(transfer_length=length)

    def _record_written(self, done: Completion, cdb: bytes, length: int) -> bool:
        early_warning = self._written(done, cdb, length)
        self._advance_blocks(1)
        return early_warning

    def write_filemarks(self, count: int = 1) -> bool:
        """Write filemarks, and return True on early warning.  0 only flushes the drive's buffer.

        Raises:
            EndOfMediumError: no room.

        """
        cdb = WRITE_FILEMARKS_6.cdb(count=count)
        done = self.transport.execute(cdb, timeout_s=TRANSFER_TIMEOUT_S)
        early_warning = self._written(done, cdb, count)
        self._advance_files(count)
        return early_warning

    def _written(self, done: Completion, cdb: bytes, amount: int) -> bool:
        """Judge the end of a write, and return whether it was early warning.

        SSC-4, 4.2.5: NO SENSE with EOM and what was left undone as information, so that all of it
        undone means that nothing was written.  A deferred report is about an earlier command.
        """
        if done.status == ScsiStatus.GOOD:
            return False
        error = error_for(done, self.name, name_of(cdb))
        if error is None:
            return False
        sense = error.sense
        if isinstance(error, EndOfMediumError) and sense is not None:
            harmless = sense.key in (SenseKey.NO_SENSE, SenseKey.RECOVERED_ERROR)
            if harmless and not sense.deferred and (sense.information or 0) < max(amount, 1):
                return True
        self._lose_track(error)
        raise error

    def erase(self, *, whole: bool = False) -> None:
        """Make this place the end of data (ERASE, SSC-4, 5.2).

        Args:
            whole: overwrite all the tape behind it, which takes hours; else only a mark is written.

        Raises:
            WriteProtectedError: the tab is set, or the medium can be written once only.
            IllegalRequestError: the drive cannot erase.

        """
        self._command(ERASE_6.cdb(long=int(whole)), timeout_s=ERASE_TIMEOUT_S)

    # -- moving --------------------------------------------------------------------------------------
    def rewind(self) -> None:
        """Go to the beginning of the tape (SSC-4, 7.8)."""
        self._forget_position()
        self._command(REWIND.cdb(), timeout_s=MOVE_TIMEOUT_S)
        self._at_beginning()

    def space_filemarks(self, count: int) -> int:
        """Pass `count` filemarks, backwards if negative, and return how many were left to pass.

        Forwards the tape then stands behind the last one, backwards before it (towards the beginning).
        A rest means that the end of data or the beginning of the tape was met: see `last_stop`.

        Raises:
            DeviceError: stopped early and the drive does not say how far it came (tgt: fault 8).

        """
        left = self._space(SPACE_CODE_FILEMARKS, count)
        moved = abs(count) - left
        if self.file_number is not None:
            self.file_number += moved if count > 0 else -moved
        if count > 0 and not left:
            self.block_number = 0
        elif count:
            self.block_number = None
        if count < 0 and left:
            self._at_beginning()
        return left

    def space_records(self, count: int) -> int:
        """Pass `count` records, backwards if negative, and return how many were left to pass.

        A filemark stops it, and has then been passed itself; so do end of data and the beginning of
        the tape: see `last_stop`.

        Raises:
            DeviceError: stopped early and the drive does not say how far it came.

        """
        left = self._space(SPACE_CODE_BLOCKS, count)
        moved = abs(count) - left
        if isinstance(self.last_stop, FilemarkError) and count > 0:
            self._advance_files(1)
        elif isinstance(self.last_stop, FilemarkError):
            self.block_number = None
            if self.file_number is not None:
                self.file_number -= 1
        elif isinstance(self.last_stop, EndOfMediumError):
            self._at_beginning()
        else:
            self._advance_blocks(moved if count > 0 else -moved)
        return left

    def space_end_of_data(self) -> None:
        """Go behind the last record or filemark, ready to append.  File and block are then unknown."""
        self._forget_position()
        self._command(SPACE_6.cdb(code=SPACE_CODE_END_OF_DATA), timeout_s=MOVE_TIMEOUT_S)

    def _space(self, code: int, count: int) -> int:
        """Space, and return the rest if a mark, the end of data or the beginning of the tape stopped it."""
        self.last_stop = None
        try:
            self._command(SPACE_6.cdb(code=code, count=count), timeout_s=MOVE_TIMEOUT_S)
        except (FilemarkError, BlankCheckError, EndOfMediumError) as error:
            information = error.sense.information if error.sense is not None else None
            # Devices differ in the sign they give the rest of a backward space; its size is the same.
            if information is None or abs(information) > abs(count):
                self._forget_position()
                raise
            self.last_stop = error
            return abs(information)
        except DeviceError as error:
            self._lose_track(error)
            raise
        return 0

    def locate(self, block: int) -> None:
        """Go to the object with this number, as `position` reports it (SSC-4, 7.3).

        Raises:
            BlankCheckError: it lies behind the end of data, where the tape then stands.
            IllegalRequestError: the drive cannot locate.

        """
        self._forget_position()
        self._command(LOCATE_10.cdb(block=block), timeout_s=MOVE_TIMEOUT_S)
        if block == 0:
            self._at_beginning()

    def load(self) -> None:
        """Thread the cartridge that lies in the drive, and go to its beginning (SSC-4, 7.2)."""
        self._forget_position()
        self._command(LOAD_UNLOAD.cdb(load=1), timeout_s=MOVE_TIMEOUT_S)
        self._at_beginning()

    def unload(self) -> None:
        """Rewind and eject, so that a changer can take the cartridge out (SSC-4, 7.2)."""
        self._forget_position()
        self._command(LOAD_UNLOAD.cdb(load=0), timeout_s=MOVE_TIMEOUT_S)

    # -- other hosts ---------------------------------------------------------------------------------
    def reserve(self) -> bool:
        """Keep every other host off the drive (RESERVE, SPC-2, 7.21), and return whether it can do that.

        The reservation ends by `release`, a reset, or when this host is lost to the drive.

        Raises:
            ReservationConflictError: another host has it.

        """
        try:
            self._command(RESERVE_6.cdb())
        except IllegalRequestError:
            return False
        return True

    def release(self) -> None:
        """Let other hosts at the drive again (RELEASE, SPC-2, 7.16)."""
        self._command(RELEASE_6.cdb())

    # -- asking --------------------------------------------------------------------------------------
    def position(self) -> Position | None:
        """Return where the tape stands by the drive's own account (SSC-4, 7.6).

        None where the drive has no such account: command unknown, location unknown, or a number
        beyond the short form's 32 bits.
        """
        try:
            done = self._command(READ_POSITION.cdb(), data_in_length=POSITION_LENGTH)
        except IllegalRequestError:
            return None
        values = decode_fields(POSITION_FIELDS, done.data)
        if len(done.data) < POSITION_LENGTH or values["location_unknown"] or values["position_error"]:
            return None
        buffered = None if values["count_unknown"] else max(0, values["first_block"] - values["last_block"])
        return Position(values["first_block"], bool(values["bop"]), bool(values["eop"]), buffered)

    def alerts(self) -> tuple[int, ...]:
        """Return the TapeAlert flags that are set, which resets them; none where there is no such page."""
        cdb = LOG_SENSE.cdb(pc=1, page_code=_PAGE_TAPE_ALERT, allocation_length=_LOG_LENGTH)
        try:
            return parse_alerts(self._command(cdb, data_in_length=_LOG_LENGTH).data)
        except IllegalRequestError:
            return ()

    def block_limits(self) -> BlockLimits:
        """Return the record lengths the drive says it takes; some take more, some less (tape.md)."""
        done = self._command(READ_BLOCK_LIMITS.cdb(), data_in_length=LIMITS_LENGTH)
        values = decode_fields(LIMITS_FIELDS, done.data)
        return BlockLimits(values["minimum"], values["maximum"], values["granularity"])

    def check_record(self, length: int) -> None:
        """See that records of this length can be written, without writing one.

        The drive's word is READ BLOCK LIMITS.  What the host adapter carries in one command nothing tells
        (tape.md, B: BLKSECTGET is no guide), so a command that only asks is sent with as much room for its
        answer: REPORT LUNS, whose allocation length has 32 bits (SPC-4, 6.33).

        Raises:
            RecordSizeError: they cannot; the text says what can be.

        """
        self._check_limits(length)
        if length > _CARRIED_BYTES:
            self._check_path(length)

    def _check_limits(self, length: int) -> None:
        try:
            limits = self.block_limits()
        except IllegalRequestError:
            return
        most = limits.maximum or MAX_TRANSFER_6
        if not limits.minimum <= length <= most or length % (1 << limits.granularity):
            step = f" in steps of {1 << limits.granularity}" if limits.granularity else ""
            raise RecordSizeError(
                f"no record of {length} bytes: the drive takes {limits.minimum} to {most}{step}",
                device=self.name,
            )

    def _check_path(self, length: int) -> None:
        cdb = REPORT_LUNS.cdb(allocation_length=length)
        try:
            buffer = self.transport.buffer(length)
            try:
                self.transport.execute_into(cdb, buffer)
            finally:
                buffer.release()
        except CommandTimeoutError:
            raise
        except TransportError as error:
            raise RecordSizeError(
                f"no record of {length} bytes: the way to the drive does not carry so many ({error.what})",
                device=self.name,
            ) from error

    def write_protected(self) -> bool:
        """Return whether the cartridge refuses to be written (WP of MODE SENSE, SSC-4, 8.3)."""
        return bool(decode_fields(MODE_FIELDS, self._mode())["write_protected"])

    def set_variable_block(self) -> None:
        """Choose variable-length records: MODE SELECT with block length 0, density and buffering kept.

        Raises:
            IllegalRequestError: the drive knows fixed blocks only.

        """
        values = decode_fields(MODE_FIELDS, self._mode())
        parameters = bytearray(MODE_LENGTH)
        MODE_FIELDS["buffered_mode"].put(parameters, values["buffered_mode"])
        MODE_FIELDS["descriptor_length"].put(parameters, 8)
        if values["descriptor_length"]:
            MODE_FIELDS["density"].put(parameters, values["density"])
        self._command(MODE_SELECT_6.cdb(pf=1, parameter_list_length=MODE_LENGTH), data_out=bytes(parameters))

    def _mode(self) -> bytes:
        """Return mode header and block descriptor.  Page 0 is what the st driver asks for as well."""
        cdb = MODE_SENSE_6.cdb(allocation_length=MODE_LENGTH)
        return self._command(cdb, data_in_length=MODE_LENGTH).data

    # -- keeping track -------------------------------------------------------------------------------
    def _at_beginning(self) -> None:
        self.file_number = self.block_number = 0

    def _forget_position(self) -> None:
        self.file_number = self.block_number = None

    def _advance_blocks(self, count: int) -> None:
        if self.block_number is not None:
            self.block_number += count

    def _advance_files(self, count: int) -> None:
        if count and self.file_number is not None:
            self.file_number += count
        if count:
            self.block_number = 0

    def _lose_track(self, error: DeviceError) -> None:
        """Update the account after an error: some leave the tape where it was, one passes a filemark."""
        if isinstance(error, FilemarkError):
            self._advance_files(1)
        elif not isinstance(error, BlankCheckError | EndOfMediumError | IllegalRequestError):
            self._forget_position()
