"""From the data connection to tape: mover mode READ (draft-skardal-ndmpv4-04, 3.6.2.4)."""

from __future__ import annotations

import socket

from appliance.mediaserver.mover_stream import MoverStream, StreamEnded
from appliance.mediaserver.open_drive import OpenDrive
from appliance.ndmp.enums import MoverHaltReason, MoverPauseReason
from appliance.ndmp.errors import RefusalError
from tape.errors import EndOfMediumError, MediumError, TapeError


class BackupStream(MoverStream):
    """From the data connection to tape: mover mode READ."""

    _bad_spots = 0

    def transfer(self) -> MoverHaltReason:
        """Write records until the data server closes the connection; the last one is padded."""
        while count := self._fill():
            self._pad(count)
            self._put(count)
            if count < self.record_size:
                break
        return MoverHaltReason.CONNECT_CLOSED

    def _fill(self) -> int:
        """Receive one record into the buffer; less at the end of the connection."""
        try:
            buffer, count = self.buffer(), 0
            while count < self.record_size:
                got = self.connection.recv_into(buffer[count:], 0, socket.MSG_WAITALL)
                if not got:
                    break
                count += got
        except OSError as error:
            # A reset is no proper end: what came before it is no whole image.
            self.log.warning("data connection broke", why=str(error))
            raise StreamEnded(None if self.ended else MoverHaltReason.CONNECT_ERROR) from error
        except TapeError as error:
            raise self.medium_failed(error) from error
        if self.ended:
            raise StreamEnded(None)
        return count

    def _pad(self, count: int) -> None:
        self.buffer()[count:] = bytes(self.record_size - count)

    def _put(self, count: int) -> None:
        """Write the record in the buffer, however many windows and cartridges that takes."""
        while True:
            with self.service.lock:
                room = self.variables.window.has_room(self.variables.bytes_in_window, self.record_size)
            reason = self._write(count) if room else MoverPauseReason.EOW
            if reason is None:
                return
            # The record outlives the buffer: DMAs use the drive, or another one, during the pause.
            record = bytes(self.buffer())
            self.pause(reason, 0, watch=False)
            self._refill(record)

    def _refill(self, record: bytes) -> None:
        try:
            self.buffer()[:] = record
        except TapeError as error:
            raise self.medium_failed(error) from error

    def _write(self, count: int) -> MoverPauseReason | None:
        """Write, and return why to pause instead.  Raises StreamEnded."""
        drive = self.drive()
        try:
            # Under the drive's lock: after an abort the DMA may rewind, and nothing is written then.
            with drive.lock:
                if self.ended:
                    raise StreamEnded(None)
                drive.write(self.buffer())
                self._account(count)
        except EndOfMediumError as error:
            drive.log.info("end of medium", cartridge=drive.barcode, why=str(error))
            return MoverPauseReason.EOM
        except MediumError as error:
            if self._is_bad_spot(drive, error):
                return MoverPauseReason.EOM
            raise self.medium_failed(error) from error
        except (TapeError, RefusalError) as error:
            if isinstance(error, TapeError):
                self._take_back(drive)
            raise self.medium_failed(error) from error
        return None

    def _is_bad_spot(self, drive: OpenDrive, error: MediumError) -> bool:
        """Whether the image can go on behind a place that cannot be written: on the next cartridge.

        To a DMA that is an end of medium.  Only when all that was counted is on the tape by the drive's own
        account, and once in a stream: where it happens again the drive is at fault, not the cartridge.
        The draft's way is to halt, and profile strict does.
        """
        if (
            self.service.strict
            or self._bad_spots
            or self._take_back(drive) != 0
            or (error.sense is not None and error.sense.deferred)
        ):
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

    def _account(self, count: int) -> None:
        with self.service.lock:
            self.variables.bytes_moved += count
            self.variables.record_num += 1
            self.variables.bytes_in_window += self.record_size
