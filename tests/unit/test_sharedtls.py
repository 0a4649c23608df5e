"""A TLS control connection in several threads: one at a time in OpenSSL, and nobody waits for another."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from appliance.ndmp.sharedtls import SharedTls, shareable
from tests.unit.tls_support import contexts

WAIT_S = 60
ROUNDS = 300
LENGTH = 2 << 20
"""More than the kernel's buffers hold, so that senders wait for room."""


class OneAtATime:
    """Stands for an SSL socket: notes whether two threads were ever in it together."""

    def __init__(self) -> None:
        self.ends = socket.socketpair()
        self.ends[1].sendall(b"x")
        self.together = False
        self._inside = 0

    def _pass(self) -> None:
        self._inside += 1
        self.together = self.together or self._inside > 1
        # A system call lets others run while we are in here.
        select.poll().poll(0)
        self._inside -= 1

    def setblocking(self, blocking: bool) -> None:
        assert not blocking

    def fileno(self) -> int:
        return self.ends[0].fileno()

    def send(self, data: memoryview) -> int:
        self._pass()
        if random.random() < 0.3:
            raise ssl.SSLWantWriteError
        return len(data)

    def recv(self, _size: int) -> bytes:
        self._pass()
        if random.random() < 0.3:
            raise ssl.SSLWantReadError
        return b"x"

    def close(self) -> None:
        self._pass()


def test_one_thread_at_a_time_is_in_openssl() -> None:
    """Receiving, sending and closing never overlap, whoever has to wait in between."""
    fake = OneAtATime()
    shared = SharedTls(cast(Any, fake))
    jobs = (lambda: shared.recv(1), lambda: shared.sendall(b"abc"), lambda: shared.sendall(b"def"))

    def repeat(job: Any) -> None:
        for _ in range(ROUNDS):
            job()

    threads = [threading.Thread(target=repeat, args=(job,), daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
        assert not thread.is_alive()
    shared._stream.close()
    assert not fake.together
    for end in fake.ends:
        end.close()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[SharedTls, SharedTls]]:
    """Both ends of a connection."""
    server, client = contexts(tmp_path)
    ours, theirs = socket.socketpair()
    made: list[ssl.SSLSocket] = []
    shaking = threading.Thread(target=lambda: made.append(client.wrap_socket(ours)))
    shaking.start()
    accepted = server.wrap_socket(theirs, server_side=True)
    shaking.join(WAIT_S)
    ends = shareable(made[0]), shareable(accepted)
    assert isinstance(ends[0], SharedTls)
    assert isinstance(ends[1], SharedTls)
    yield ends[0], ends[1]
    for end in ends:
        end.close()


def _receive(end: SharedTls, found: dict[SharedTls, bytes]) -> None:
    digest, count = hashlib.sha256(), 0
    while count < LENGTH:
        data = end.recv(65536)
        assert data
        digest.update(data)
        count += len(data)
    found[end] = digest.digest()


def test_both_directions_at_once(pair: tuple[SharedTls, SharedTls]) -> None:
    """What is sent while the same end receives arrives whole, in both directions."""
    found: dict[SharedTls, bytes] = {}
    sent = {end: os.urandom(LENGTH) for end in pair}
    threads = [threading.Thread(target=_receive, args=(end, found), daemon=True) for end in pair]
    threads += [threading.Thread(target=end.sendall, args=(sent[end],), daemon=True) for end in pair]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert found == {
        pair[1]: hashlib.sha256(sent[pair[0]]).digest(),
        pair[0]: hashlib.sha256(sent[pair[1]]).digest(),
    }


def test_closing_wakes_who_waits(pair: tuple[SharedTls, SharedTls]) -> None:
    """A thread that waits for the peer, and one that waits for room, end when the connection is closed."""
    ended: list[str] = []

    def send() -> None:
        with pytest.raises(OSError):  # noqa: PT011 - which one depends on who notices first
            pair[0].sendall(bytes(LENGTH * 4))
        ended.append("send")

    def receive() -> None:
        # The peer's end, or the closed socket.
        with contextlib.suppress(OSError):
            assert pair[0].recv(1) == b""
        ended.append("receive")

    threads = [threading.Thread(target=job, daemon=True) for job in (send, receive)]
    for thread in threads:
        thread.start()
    # Sending has begun, and fills the kernel's buffers.
    assert pair[1].recv(1)
    pair[0].close()
    for thread in threads:
        thread.join(WAIT_S)
    assert sorted(ended) == ["receive", "send"]


def test_a_time_limit_ends_waiting(pair: tuple[SharedTls, SharedTls]) -> None:
    """Recv waits as long as it was told; the connection goes on afterwards."""
    pair[0].settimeout(0.01)
    with pytest.raises(TimeoutError):
        pair[0].recv(1)
    pair[1].sendall(b"late")
    pair[0].settimeout(None)
    assert pair[0].recv(4) == b"late"
