"""The staging buffer: what is on its way out, gathered so that the sink is called rarely.

Goals: file data is read from the kernel straight to its place in the stream (one copy, the kernel's),
and 30,000 small files cost 100 calls of the sink rather than 100,000.
"""

import os
from collections.abc import Callable

from appliance.archive.checksum import CHECKSUM_BYTES, Checksum
from appliance.archive.errors import SinkError, StoppedError
from appliance.archive.formats import FORMAT, algorithm_of

__all__ = ["STAGE_BYTES", "Sink", "Stage"]

# Large enough that per-call costs vanish beside copying it, small enough to stay in the CPU's cache.
STAGE_BYTES = 1024 * 1024

_ZEROS = memoryview(bytes(64 * 1024))

# Takes all of the bytes it is given before it returns: the buffer behind a view is used again.
Sink = Callable[[bytes | memoryview], object]


def _never() -> bool:
    """Never stop."""
    return False


class Stage:
    """Gathers bytes and hands them to `sink` in pieces of up to `STAGE_BYTES`.

    `offset` counts from `start` every byte taken so far, sent or not.  A sink's `OSError` is raised as
    `SinkError`; `stop` is asked before each piece is sent, and answered with `StoppedError`.  `version`: the
    format, by which checksums are made.
    """

    def __init__(
        self, sink: Sink, start: int = 0, stop: Callable[[], bool] = _never, *, version: int = FORMAT
    ) -> None:
        self._algorithm = algorithm_of(version)
        self._sink = sink
        self._stop = stop
        self._view = memoryview(bytearray(STAGE_BYTES))
        self._used = 0
        self._sent = start
        self._sum: Checksum | None = None
        self._is_summing = False
        self._summed = 0  # bytes of the buffer that the checksum has, or begins behind

    @property
    def offset(self) -> int:
        """The offset in the image of the next byte."""
        return self._sent + self._used

    def begin_sum(self) -> None:
        """Begin a checksum with the next byte."""
        self._is_summing = True
        self._summed = self._used

    def end_sum(self) -> bytes:
        """Return the checksum of all bytes since `begin_sum`."""
        assert self._is_summing, "a checksum was begun"
        self._is_summing = False
        rest = self._view[self._summed : self._used]
        total, self._sum = self._sum, None
        if total is None:
            # A small member is in the buffer as a whole: one call for all of it.
            return self._algorithm.of(rest)
        total.update(rest)
        return total.digest()[:CHECKSUM_BYTES]

    def flush(self) -> None:
        """Send what is gathered."""
        if self._stop():
            raise StoppedError("stopped on request")
        if self._used:
            if self._is_summing:
                # Once per buffer, over what is in the cache already: 1 MiB a call.
                self._sum = self._sum or self._algorithm.begin(b"")
                self._sum.update(self._view[self._summed : self._used])
                self._summed = 0
            try:
                self._sink(self._view[: self._used])
            except OSError as error:
                raise SinkError(error) from error
            self._sent += self._used
            self._used = 0

    def put_by(self, room: int, write: Callable[[memoryview, int, int], int]) -> None:
        """Have `write(buffer, used, sent)` append what it makes; it returns how much is used then.

        At least `room` bytes are free, `sent` is the offset of the buffer's first byte.
        """
        if STAGE_BYTES - self._used < room:
            self.flush()
        self._used = write(self._view, self._used, self._sent)

    def put(self, data: bytes | memoryview) -> None:
        """Append `data`."""
        size = len(data)
        end = self._used + size
        if end < STAGE_BYTES:
            self._view[self._used : end] = data
            self._used = end
            return
        rest = memoryview(data)
        while rest:
            piece = rest[: STAGE_BYTES - self._used]
            self._view[self._used : self._used + len(piece)] = piece
            self._used += len(piece)
            rest = rest[len(piece) :]
            if self._used == STAGE_BYTES:
                self.flush()

    def put_zeros(self, count: int) -> None:
        """Append `count` zero bytes."""
        while count > 0:
            piece = _ZEROS[:count]
            self.put(piece)
            count -= len(piece)

    def fill(self, descriptor: int, position: int, count: int) -> int:
        """Append up to `count` bytes of a file from `position`; return how many it had.

        Raises the file's `OSError` after what could be read is appended: `offset` tells how much.
        """
        start = position
        end = position + count
        if not count:
            return 0
        if self._used + count < STAGE_BYTES:
            # A small file, mostly with all that was announced of it.
            got = os.preadv(descriptor, [self._view[self._used : self._used + count]], position)
            self._used += got
            if got == count:
                return got
            position += got
        while position < end:
            room = self._view[self._used : self._used + end - position]
            got = os.preadv(descriptor, [room], position)
            if not got:
                break
            position += got
            self._used += got
            if self._used == STAGE_BYTES:
                self.flush()
        return position - start
