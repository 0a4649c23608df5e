"""The bytes of an image, straight from tape: this process is the data end of the mover itself.

No file server has part in it, so an image can be examined when none is there.  Whoever reads gets one
stream of bytes over all cartridges.  Where a drive fails another one goes on, once.  Where a record cannot
be read, bytes of ones come in its place, and the reading goes on behind it: they are no header of anything,
so they cost the files in them and no more.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Generic, TypeVar

from appliance.backupserver.media import Image, Segment
from appliance.backupserver.operation import ABORT_WAIT_S, WINDOW_FIRST, drive_failed
from appliance.backupserver.peers import MediaPeers
from appliance.errors import JobError
from appliance.ndmp import dataconn
from appliance.ndmp import messages as m
from appliance.ndmp.enums import ALL_ONES, AddressType, ErrorCode, MoverHaltReason, MoverMode
from appliance.ndmp.errors import NdmpError, ReplyError

POLL_S: Final = 0.1
"""Between two looks whether the reader has had enough; everything else is an event."""

PROGRESS_POLLS: Final = 10
"""Polls between two times that progress is told: once a second."""

CLOSE_POLLS: Final = 50
"""Polls after which a mover that does not notice that its connection is closed is aborted: five seconds."""

UNREADABLE_MAX: Final = 64
"""Records in a row that cannot be read before it is the drive, or all the rest of the tape: each costs a
drive minutes of retries."""

UNKNOWN_LENGTH: Final = 1 << 62
"""The length of a segment that nobody knows: it ends with its tape file."""

ReadInto = Callable[[memoryview], int]
Result = TypeVar("Result")


class _Pipe:
    """What the reader reads from: connections and gaps, one after the other."""

    def __init__(self) -> None:
        self._pieces: queue.SimpleQueue[socket.socket | int | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._stream: socket.socket | None = None
        self._gap = 0
        self._ended = False

    def put(self, piece: socket.socket | int | None) -> None:
        """Append a connection, a gap of so many bytes, or None: the end."""
        self._pieces.put(piece)

    def readinto(self, view: memoryview) -> int:
        """Fill (a part of) `view`; 0 at the end."""
        while not self._ended:
            if self._gap:
                count = min(self._gap, len(view))
                view[:count] = b"\xff" * count
                self._gap -= count
                return count
            if self._stream is None:
                self._next()
            elif got := self._receive(self._stream, view):
                return got
        return 0

    def _next(self) -> None:
        piece = self._pieces.get()
        if piece is None:
            self._ended = True
        elif isinstance(piece, int):
            self._gap = piece
        else:
            self._stream = piece

    def _receive(self, stream: socket.socket, view: memoryview) -> int:
        with contextlib.suppress(OSError):
            got = stream.recv_into(view)
            if got:
                return got
        self.close()
        return 0

    def close(self) -> None:
        """Close the connection that is read; by the reader's thread."""
        with self._lock:
            stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def cancel(self) -> None:
        """End it, from another thread; a reader that waits wakes."""
        self._pieces.put(None)
        with self._lock:
            dataconn.shut(self._stream)


class ImageStream(Generic[Result]):
    """Reads one image through `consume`, in a thread of its own; one use.

    `segments` in order; `progress` is told once a second how many bytes came.
    """

    def __init__(
        self,
        peers: MediaPeers,
        address: str,
        image: Image,
        segments: Sequence[Segment],
        progress: Callable[[int], None],
    ) -> None:
        """`address`: this node's own."""
        self.unreadable = 0
        self._peers = peers
        self._address = address
        self._image = image
        self._segments = [segment for segment in segments if segment.length]
        self._progress = progress
        self._pipe = _Pipe()
        self._done = threading.Event()
        self._result: list[Result] = []
        self._failure: BaseException | None = None
        self._in_a_row = 0
        self._drive_failed = False

    def read(self, consume: Callable[[ReadInto], Result]) -> Result:
        """Return what `consume` makes of the image; it may stop before the end.

        Raises what `consume` raises, NdmpError, and JobError when the tape cannot be read any more.
        """
        worker = threading.Thread(target=self._work, args=(consume,), name="image", daemon=True)
        worker.start()
        try:
            position: int | None = self._segments[0].start if self._segments else None
            if position:
                self._pipe.put(position)
            while position is not None and not self._done.is_set():
                position = self._stretch(position)
            self._pipe.put(None)
            worker.join()
        except BaseException:
            self._pipe.cancel()
            self._abort()
            worker.join()
            raise
        if self._failure is not None:
            raise self._failure
        return self._result[0]

    def _work(self, consume: Callable[[ReadInto], Result]) -> None:
        try:
            self._result.append(consume(self._pipe.readinto))
        except BaseException as error:  # noqa: BLE001
            # Whatever it is, the thread that waits for the result raises it.
            self._failure = error
        finally:
            self._done.set()
            self._pipe.close()

    def _holding(self, position: int) -> Segment | None:
        # The last one: of a segment whose successor is lost nobody knows where it ends.
        return next((segment for segment in reversed(self._segments) if segment.holds(position)), None)

    def _stretch(self, position: int) -> int | None:
        """Read from `position` until the mover halts; return where to go on, None at the end."""
        segment = self._holding(position)
        if segment is None:
            return None
        self._open(segment, position)
        halt = self._watch(segment, position)
        moved = self._moved()
        self._peers.mover.do(m.MoverStopRequest())
        if self._done.is_set():
            return None
        at = position + moved
        if halt is MoverHaltReason.MEDIA_ERROR:
            self._in_a_row = 0 if moved else self._in_a_row + 1
            return self._behind_record(at)
        if halt is not MoverHaltReason.CONNECT_CLOSED:
            raise JobError(f"the media server stopped with {halt.name} at offset {at} of the image")
        following = next((each for each in self._segments if each.start > at), None)
        if following is None:
            return None
        self._pipe.put(following.start - at)
        return following.start

    def _behind_record(self, at: int) -> int | None:
        """Give up the record at an offset; return where the next one begins."""
        self.unreadable += 1
        if self._in_a_row >= UNREADABLE_MAX:
            raise JobError(
                f"{self._peers.shelf.tape.barcode}: {UNREADABLE_MAX} records in a row cannot be read, up to "
                f"offset {at} of the image: try another drive"
            )
        segment = self._holding(at)
        if segment is None or segment.length is None:
            return None
        size = self._image.record_size
        following = segment.start + (at - segment.start) // size * size + size
        following = min(following, segment.start + segment.length)
        self._pipe.put(following - at)
        return following

    def _open(self, segment: Segment, position: int) -> None:
        """Have the mover send from `position`, the beginning of a record of a segment."""
        mover, size = self._peers.mover, self._image.record_size
        self._peers.shelf.mount_for_reading(self._image, segment)
        self._peers.shelf.tape.skip_records((position - segment.start) // size)
        mover.do(m.MoverSetRecordSizeRequest(size))
        if mover.version >= WINDOW_FIRST:
            self._set_window(segment, position)
        listening = mover.call(m.MoverListenRequest(MoverMode.WRITE, AddressType.TCP), m.MoverListenReply)
        if mover.version < WINDOW_FIRST:
            self._set_window(segment, position)
        self._pipe.put(dataconn.connect(listening.connect_addr, self._address))
        mover.do(m.MoverReadRequest(position, ALL_ONES - position))

    def _set_window(self, segment: Segment, position: int) -> None:
        """In whole records: some movers take no others, and an image ends before its padding does."""
        length = max(segment.start + (segment.length or 0) - position, 0)
        length += -length % self._image.record_size
        self._peers.mover.do(m.MoverSetWindowRequest(position, length))

    def _watch(self, segment: Segment, position: int) -> MoverHaltReason:
        """Serve the mover until it halts."""
        polls = enough = 0
        while True:
            event = self._peers.events.next(POLL_S)
            if isinstance(event, m.NotifyMoverHaltedPost):
                return event.reason
            if isinstance(event, m.NotifyMoverPausedPost):
                segment = self._go_on(segment, position + self._moved(), event)
            if self._done.is_set():
                enough += 1
                if enough == CLOSE_POLLS:
                    with self._unless_halted():
                        self._peers.mover.do(m.MoverAbortRequest())
            polls += 1
            if polls % PROGRESS_POLLS == 0:
                self._progress(position + self._moved())

    def _go_on(self, segment: Segment, at: int, pause: m.NotifyMoverPausedPost) -> Segment:
        """The mover paused: continue in the segment that holds the next byte, or close."""
        if not self._drive_failed and drive_failed(self._peers.shelf.tape, segment, pause):
            self._drive_failed = True
            begin = self._peers.shelf.mount_again(self._image, segment, pause.seek_position)
            self._continue(segment, begin)
            return segment
        following = self._holding(at)
        if following is None or following is segment or following.start != at:
            with self._unless_halted():
                self._peers.mover.do(m.MoverCloseRequest())
            return segment
        self._peers.shelf.mount_for_reading(self._image, following)
        self._continue(following, at)
        return following

    def _continue(self, segment: Segment, begin: int) -> None:
        """Have the mover go on where the tape stands, at a byte of a segment."""
        with self._unless_halted():
            self._set_window(segment, begin)
            self._peers.mover.do(m.MoverContinueRequest())

    @contextlib.contextmanager
    def _unless_halted(self) -> Iterator[None]:
        """Ask something of a mover that halts by itself as soon as the reader has had enough."""
        try:
            yield
        except ReplyError as error:
            if error.code is not ErrorCode.ILLEGAL_STATE:
                raise

    def _moved(self) -> int:
        return self._peers.mover.call(m.MoverGetStateRequest(), m.MoverGetStateReply).bytes_moved

    def _abort(self) -> None:
        """Return the mover to IDLE on the way out of a failure, whose error matters more."""
        with contextlib.suppress(NdmpError):
            self._peers.mover.do(m.MoverAbortRequest(), ABORT_WAIT_S)
        with contextlib.suppress(NdmpError):
            self._peers.mover.do(m.MoverStopRequest(), ABORT_WAIT_S)
