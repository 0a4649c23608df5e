"""Feeds: how they end."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance import feeds
from appliance.connection.channel import FeedEnd
from appliance.ndmp import dataconn
from tests.unit.tls_support import contexts

WAIT_S = 60
"""Nothing here takes a second; a hang is cut off long after."""


QUIET_MS = 50
"""A kernel that has taken nothing for so long takes nothing more."""


def fill(stream: socket.socket) -> int:
    """Fill a connection to the last byte, and go on until it takes no more; return how much it took."""
    filled, before, poller = 0, -1, select.poll()
    poller.register(stream, select.POLLOUT)
    os.set_blocking(stream.fileno(), False)
    while filled > before:
        before = filled
        with contextlib.suppress(BlockingIOError):
            while True:
                filled += os.write(stream.fileno(), bytes(1 << 16))
        poller.poll(QUIET_MS)
    os.set_blocking(stream.fileno(), True)
    return filled


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[tuple[ssl.SSLSocket, ssl.SSLSocket]]:
    """The writer's and the reader's end of a TLS connection."""
    server, client = contexts(folder)
    with dataconn.listen("127.0.0.1") as listener:
        plain = dataconn.connect(dataconn.local_address(listener), "127.0.0.1")
        accepted, _ = listener.accept()
    made: list[ssl.SSLSocket] = []
    shaking = threading.Thread(target=lambda: made.append(client.wrap_socket(plain)))
    shaking.start()
    with server.wrap_socket(accepted, server_side=True, suppress_ragged_eofs=False) as reader:
        shaking.join(WAIT_S)
        with made[0] as writer:
            yield writer, reader


def test_a_clean_end_outlasts_a_tape_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A feed's last words wait for as long as the reader takes no more; no clock makes a cut of an end."""
    monkeypatch.setattr(feeds, "OPENING_TIMEOUT_S", 0.05)
    server, client = contexts(tmp_path)
    with dataconn.listen("127.0.0.1") as listener:
        plain = dataconn.connect(dataconn.local_address(listener), "127.0.0.1")
        accepted, _ = listener.accept()
    with socket.socket(fileno=os.dup(accepted.fileno())) as raw:
        made: list[ssl.SSLSocket] = []
        shaking = threading.Thread(target=lambda: made.append(client.wrap_socket(plain)))
        shaking.start()
        reader = server.wrap_socket(accepted, server_side=True, suppress_ragged_eofs=False)
        shaking.join(WAIT_S)
        stopped = fill(made[0])
        ending = threading.Thread(target=feeds.finish, args=(made[0],))
        ending.start()
        ending.join(0.2)
        assert ending.is_alive()
        while stopped:
            stopped -= len(raw.recv(stopped))
        ending.join(WAIT_S)
        with reader:
            assert reader.recv(1) == b""


def test_a_shut_feed_gives_no_cipher_text(tmp_path: Path) -> None:
    """An abort shuts a feed under its reader, which must not take for data what TLS has not seen yet.

    ssl.SSLSocket.shutdown forgets TLS: the next read would be of the bare connection, and a restore would
    write what it finds there into a file.
    """
    with opened(tmp_path) as (writer, reader):
        writer.sendall(b"first")
        assert reader.recv(5) == b"first"
        writer.sendall(bytes(100))
        assert select.select([reader], [], [], WAIT_S)[0]
        dataconn.shut(reader)
        found = b""
        with contextlib.suppress(OSError):
            while piece := reader.recv(1000):
                found += piece
        assert found.strip(b"\0") == b""


def test_a_dropped_feed_is_shut_before_it_is_closed() -> None:
    """Whoever hears that a feed is done finds it shut: closing alone would not wake a blocked sender."""
    here, there = socket.socketpair()
    feed, ends = FeedEnd(), []

    class Watched(threading.Event):
        def set(self) -> None:
            with contextlib.suppress(BlockingIOError):
                ends.append(there.recv(1, socket.MSG_DONTWAIT))
            super().set()

    feed._done = Watched()
    with here, there:
        feed.came(here)
        feed.drop()
    assert ends == [b""]


def await_bytes(reader: ssl.SSLSocket, count: int) -> None:
    """Wait until so many bytes have come to the kernel, ciphered or not."""
    with socket.socket(fileno=os.dup(reader.fileno())) as raw:
        raw.recv(count, socket.MSG_PEEK | socket.MSG_WAITALL)


def test_a_reader_gets_all_records_that_are_there(tmp_path: Path) -> None:
    """One read brings several of TLS's records, and waits for none that is still to come."""
    with opened(tmp_path) as (writer, reader):
        receiver = feeds.Receiver(reader)
        data = os.urandom(40_000)
        writer.sendall(data)
        await_bytes(reader, len(data))
        view = memoryview(bytearray(1 << 20))
        assert receiver.into(view) == len(data)
        assert view[: len(data)] == data
        writer.sendall(b"more")
        assert receiver.into(view[:2]) == 2
        assert receiver.into(view) == 2
        assert reader.gettimeout() is None


def test_what_came_before_a_break_is_read_first(tmp_path: Path) -> None:
    """A connection that is cut raises after its last bytes, and again; one that is ended ends."""
    with opened(tmp_path) as (writer, reader):
        receiver = feeds.Receiver(reader)
        writer.sendall(bytes(30_000))
        socket.socket.shutdown(writer, socket.SHUT_WR)
        await_bytes(reader, 30_000)
        view = memoryview(bytearray(1 << 20))
        found = 0
        while found < 30_000:
            found += receiver.into(view)
        for _ in range(2):
            with pytest.raises(ssl.SSLError):
                receiver.into(view)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"last")
        theirs.shutdown(socket.SHUT_WR)
        receiver = feeds.Receiver(ours)
        assert [receiver.into(view), receiver.into(view)] == [4, 0]


def test_a_clean_end_behind_data_is_an_end(tmp_path: Path) -> None:
    """The end that comes with the last bytes is told by the next read, and by every one after it."""
    with opened(tmp_path) as (writer, reader):
        receiver = feeds.Receiver(reader)
        writer.sendall(bytes(20_000))
        ending = threading.Thread(target=feeds.finish, args=(writer,))
        ending.start()
        view = memoryview(bytearray(1 << 20))
        found = 0
        while got := receiver.into(view):
            found += got
        assert found == 20_000
        assert receiver.into(view) == 0
        feeds.finish(reader)
        ending.join(WAIT_S)
        assert not ending.is_alive()
