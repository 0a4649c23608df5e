"""The recording relay: bytes pass unchanged, and are on disk."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.relay import Relay, parse_address

LOCAL = "127.0.0.1"


@pytest.fixture
def echo() -> Iterator[tuple[str, int]]:
    """A server that answers in upper case until the client ends."""
    server = socket.create_server((LOCAL, 0))

    def serve() -> None:
        while True:
            try:
                peer, _ = server.accept()
            except OSError:
                return
            with peer:
                while data := peer.recv(100):
                    peer.sendall(data.upper())

    thread = threading.Thread(target=serve)
    thread.start()
    yield server.getsockname()
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


@pytest.fixture
def relay(echo: tuple[str, int], tmp_path: Path) -> Iterator[Relay]:
    """A relay before it."""
    made = Relay((LOCAL, 0), echo, tmp_path)
    thread = threading.Thread(target=made.serve)
    thread.start()
    yield made
    made.close()
    thread.join()


def say(relay: Relay, words: bytes) -> bytes:
    """Say something through the relay and read the answer to its end."""
    answer = b""
    with socket.create_connection(relay.address) as client:
        client.sendall(words)
        client.shutdown(socket.SHUT_WR)
        while data := client.recv(100):
            answer += data
    return answer


def test_every_byte_passes_and_is_recorded(relay: Relay, tmp_path: Path) -> None:
    """Both directions pass unchanged, and files of each connection hold them by the time they arrive."""
    assert say(relay, b"one") == b"ONE"
    assert say(relay, b"two" * 1000) == b"TWO" * 1000
    assert (tmp_path / "0001.client").read_bytes() == b"one"
    assert (tmp_path / "0001.server").read_bytes() == b"ONE"
    assert (tmp_path / "0002.client").read_bytes() == b"two" * 1000
    assert (tmp_path / "0002.server").read_bytes() == b"TWO" * 1000


def test_restarted_relay_keeps_older_recordings(echo: tuple[str, int], tmp_path: Path) -> None:
    """A relay that starts again numbers on and overwrites nothing."""
    (tmp_path / "0001.client").write_bytes(b"older")
    relay = Relay((LOCAL, 0), echo, tmp_path)
    thread = threading.Thread(target=relay.serve)
    thread.start()
    assert say(relay, b"new") == b"NEW"
    relay.close()
    thread.join()
    assert (tmp_path / "0001.client").read_bytes() == b"older"
    assert (tmp_path / "0002.client").read_bytes() == b"new"


def test_server_that_is_not_there_ends_the_client(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A client whose server refuses is closed at once, and the log names the server."""
    with socket.create_server((LOCAL, 0)) as gone:
        target = gone.getsockname()
    relay = Relay((LOCAL, 0), target, tmp_path)
    thread = threading.Thread(target=relay.serve)
    thread.start()
    with socket.create_connection(relay.address) as client:
        assert client.recv(1) == b""
    relay.close()
    thread.join()
    assert str(target[1]) in capfd.readouterr().err


def test_addresses_are_host_and_port() -> None:
    """HOST:PORT is split at the last colon."""
    assert parse_address("127.77.0.41:11011") == ("127.77.0.41", 11011)
