"""From the data connection to tape: mover mode READ (draft-skardal-ndmpv4-04, 3.6.2.4).

While the drive writes one record, the next is received into the other lane.  There is never more than one
command at the drive: real drives carry out what is queued behind a write that failed.  So a record is begun
only when the one before is known to be on tape, and what failed is written again before it.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from collections.abc import Callable
from dataclasses import dataclass

from appliance.mediaserver.mover_stream import MoverStream, StreamEnded
from appliance.mediaserver.open_drive import OpenDrive
from appliance.ndmp.enums import MoverHaltReason, MoverPauseReason
from appliance.ndmp.errors import RefusalError
from tape.carry import CALL_BYTES
from tape.errors import EndOfMediumError, HardwareError, MediumError, TapeError
from tape.transport import LANES, Running


@dataclass(frozen=True, slots=True)
class _Write:
    """A record that the drive has; the drive's lock is held until its end is known.

    Attributes:
        count: bytes of the image in it.

    """

    drive: OpenDrive
    running: Running
    count: int


class BackupStream(MoverStream):
    """From the data connection to tape: mover mode READ.

    `_filling` is the lane for what comes next, `_filled` how much of it is there; a record that is being
    written is in the other one.
    """

    _bad_spots = 0
    _filling = 0
    _filled = 0
    _writing: _Write | None = None

    def transfer(self) -> MoverHaltReason:
        """Write records until the data server closes the connection; the last one is padded."""
        try:
            while count := self._fill():
                self._pad(count)
                self._finish()
                self._put(count)
                self._filled = 0
                if count < self.record_size:
                    break
                self._carry()
            self._finish()
        finally:
            self._let_end()
        return MoverHaltReason.CONNECT_CLOSED

    # -- from the connection ---------------------------------------------------------------------------
    def _fill(self) -> int:
        """Receive the rest of a record into the lane; less at the end of the connection."""
        try:
            while self._filled < self.record_size:
                got = self._receive()
                if not got:
                    break
                self._filled += got
        except OSError as error:
            raise self._connection_broke(error) from error
        except TapeError as error:
            raise self.medium_failed(error) from error
        if self.ended:
            raise StreamEnded(None)
        return self._filled

    def _connection_broke(self, error: OSError) -> StreamEnded:
        """To be raised: a reset is no proper end, what came before it is no whole image."""
        self.log.warning("data connection broke", why=str(error))
        return StreamEnded(None if self.ended else MoverHaltReason.CONNECT_ERROR)

    def _receive(self) -> int:
        """Receive some of the record, 0 at the end; a write that ends meanwhile is seen to at once."""
        while self._writing is not None:
            try:
                return self.connection.recv_into(self._room(), 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                self._wait_for_either(self._writing.running)
        return self.connection.recv_into(self._room(), 0, socket.MSG_WAITALL)

    def _room(self) -> memoryview:
        return self.lane(self._filling)[self._filled :]

    def _wait_for_either(self, running: Running) -> None:
        """Wait for the connection or the drive, which nobody else gets before its end is taken note of."""
        assert running.descriptor is not None
        poller = select.poll()
        poller.register(self.connection, select.POLLIN)
        poller.register(running.descriptor, select.POLLIN)
        if any(descriptor == running.descriptor for descriptor, _ in poller.poll()):
            self._end()

    def _pad(self, count: int) -> None:
        if count < self.record_size:
            self.lane(self._filling)[count:] = bytes(self.record_size - count)

    # -- to the drive ----------------------------------------------------------------------------------
    def _carry(self) -> None:
        """Receive and write many whole records in one call, where the drive can.  Raises StreamEnded."""
        write, size = self._writing, self.record_size
        if write is None or write.count < size:
            return
        carrier = write.drive.carrier
        with self.service.lock:
            room = self.variables.window.room(self.variables.bytes_in_window)
        # One more is begun than is counted.
        count = min(CALL_BYTES, room) // size - 1
        if carrier is None or count < 1:
            return
        carried = write.drive.receive_records(carrier, write.running, self.peer, self._filled, count)
        self._account(carried.records * size, carried.records)
        self._writing, self._filled = None, carried.odd
        assert carried.held is not None
        self._filling = carried.held
        if carried.running is not None:
            self._writing = _Write(write.drive, carried.running, size)
            if carried.running.descriptor is None:
                self._end()
        if carried.error:
            raise self._connection_broke(OSError(carried.error, os.strerror(carried.error)))

    def _put(self, count: int) -> None:
        """Begin to write the record in the lane, however many windows and cartridges that takes."""
        while True:
            with self.service.lock:
                room = self.variables.window.has_room(self.variables.bytes_in_window, self.record_size)
            reason = self._begin(count) if room else MoverPauseReason.EOW
            if reason is None:
                break
            self._pause(reason)
        self._filling = 1 - self._filling
        if self._writing is not None and self._writing.running.descriptor is None:
            self._end()

    def _finish(self) -> None:
        """See that everything that was put is on tape."""
        while self._writing is not None:
            self._end()

    def _end(self) -> None:
        """Wait for the end of the write in progress; if it failed and can be made up for, begin it again."""
        write, self._writing = self._writing, None
        assert write is not None
        reason = self._take_end(write)
        if reason is not None:
            self._pause(reason)
            self._filling = 1 - self._filling
            self._put(write.count)

    def _let_end(self) -> None:
        """However the stream ends: what the drive has it carries out, and what is on tape counts."""
        write, self._writing = self._writing, None
        if write is not None:
            with contextlib.suppress(StreamEnded):
                self._take_end(write)

    def _pause(self, reason: MoverPauseReason) -> None:
        """Pause; both lanes' bytes outlive it: DMAs use the drive, or another one, meanwhile."""
        try:
            kept = [bytes(self.lane(number)) for number in range(LANES)]
            self.pause(reason, 0, watch=False)
            for number, data in enumerate(kept):
                self.lane(number)[:] = data
        except TapeError as error:
            raise self.medium_failed(error) from error

    def _begin(self, count: int) -> MoverPauseReason | None:
        """Begin to write, or return why to pause instead.  Raises StreamEnded."""
        drive = self.drive()

        def begin() -> None:
            # Under the drive's lock: after an abort the DMA may rewind, and nothing is written then.
            if self.ended:
                raise StreamEnded(None)
            self._writing = _Write(drive, drive.begin_write(self.lane(self._filling)), count)

        return self._attempt(drive, begin)

    def _take_end(self, write: _Write) -> MoverPauseReason | None:
        """Wait for the end, count the record, or return why to pause.  Raises StreamEnded."""

        def end() -> None:
            write.drive.end_write(write.running)
            self._account(write.count)

        return self._attempt(write.drive, end)

    def _attempt(self, drive: OpenDrive, action: Callable[[], None]) -> MoverPauseReason | None:
        """Do something with the drive, or return why to pause.  Raises StreamEnded."""
        try:
            with drive.lock:
                action()
        except EndOfMediumError as error:
            drive.log.info("end of medium", cartridge=drive.barcode, why=str(error))
            return MoverPauseReason.EOM
        except (MediumError, HardwareError) as error:
            if self._can_go_on(drive, error):
                return MoverPauseReason.EOM
            raise self.medium_failed(error) from error
        except (TapeError, RefusalError) as error:
            if isinstance(error, TapeError):
                self._take_back(drive)
            raise self.medium_failed(error) from error
        return None

    def _can_go_on(self, drive: OpenDrive, error: MediumError | HardwareError) -> bool:
        """Whether the image can go on behind a place that could not be written: on the next cartridge.

        To a DMA that is an end of medium; the flags of TAPE_GET_STATE say that there was an error, so that
        it may take another drive.  Only when all that was counted is on the tape by the drive's own account,
        and once in a stream.  The draft's way is to halt, and profile strict does.
        """
        lost = self._take_back(drive)
        deferred = error.sense is not None and error.sense.deferred
        if self.service.strict or self._bad_spots or lost != 0 or deferred:
            return False
        self._bad_spots += 1
        self.service.reporter.report("the image goes on on the next cartridge", drive.unit, error, drive)
        return True

    def _take_back(self, drive: OpenDrive) -> int | None:
        """Count no more than is on the tape: what is left in the drive's buffer after an error is lost.

        Returns the records that were taken back; None when the drive does not tell.
        """
        lost = drive.buffered()
        if lost:
            with self.service.lock:
                count = min(
                    lost * self.record_size, self.variables.bytes_in_window, self.variables.bytes_moved
                )
                self.variables.bytes_moved -= count
                self.variables.bytes_in_window -= count
                self.variables.record_num -= count // self.record_size
            drive.log.warning("records were lost in the drive's buffer", records=lost, bytes=count)
        return lost

    def _account(self, count: int, records: int = 1) -> None:
        with self.service.lock:
            self.variables.bytes_moved += count
            self.variables.record_num += records
            self.variables.bytes_in_window += records * self.record_size
