"""A backup channel: one data connection to the media server, held for a whole job.

File servers come and go on the feeds; the channel stays.  The channel counts what it relayed, so that
owner, feed and channel can be compared at the end of each part (docs/architecture.md, "A backup").
"""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

from appliance.ndmp import dataconn
from appliance.ndmp.enums import ErrorCode
from appliance.ndmp.errors import RefusalError

RELAY_SIZE = 1 << 20
"""Bytes moved at once: four tape records of the default size, so that per-call costs vanish."""

FEEDS_MAX = 4096
"""Feeds of one job: one a part; more junctions than that below one path would be an error of the map."""

ID_BYTES = 16
"""Random bytes of a channel's name, which is the right to feed it."""


class ChannelBrokenError(Exception):
    """The data connection to the media server ended or failed."""


class Channel:
    """What one job has on the connection server."""

    def __init__(self, job: str) -> None:
        self.job = job
        self.id = secrets.token_hex(ID_BYTES).encode()
        self.stream: socket.socket | None = None
        self.relayed = 0
        self.finished = threading.Event()
        self.broken: str | None = None
        self._feeds: dict[int, FeedEnd] = {}
        self._turn = threading.Lock()

    def attach(self, feed: FeedEnd) -> int:
        """Number a new feed.  Raises RefusalError when there are too many."""
        if len(self._feeds) >= FEEDS_MAX:
            raise RefusalError(ErrorCode.ILLEGAL_ARGS, f"a job may have {FEEDS_MAX} feeds")
        number = len(self._feeds)
        self._feeds[number] = feed
        return number

    def feed(self, number: int) -> FeedEnd:
        """The feed with this number.  Raises RefusalError(ILLEGAL_ARGS)."""
        try:
            return self._feeds[number]
        except KeyError:
            raise RefusalError(ErrorCode.ILLEGAL_ARGS, f"the channel has no feed {number}") from None

    def relay(
        self,
        source: socket.socket,
        offset: int,
        moved: Callable[[int], None],
        waiting: AbstractContextManager[None] | None = None,
    ) -> None:
        """Pass all that `source` sends on to the media server; one feed at a time.

        `offset` is where in the image the feed's part belongs, `moved` is told of every piece, `waiting` is
        entered while the feed waits for its turn.  Raises OSError when the feed fails, ChannelBrokenError
        when the channel does or stands elsewhere.
        """
        buffer = memoryview(bytearray(RELAY_SIZE))
        with ExitStack() as held:
            with waiting or nullcontext():
                held.enter_context(self._turn)
            if self.relayed != offset:
                raise ChannelBrokenError(f"the part belongs at {offset}, the channel is at {self.relayed}")
            while count := source.recv_into(buffer):
                self._send(buffer[:count])
                moved(count)

    def _send(self, data: memoryview) -> None:
        stream = self.stream
        try:
            if stream is None:
                raise ConnectionError("it is not connected")
            stream.sendall(data)
        except OSError as error:
            self.break_off(f"the backup channel failed: {error}")
            raise ChannelBrokenError(str(error)) from error
        self.relayed += len(data)

    def break_off(self, why: str) -> None:
        """Mark the channel broken and wake whoever waits on it."""
        self.broken = self.broken or why
        self.finished.set()
        dataconn.shut(self.stream)
        for feed in list(self._feeds.values()):
            feed.drop()

    def close(self) -> None:
        """Close the data connection; what was sent is still delivered."""
        stream, self.stream = self.stream, None
        if stream is not None:
            stream.close()


class FeedEnd:
    """The connection server's end of one feed.

    The file server comes (`came`); in a restore it then asks to be fed (`start`), and not before that is
    anything sent.
    """

    def __init__(self) -> None:
        self.moved = 0
        self.failed: str | None = None
        self._stream: socket.socket | None = None
        self._waited = 0.0
        self._waiting_since: float | None = None
        self._started = threading.Event()
        self._done = threading.Event()

    @property
    def is_waiting(self) -> bool:
        """Whether the feed stands still: for its turn, or for its file server."""
        return self._waiting_since is not None

    @property
    def waited(self) -> float:
        """Seconds that the feed has stood still so far."""
        since = self._waiting_since
        return self._waited + (time.monotonic() - since if since is not None else 0.0)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """The time that the block takes is waited."""
        since = self._waiting_since = time.monotonic()
        try:
            yield
        finally:
            self._waiting_since = None
            self._waited += time.monotonic() - since

    def came(self, stream: socket.socket) -> None:
        """The file server connected."""
        self._stream = stream

    def start(self) -> None:
        """The file server wants to be fed."""
        self._started.set()

    def send(self, data: bytes | memoryview) -> None:
        """Hand a piece to the file server.  Raises OSError when it is gone or never came."""
        if not self._started.is_set():
            with self.waiting():
                self._started.wait()
        stream = self._stream
        if stream is None:
            raise ConnectionError(self.failed or "the file server did not open its feed")
        stream.sendall(data)
        self.moved += len(data)

    def end(self, finish: Callable[[socket.socket], None]) -> None:
        """No more comes: end the stream cleanly."""
        self._started.wait()
        try:
            if self._stream is not None and self.failed is None:
                finish(self._stream)
        except OSError as error:
            self.failed = str(error)
        self._done.set()

    def fail(self, why: str) -> None:
        """Give the feed up; waiters wake."""
        self.failed = self.failed or why
        self.drop()

    def drop(self) -> None:
        """Break the connection and wake waiters; safe to repeat.  A feed not at its end has failed."""
        if not self._done.is_set():
            self.failed = self.failed or "the feed was given up"
        # Shut before anybody hears of it: the feed's thread closes the connection, and closing alone does
        # not wake who is blocked in sending.
        dataconn.shut(self._stream)
        self._started.set()
        self._done.set()

    def wait_done(self) -> None:
        """Wait until a restore has no more for this feed, or it was dropped."""
        self._done.wait()


class Channels:
    """All channels of the connection server, by their secret names."""

    def __init__(self) -> None:
        self._channels: dict[bytes, Channel] = {}
        self._lock = threading.Lock()

    def open(self, job: str) -> Channel:
        """Make a channel."""
        channel = Channel(job)
        with self._lock:
            self._channels[channel.id] = channel
        return channel

    def find(self, name: bytes) -> Channel:
        """The channel with this name.  Raises RefusalError(NOT_AUTHORIZED): the name is a secret."""
        with self._lock:
            channel = self._channels.get(name)
        if channel is None:
            raise RefusalError(ErrorCode.NOT_AUTHORIZED, "there is no such channel")
        return channel

    def remove(self, channel: Channel) -> None:
        """Forget a channel."""
        with self._lock:
            self._channels.pop(channel.id, None)
