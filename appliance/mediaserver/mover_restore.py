"""From tape to the data connection: mover mode WRITE (draft-skardal-ndmpv4-04, 3.6.2.5).

The window's offset is the image's byte at the tape position where the stretch begins (at the start, and
at each MOVER_CONTINUE).  Within it the tape is positioned by records; a filemark or the end of data on
the way pauses the mover.

A drive that fails pauses the mover once, as a wish for another place on tape does: any DMA positions it and
goes on, and one that sees the ERROR flag of TAPE_GET_STATE may take another drive first.

While one record is sent, the drive reads the next into the other lane, if the part that was asked for goes on
there: the tape never gets further ahead of the data server than that.
"""

from __future__ import annotations

import select
import socket
from dataclasses import dataclass

from appliance.mediaserver.mover_stream import MoverStream, StreamEnded
from appliance.mediaserver.open_drive import OpenDrive
from appliance.mediaserver.window import Window
from appliance.ndmp.enums import MoverHaltReason, MoverPauseReason
from appliance.ndmp.errors import RefusalError
from tape.carry import CALL_BYTES, Carried
from tape.errors import BlankCheckError, DeviceError, FilemarkError, HardwareError, TapeError
from tape.transport import LANES, Running


class _NeedDma(Exception):  # noqa: N818 - the ordinary end of a stretch of tape, not an error
    """The wanted byte is not on this stretch of tape."""

    def __init__(self, reason: MoverPauseReason) -> None:
        super().__init__(reason.name)
        self.reason = reason


@dataclass(slots=True)
class _Read:
    """A record that was asked for, and what became of that.

    Attributes:
        index: which one, counted from the beginning of the window.
        lane: where it goes.
        running: at the drive, whose lock is held; None: the drive is done with it.
        length: bytes that came.
        error: why none did.

    """

    index: int
    lane: int
    drive: OpenDrive
    running: Running | None = None
    length: int = 0
    error: TapeError | RefusalError | None = None


class RestoreStream(MoverStream):
    """Serves MOVER_READ requests.

    Counting records from the beginning of the window: `_next` is the one the tape stands before, `_held`
    the one whose first `_length` bytes are in lane `_lane`.  `_reading` has been asked for, perhaps ahead.
    """

    _next = 0
    _held: int | None = None
    _length = 0
    _lane = 0
    _reading: _Read | None = None
    _window = Window()
    _drive_failed = False

    def transfer(self) -> MoverHaltReason:
        """Serve one request after the other until the data server has had enough."""
        self._anchor()
        try:
            while True:
                self.wait(watch=True)
                self._serve()
        finally:
            # A read that goes on ends before anybody else gets the drive.
            self._take_end()

    def _anchor(self) -> None:
        """Take the tape's position as the beginning of the window."""
        self._next, self._held, self._length = 0, None, 0
        with self.service.lock:
            self._window = self.variables.window

    def _serve(self) -> None:
        """Send the part that was asked for.  Raises StreamEnded."""
        with self.service.lock:
            position = self.variables.seek_position
            left = self.variables.bytes_left
        while left:
            try:
                piece = self._piece(position, left)
                self._read_ahead(position + left)
            except _NeedDma as need:
                self.pause(need.reason, position, watch=True)
                self._anchor()
                continue
            sent = self._send(piece)
            sent += self._carry(position + sent, left - sent)
            position += sent
            left -= sent

    def _piece(self, position: int, left: int) -> memoryview:
        """The bytes at this offset of the image, as many as one record holds.  Raises _NeedDma."""
        if not self._window.holds(position):
            raise _NeedDma(MoverPauseReason.SEEK)
        index, skip = divmod(position - self._window.offset, self.record_size)
        if self._held != index:
            self._load(index)
        elif skip >= self._length:
            # A short record ends an image; a whole one behind it would mean that sizes do not agree.
            self._load(index + 1)
            raise self.medium_failed(DeviceError("a record in the middle of the image is short"))
        if skip >= self._length:
            return self._piece(position, left)
        count = min(self._length - skip, left, self._window.end - position)
        return self.lane(self._lane)[skip : skip + count]

    def _load(self, index: int) -> None:
        """Have one record in the lane.  Raises _NeedDma, StreamEnded."""
        self._held = None
        if self._reading is None:
            self._ask(index, self._lane)
        self._take_end()
        read, self._reading = self._reading, None
        assert read is not None
        assert read.index == index
        if isinstance(read.error, FilemarkError):
            raise _NeedDma(MoverPauseReason.EOF)
        if isinstance(read.error, BlankCheckError):
            raise _NeedDma(MoverPauseReason.EOM)
        if isinstance(read.error, HardwareError) and self._can_go_on(read.drive, read.error):
            raise _NeedDma(MoverPauseReason.SEEK)
        if read.error is not None:
            raise self.medium_failed(read.error) from read.error
        self._held, self._length, self._lane = index, read.length, read.lane
        self._tell_record(index + 1)

    def _can_go_on(self, drive: OpenDrive, error: HardwareError) -> bool:
        """Whether the DMA may have the record once more: once in a stream, and not in profile strict.

        A medium error is none of these: it would be the same in another drive, and each costs minutes.
        """
        if self.service.strict or self._drive_failed:
            return False
        self._drive_failed = True
        self.service.reporter.report("the image may go on in another drive", drive.unit, error, drive)
        return True

    def _read_ahead(self, end: int) -> None:
        """Ask for the record behind the one that is held, if it has bytes before `end` of the image."""
        if self._held is None or self._reading is not None or not self.drive().overlaps:
            return
        index = self._held + 1
        begin = self._window.offset + index * self.record_size
        if self._length == self.record_size and begin < end and self._window.holds(begin):
            self._ask(index, 1 - self._lane)

    def _carry(self, position: int, left: int) -> int:
        """Send many whole records in one call, where the drive can; the bytes that were sent.

        Of each record that is sent the one behind it is asked for: so the last one that has bytes to be sent
        is none of them.  Raises StreamEnded.
        """
        read, size = self._reading, self.record_size
        if read is None or read.running is None:
            return 0
        carrier = read.drive.carrier
        end = min(position + left, self._window.end)
        count = min(CALL_BYTES // size, (end - position - 1) // size)
        if carrier is None or count < 1 or position != self._window.offset + read.index * size:
            return 0
        carried = read.drive.send_records(carrier, read.running, self.peer, count)
        self._take_stock(read, carried)
        sent: int = carried.records * size + carried.odd
        with self.service.lock:
            self.variables.bytes_moved += sent
            self.variables.bytes_left -= sent
        if carried.error:
            raise self._connection_ended()
        return sent

    def _take_stock(self, read: _Read, carried: Carried) -> None:
        """See which record is held, and which one is being read, after many went from lane to lane."""
        last = read.index + carried.records - (carried.held is None)
        if last >= read.index:
            self._held, self._length, self._next = last, self.record_size, last + 1
            self._lane = (read.lane + last - read.index) % LANES
            self._tell_record(last + 1)
        self._reading = None
        if carried.running is not None:
            lane = (read.lane + last + 1 - read.index) % LANES
            self._reading = _Read(last + 1, lane, read.drive, carried.running)

    def _ask(self, index: int, lane: int) -> None:
        """Position the tape and begin to read.  Raises _NeedDma, StreamEnded; errors wait for `_load`."""
        drive = self.drive()
        read = _Read(index, lane, drive)
        try:
            # Under the drive's lock, as in a backup: after an abort the tape is not moved any more.
            with drive.lock:
                if self.ended:
                    raise StreamEnded(None)
                if index != self._next:
                    self._seek(index)
                read.running = drive.begin_read(self.lane(lane))
        except (TapeError, RefusalError) as error:
            read.error = error
        self._reading = read

    def _take_end(self) -> None:
        """Wait for the end of a read in progress, and note how it ended."""
        read = self._reading
        if read is None or read.running is None:
            return
        running, read.running = read.running, None
        try:
            read.length = read.drive.end_read(running)
        except (TapeError, RefusalError) as error:
            read.error = error
        else:
            self._next = read.index + 1

    def _seek(self, index: int) -> None:
        """Space to a record of the window.  Raises _NeedDma when a mark or the end of data is nearer."""
        drive, count = self.drive(), index - self._next
        left = drive.space_records(count)
        moved = abs(count) - left
        self._stand_before(self._next + (moved if count > 0 else -moved))
        if not left:
            return
        if count < 0:
            raise DeviceError(
                "the tape does not go back to the beginning of the window", device=drive.unit.name
            )
        raise _NeedDma(MoverPauseReason.EOF if drive.stopped_at_mark else MoverPauseReason.EOM)

    def _stand_before(self, index: int) -> None:
        self._next = index
        self._tell_record(index)

    def _tell_record(self, index: int) -> None:
        with self.service.lock:
            self.variables.record_num = self._window.offset // self.record_size + index

    def _send(self, piece: memoryview) -> int:
        """Send what the connection takes at once, and count exactly that.  Raises StreamEnded.

        A read that ends meanwhile is seen to at once.
        """
        try:
            while True:
                sent = self._send_counted(piece)
                if sent:
                    return sent
                self._wait_for_either()
        except OSError as error:
            raise self._connection_ended() from error
        finally:
            piece.release()

    def _connection_ended(self) -> StreamEnded:
        """To be raised: the data server has what it wanted, and did not wait for the rest."""
        return StreamEnded(None if self.ended else MoverHaltReason.CONNECT_CLOSED)

    def _wait_for_either(self) -> None:
        """Wait for the connection or the drive."""
        poller = select.poll()
        poller.register(self.connection, select.POLLOUT)
        running = self._reading.running if self._reading is not None else None
        if running is not None and running.descriptor is not None:
            poller.register(running.descriptor, select.POLLIN)
            if any(descriptor == running.descriptor for descriptor, _ in poller.poll()):
                self._take_end()
        else:
            poller.poll()

    def _send_counted(self, piece: memoryview) -> int:
        """Send without waiting; 0 when the connection takes nothing now.

        With the lock held: the data server may ask for more as soon as it has the last byte, and then the
        count must say that this read is finished.
        """
        with self.service.lock:
            try:
                sent = self.connection.send(piece, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return 0
            self.variables.bytes_moved += sent
            self.variables.bytes_left -= sent
        return sent
