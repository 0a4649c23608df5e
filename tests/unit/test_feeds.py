"""Feeds: how they end."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import threading
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
    server, client = contexts(tmp_path)
    with dataconn.listen("127.0.0.1") as listener:
        plain = dataconn.connect(dataconn.local_address(listener), "127.0.0.1")
        accepted, _ = listener.accept()
    made: list[ssl.SSLSocket] = []
    shaking = threading.Thread(target=lambda: made.append(client.wrap_socket(plain)))
    shaking.start()
    with server.wrap_socket(accepted, server_side=True, suppress_ragged_eofs=False) as reader:
        shaking.join(WAIT_S)
        with made[0] as writer:
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
