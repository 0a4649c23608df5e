"""From tape to the data connection: mover mode WRITE (draft-skardal-ndmpv4-04, 3.6.2.5).

The window's offset is the image's byte at the tape position where the stretch begins (at the start, and
at each MOVER_CONTINUE).  Within it the tape is positioned by records; a filemark or the end of data on
the way pauses the mover.
"""

from __future__ import annotations

import select
import socket

from appliance.mediaserver.mover_stream import MoverStream, StreamEnded
from appliance.mediaserver.window import Window
from appliance.ndmp.enums import MoverHaltReason, MoverPauseReason
from appliance.ndmp.errors import RefusalError
from tape.errors import BlankCheckError, DeviceError, FilemarkError, TapeError


class _NeedDma(Exception):  # noqa: N818 - the ordinary end of a stretch of tape, not an error
    """The wanted byte is not on this stretch of tape."""

    def __init__(self, reason: MoverPauseReason) -> None:
        super().__init__(reason.name)
        self.reason = reason


class RestoreStream(MoverStream):
    """Serves MOVER_READ requests.

    Counting records from the beginning of the window: `_next` is the one the tape stands before, `_held`
    the one whose first `_length` bytes are in the buffer.
    """

    _next = 0
    _held: int | None = None
    _length = 0
    _window = Window()

    def transfer(self) -> MoverHaltReason:
        """Serve one request after the other until the data server has had enough."""
        self._anchor()
        while True:
            self.wait(watch=True)
            self._serve()

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
            except _NeedDma as need:
                self.pause(need.reason, position, watch=True)
                self._anchor()
                continue
            sent = self._send(piece)
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
        return self.buffer()[skip : skip + count]

    def _load(self, index: int) -> None:
        """Position the tape and read one record.  Raises _NeedDma, StreamEnded."""
        drive = self.drive()
        try:
            # Under the drive's lock, as in a backup: after an abort the tape is not moved any more.
            with drive.lock:
                if self.ended:
                    raise StreamEnded(None)
                if index != self._next:
                    self._seek(index)
                self._held = None
                self._length = drive.read_into(self.buffer())
        except FilemarkError:
            raise _NeedDma(MoverPauseReason.EOF) from None
        except BlankCheckError:
            raise _NeedDma(MoverPauseReason.EOM) from None
        except (TapeError, RefusalError) as error:
            raise self.medium_failed(error) from error
        self._held = index
        self._stand_before(index + 1)

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
        with self.service.lock:
            self.variables.record_num = self._window.offset // self.record_size + index

    def _send(self, piece: memoryview) -> int:
        """Send what the connection takes at once, and count exactly that.  Raises StreamEnded."""
        writable = select.poll()
        writable.register(self.connection, select.POLLOUT)
        try:
            while True:
                sent = self._send_counted(piece)
                if sent:
                    return sent
                writable.poll()
        except OSError as error:
            # The data server has what it wanted, and did not wait for the rest.
            raise StreamEnded(None if self.ended else MoverHaltReason.CONNECT_CLOSED) from error
        finally:
            piece.release()

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
