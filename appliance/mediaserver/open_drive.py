"""A drive that a session has open: TAPE requests and the mover's stream both go through here.

What NDMP wants and SCSI does not give is done here (draft-skardal-ndmpv4-04, 3.4.1 to 3.4.8): the tape
stays before a filemark that a read met; early warning fails one write and only one; data is followed by
a filemark; a cartridge whose barcode is not listed is not written.

After a read met a filemark the tape stands physically behind it, and here a flag says that it counts as
standing before it: most DMAs skip the mark next, and a real drive takes seconds to turn round.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

from appliance.mediaserver.early_warning import EarlyWarning
from appliance.mediaserver.leftovers import Leftovers
from appliance.mediaserver.libraries import Library, Unit, Whereabouts
from appliance.mediaserver.readiness import wait_until_ready
from appliance.ndmp.enums import ErrorCode, TapeFlag, TapeOpenMode
from appliance.ndmp.errors import RefusalError
from tape.alerts import alert_text
from tape.carry import Carried, Carrier, Peer
from tape.drive import Drive
from tape.errors import (
    BlankCheckError,
    CommandTimeoutError,
    DeviceError,
    EndOfMediumError,
    FilemarkError,
    HardwareError,
    IllegalRequestError,
    MediumError,
    NoMediumError,
    NotReadyError,
    TapeError,
    TransportError,
    UnitAttentionError,
    WriteProtectedError,
)
from tape.sense import Sense, SenseKey
from tape.transport import LANES, Completion, DataOut, Running

T = TypeVar("T")


class OpenDrive:
    """A drive, from TAPE_OPEN to TAPE_CLOSE.  Every method takes the drive's lock.

    Methods raise TapeError as the drive has it, and RefusalError(PERMISSION) for a write that the open
    mode or the list of writable barcodes forbids.

    Attributes:
        mode: as opened.
        barcode: of the cartridge, None when not known.
        media_error: the last operation ended with an error of medium or drive.

    """

    def __init__(
        self, library: Library, unit: Unit, mode: TapeOpenMode, log: Any, *, strict: bool = False
    ) -> None:
        """Raises TransportError when the drive is not there.  `strict`: filemarks as the draft has them."""
        self.mode = mode
        self.unit = unit
        self.lock = unit.lock
        self.barcode: str | None = None
        self.media_error = False
        self.log = log.bind(drive=unit.serial)
        self._library = library
        self._strict = strict
        self._transport = unit.open()
        self._drive = Drive(self._transport)
        self._moves = unit.moves
        self._reserved = False
        self._checked_size = 0
        self._leftovers = Leftovers()
        self._protected = False
        self._verified = False
        self._unmarked = False
        self._before_mark = False
        self._warning = EarlyWarning()

    # -- opening and closing -------------------------------------------------------------------------
    def prepare(self) -> None:
        """Do the I/O of TAPE_OPEN.  The tape is not moved, unless it was just loaded.

        Raises NoMediumError and NotReadyError (not in raw mode), WriteProtectedError and
        RefusalError(PERMISSION) for read/write mode.
        """
        with self.lock:
            try:
                attention = wait_until_ready(self._drive)
            except (NoMediumError, NotReadyError):
                if self.mode is not TapeOpenMode.RAW:
                    raise
                return
            self._set_up(attention)
        if self.mode is TapeOpenMode.RDWR:
            self.verify_writable()

    def _set_up(self, attention: bool) -> None:
        """Learn what is loaded and where it stands; records of variable length from now on."""
        self._moves = self.unit.moves
        self._verified = self._unmarked = self._before_mark = False
        self._warning.forget()
        if self._library.reserve:
            # Anew after a reset, which ends reservations.
            self._reserved = self._drive.reserve()
        try:
            self._drive.set_variable_block()
        except IllegalRequestError as error:
            self.log.warning("the drive does not take variable records", why=str(error))
        self._protected = self._drive.write_protected()
        self.barcode = self._look()
        last = self.unit.last_seen
        position = self._drive.position()
        if position is not None and position.bop:
            self._stand_at(0, 0)
        elif last is None or attention or last.barcode != self.barcode:
            self._stand_at(None, None)
            if position is None and self._is_another(last):
                # tgt and mhvtl keep the old position after a load (tape.md, fault 11).
                self._drive.rewind()
        elif position is None or position.block == last.block:
            self._stand_at(last.file_number, last.block_number)
        else:
            self._stand_at(None, None)

    def _is_another(self, last: Whereabouts | None) -> bool:
        return last is not None and self.barcode is not None and last.barcode != self.barcode

    def _stand_at(self, file_number: int | None, block_number: int | None) -> None:
        self._drive.file_number, self._drive.block_number = file_number, block_number

    def _look(self) -> str | None:
        """The cartridge's barcode; None, with a log line, when the changer does not tell."""
        try:
            return self._library.barcode_in(self.unit.serial)
        except TapeError as error:
            self.log.warning("the changer does not tell what is in the drive", why=str(error))
            return None

    def finish(self) -> None:
        """Do the I/O of TAPE_CLOSE: the implicit filemark, and a real position before a mark."""
        with self.lock:
            self._mark_if_needed()
            self._stand_before_mark()
            self.tell_alerts()

    def tell_alerts(self) -> None:
        """Log what the drive wants people to know (TapeAlert), cleaning among it; never fails."""
        with self.lock, contextlib.suppress(TapeError):
            for flag in self._drive.alerts():
                self.log.warning("drive alert", cartridge=self.barcode, flag=flag, text=alert_text(flag))

    def leave(self) -> None:
        """Give the path up, noting where the tape stands; never fails."""
        with self.lock:
            self._remember()
            self._leftovers.undo(self._transport)
            if self._reserved:
                with contextlib.suppress(TapeError):
                    self._drive.release()
            self.unit.close()

    def _remember(self) -> None:
        try:
            position = self._drive.position()
        except TapeError:
            self.unit.last_seen = None
            return
        block = position.block if position is not None else None
        numbers = (None, None) if self._before_mark else (self._drive.file_number, self._drive.block_number)
        self.unit.last_seen = Whereabouts(self.barcode, block, *numbers)

    # -- may we write? -------------------------------------------------------------------------------
    def verify_writable(self) -> None:
        """Make sure that this cartridge may be written.

        Raises RefusalError(PERMISSION) for read mode and for a cartridge that is not listed,
        WriteProtectedError for a set tab.
        """
        if self.mode is TapeOpenMode.READ:
            raise RefusalError(ErrorCode.PERMISSION, f"{self.unit.name} is open for reading only")
        with self.lock:
            self._notice_moves()
            if self._verified:
                return
            if self.barcode is None:
                self.barcode = self._look()
            if self.barcode not in self._library.writable:
                self._refuse()
            if self._protected:
                raise WriteProtectedError("the cartridge's tab is set", device=self.unit.name)
            self._verified = True

    def _verify_unmoved(self) -> None:
        """As `verify_writable`; raises UnitAttentionError besides when a robot was here since."""
        moved = self._moves != self.unit.moves
        self.verify_writable()
        if moved:
            raise self._another_cartridge()

    def _refuse(self) -> None:
        which = f"cartridge {self.barcode}" if self.barcode else "a cartridge whose barcode is not known"
        text = f"{which} in {self.unit.name} is not listed as writable in the configuration"
        self.log.warning("write refused", cartridge=self.barcode, why=text)
        raise RefusalError(ErrorCode.PERMISSION, text)

    # -- records -------------------------------------------------------------------------------------
    def read(self, count: int) -> bytes:
        """One record, at most `count` bytes of it.

        Raises FilemarkError, the tape then counts as standing before the mark; BlankCheckError at the end
        of data.
        """
        with self.lock:
            return self._operate(lambda: self._reading(lambda: self._drive.read(count)))

    def begin_read(self, lane: memoryview) -> Running:
        """Begin to read one record into a lane, for the mover: exact record sizes only (tape.md, fault 1).

        The drive's lock is held until `end_read`, by the same thread, whatever becomes of it.  Raises as
        `read`, without the lock then.
        """
        return self._beginning(lambda: self._reading(lambda: self._drive.begin_read(lane)))

    def end_read(self, running: Running) -> int:
        """Wait for the end of a read that was begun, and return the bytes of the record.

        Raises as `read`, and DeviceError for a record longer than the lane: its end would be lost.
        """
        try:
            count = self._judged(lambda: self._reading(lambda: self._drive.end_read(running)), patient=False)
            actual = self._drive.last_record_length
            if actual > running.length:
                what = f"the record has {actual} bytes, the mover's record size is {running.length}"
                raise DeviceError(what, device=self._drive.name)
            return count
        finally:
            self.lock.release()

    def send_records(self, carrier: Carrier, running: Running, peer: Peer, count: int) -> Carried:
        """From tape to a socket, by the `carrier`; see there.

        The drive's lock is held, as from `begin_read`, for as long as there is a command in what is returned.
        """
        carried = carrier.send_records(running, peer, count)
        self._drive.note_carried(carried, running.length, read=True)
        if carried.running is None:
            self.lock.release()
        return carried

    def _beginning(self, action: Callable[[], Running]) -> Running:
        """Begin a command, the lock held from now on; not when this raises."""
        self.lock.acquire()
        try:
            return self._operate(action, patient=False)
        except BaseException:
            self.lock.release()
            raise

    def _reading(self, read: Callable[[], T]) -> T:
        if self._before_mark:
            raise FilemarkError("the tape stands before a filemark", device=self._drive.name)
        try:
            return read()
        except FilemarkError:
            self._before_mark = True
            raise

    def write(self, record: DataOut) -> None:
        """Write one record.

        Raises LogicalEndError once after early warning, EndOfMediumError when the tape is full.
        """
        with self.lock:
            self._may_write()
            self._wrote(
                self._operate(lambda: self._writing(lambda: self._drive.write(record)), patient=False)
            )

    def begin_write(self, lane: memoryview) -> Running:
        """Begin to write a record that is in a lane, for the mover.

        The drive's lock is held until `end_write`, by the same thread, whatever becomes of it.  Raises as
        `write`, without the lock then.
        """
        with self.lock:
            self._may_write()
            return self._beginning(lambda: self._writing(lambda: self._drive.begin_write(lane)))

    def end_write(self, running: Running) -> None:
        """Wait for the end of a write that was begun.  Raises as `write`."""
        try:
            self._wrote(self._judged(lambda: self._drive.end_write(running), patient=False))
        finally:
            self.lock.release()

    def receive_records(
        self, carrier: Carrier, running: Running, peer: Peer, odd: int, count: int
    ) -> Carried:
        """From a socket to tape, by the `carrier`; see there, and `send_records`."""
        carried = carrier.receive_records(running, peer, odd, count)
        self._drive.note_carried(carried, running.length, read=False)
        if carried.records:
            self._wrote(early=False)
        if carried.running is None:
            self.lock.release()
        return carried

    def _may_write(self) -> None:
        self._verify_unmoved()
        self._warning.tell(self._drive.name)

    def _wrote(self, early: bool) -> None:
        self._unmarked = True
        if early:
            self._warning.met()

    def _writing(self, write: Callable[[], T]) -> T:
        self._stand_before_mark()
        return write()

    def write_filemarks(self, count: int) -> None:
        """Write filemarks; early warning is no error (draft, 3.4.5, NDMP_MTIO_EOF)."""
        with self.lock:
            self._verify_unmoved()
            self._operate(lambda: self._marking(count), patient=False)

    def _marking(self, count: int) -> None:
        self._stand_before_mark()
        self._drive.write_filemarks(count)
        self._unmarked = False

    def _mark_if_needed(self) -> None:
        if not self._unmarked:
            return
        self._unmarked = False
        try:
            self._drive.write_filemarks(1)
        except EndOfMediumError as error:
            # A full tape needs no mark: the end of data follows.  REW must not fail for that.
            self.log.info("no room for the implicit filemark", cartridge=self.barcode, why=str(error))

    # -- moving --------------------------------------------------------------------------------------
    def rewind(self) -> None:
        """Go to the beginning, after the implicit filemark."""
        with self.lock:
            self._operate(self._rewinding)

    def _rewinding(self) -> None:
        self._mark_if_needed()
        self._drive.rewind()
        self._before_mark = False
        self._warning.forget()

    def unload(self) -> None:
        """Eject the cartridge, after the implicit filemark: what follows it would be lost as on rewind."""
        with self.lock:
            self._operate(self._unloading)

    def _unloading(self) -> None:
        self._mark_if_needed()
        self._drive.unload()
        self._verified = self._before_mark = False
        self._warning.forget()
        self.barcode = None

    def test_ready(self) -> None:
        """Raise NoMediumError or NotReadyError unless the drive could do I/O now."""
        with self.lock:
            self._notice_moves()
            try:
                self._drive.test_ready()
            except UnitAttentionError:
                self._settle()

    def space_filemarks(self, count: int) -> int:
        """Pass filemarks, backwards if negative; return how many were left.

        Forwards the tape then stands behind the last mark, backwards before it.
        """
        with self.lock:
            self._mark_if_strict()
            left = self._operate(lambda: self._spacing_filemarks(count))
            self._moved(count, left)
            return left

    def _spacing_filemarks(self, count: int) -> int:
        if count and self._before_mark:
            # The mark before which the tape counts as standing has physically been passed.
            self._before_mark = False
            count -= 1
            if count == 0:
                return 0
            left = self._space(self._drive.space_filemarks, count)
            # Backwards, the mark that never was passed for the DMA is not part of what is left.
            return left if count > 0 else min(left, -count - 1)
        return self._space(self._drive.space_filemarks, count)

    def space_records(self, count: int) -> int:
        """Pass records, backwards if negative; return how many were left.

        A filemark stops it, on the side it came from (draft, 3.4.5); so do end of data and the beginning
        of the tape: `stopped_at_mark` tells which.
        """
        with self.lock:
            self._mark_if_strict()
            left = self._operate(lambda: self._spacing_records(count))
            self._moved(count, left)
            return left

    @property
    def stopped_at_mark(self) -> bool:
        """Whether the tape counts as standing before a filemark."""
        return self._before_mark

    def _spacing_records(self, count: int) -> int:
        if self._before_mark:
            if count > 0:
                return count
            self._stand_before_mark()
        left = self._space(self._drive.space_records, count)
        if left and isinstance(self._drive.last_stop, FilemarkError):
            if count > 0:
                self._before_mark = True
            else:
                self._drive.space_filemarks(1)
        return left

    def _space(self, space: Callable[[int], int], count: int) -> int:
        """Space; where a drive stops and does not say how far it came, a count of one is still exact."""
        try:
            return space(count)
        except (FilemarkError, BlankCheckError, EndOfMediumError):
            if abs(count) != 1:
                raise
            return 1

    def _moved(self, count: int, left: int) -> None:
        if abs(count) != left:
            self._unmarked = False
            if count < 0:
                self._warning.forget()

    def _mark_if_strict(self) -> None:
        if self._strict:
            self._operate(self._mark_if_needed)

    def _stand_before_mark(self) -> None:
        """Have the tape stand physically where it counts as standing."""
        if self._before_mark:
            self._before_mark = False
            self._drive.space_filemarks(-1)

    # -- everything else -----------------------------------------------------------------------------
    def execute(
        self, cdb: bytes, data_out: bytes, data_in_length: int, timeout_s: float, *, harmless: bool
    ) -> Completion:
        """Deliver a DMA's own command.

        Unless it is `harmless` (asks only), the position is not known afterwards (draft, 3.4.1), and the
        cartridge is looked at again before the next write.
        """
        with self.lock:
            self._stand_before_mark()
            done = self._transport.execute(
                cdb, data_out=data_out, data_in_length=data_in_length, timeout_s=timeout_s
            )
            self._leftovers.note(cdb, done)
            told = Sense.parse(done.sense).key == SenseKey.UNIT_ATTENTION
            if told or not harmless:
                self._stand_at(None, None)
                self._verified = False
                self.barcode = None
            return done

    def check_record(self, size: int) -> None:
        """See that records of this size can be moved; asked once for each size.  Raises TapeError."""
        with self.lock:
            if size != self._checked_size:
                self._drive.check_record(size)
                self._checked_size = size
            for lane in self.lanes(size):
                lane.release()

    @property
    def overlaps(self) -> bool:
        """Whether a read or write that was begun runs by itself."""
        return self._transport.overlaps

    @property
    def carrier(self) -> Carrier | None:
        """What carries many records between lanes and a socket in one call; None: nothing does."""
        return self._transport.carrier

    def lanes(self, size: int) -> list[memoryview]:
        """The memory that this drive moves fastest, twice.  Raises TapeError when it cannot move so much."""
        with self.lock:
            return [self._transport.buffer(size, lane) for lane in range(LANES)]

    def where(self, error: TapeError) -> str:
        """Where the tape stands, in words, after an error; never fails.

        A drive that does not answer is not asked again: it would take as long once more.
        """
        if not isinstance(error, TransportError | CommandTimeoutError | NotReadyError):
            with self.lock, contextlib.suppress(TapeError):
                position = self._drive.position()
                if position is not None:
                    return f"block {position.block}"
        if self.file_number is not None and self.block_number is not None:
            return f"file {self.file_number} record {self.block_number}"
        return "not known"

    def buffered(self) -> int | None:
        """Objects that the drive took and has not written; None when it does not tell.  Never fails."""
        with self.lock:
            try:
                position = self._drive.position()
            except TapeError:
                return None
        return position.buffered if position is not None else None

    @property
    def file_number(self) -> int | None:
        """Filemarks between the beginning and here; None when not known.  Takes no lock."""
        number = self._drive.file_number
        if number is None or not self._before_mark:
            return number
        return number - 1

    @property
    def block_number(self) -> int | None:
        """Records between the last filemark and here; None when not known.  Takes no lock."""
        return None if self._before_mark else self._drive.block_number

    @property
    def flags(self) -> TapeFlag:
        """Flags of TAPE_GET_STATE, as last known.  Takes no lock."""
        flags = TapeFlag.NOREWIND
        if self._protected:
            flags |= TapeFlag.WR_PROT
        if self.media_error:
            flags |= TapeFlag.ERROR
        return flags

    def _operate(self, action: Callable[[], T], *, patient: bool = True) -> T:
        """Do something, again after a change that the drive told of first if `patient`.

        A write is not repeated: the cartridge may be another one now.
        """
        self.media_error = False
        if self._notice_moves() and not patient:
            raise self._another_cartridge()
        return self._judged(action, patient=patient)

    def _judged(self, action: Callable[[], T], *, patient: bool) -> T:
        """Do something, and note what its error means for what is known of cartridge and position."""
        try:
            return action()
        except (UnitAttentionError, NotReadyError):
            self._settle()
            if not patient:
                raise
        except (MediumError, HardwareError) as error:
            self.media_error = True
            # Whoever wrote is told; a mark that is tried here again would make REW fail, too.
            self._unmarked = self._unmarked and isinstance(error, HardwareError)
            raise
        return action()

    def _notice_moves(self) -> bool:
        """See whether a robot was in this drive since; some drives say nothing of it (tape.md, fault 11)."""
        if self._moves == self.unit.moves:
            return False
        self._settle()
        return True

    def _another_cartridge(self) -> UnitAttentionError:
        """What a drive says that tells of it: who writes next believes in another cartridge or position."""
        what = "a robot was in the drive since the last command; nothing was written"
        return UnitAttentionError(what, device=self._drive.name)

    def _settle(self) -> None:
        """Start anew after a reset or a change of the cartridge."""
        self._moves = self.unit.moves
        self._verified = False
        self.barcode = None
        wait_until_ready(self._drive)
        self._set_up(attention=True)


__all__ = ["OpenDrive"]
