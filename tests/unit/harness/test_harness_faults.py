"""Bad links: what a filter loses, on real sockets of this machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from harness.errors import NotPossibleError
from harness.faults import borrow
from harness.faults.filters import EVERYTHING, Rule, packed, program
from harness.faults.link import CUT, DEAF, HASTE, LOSSY, MUTE, SLOW, Ends, Link, hasten, rules

HOST, FRIEND, STRANGER = "127.77.220.1", "127.77.220.2", "127.77.220.3"
SHORT_S = 0.3

ECHO = """
import socket, sys
server = socket.create_server((sys.argv[1], 0))
print(server.getsockname()[1], flush=True)
while True:
    peer, _ = server.accept()
    while data := peer.recv(100):
        peer.sendall(data)
"""


@pytest.fixture
def server() -> Iterator[tuple[int, int]]:
    """A process that echoes, one client after the other: its id and port."""
    child = subprocess.Popen([sys.executable, "-c", ECHO, HOST], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    port = int(child.stdout.readline())
    try:
        next(borrow.tcp_sockets(child.pid)).close()
    except NotPossibleError as reason:
        child.kill()
        pytest.skip(str(reason))
    yield child.pid, port
    child.kill()
    child.wait()
    child.stdout.close()


def client(port: int, source: str = FRIEND) -> socket.socket:
    """A connection from one address; it waits for a short time only."""
    made = socket.create_connection((HOST, port), SHORT_S, (source, 0))
    made.settimeout(SHORT_S)
    return made


def answered(connection: socket.socket) -> bool:
    """Whether the server echoes now."""
    connection.sendall(b"x")
    try:
        return connection.recv(1) == b"x"
    except TimeoutError:
        return False


def ends(pid: int, front: tuple[str, int] | None = None) -> Ends:
    """The server's link, with this process as all the world."""
    return Ends(HOST, (pid,), (), front, (os.getpid(),))


def test_a_cut_link_is_silent_and_mended(server: tuple[int, int]) -> None:
    """Nothing passes while it is cut, new connections neither; afterwards what was sent arrives."""
    pid, port = server
    with client(port) as connection:
        assert answered(connection)
        with Link(iter(lambda: ends(pid), None)).made(CUT):
            assert not answered(connection)
            with pytest.raises(TimeoutError):
                client(port, STRANGER)
        connection.settimeout(20)
        assert connection.recv(1) == b"x"
        assert answered(connection)


@pytest.mark.parametrize("bad", [DEAF, MUTE])
def test_a_link_may_be_cut_one_way(server: tuple[int, int], bad: object) -> None:
    """Cut one way, no answer comes either, whichever way it is."""
    pid, port = server
    with client(port) as connection:
        # Before it is accepted no process has it, and nobody can reach it.
        assert answered(connection)
        with Link(iter(lambda: ends(pid), None)).made(bad):  # type: ignore[arg-type]
            assert not answered(connection)


@pytest.mark.parametrize("bad", [LOSSY, SLOW])
def test_a_bad_link_passes_everything(server: tuple[int, int], bad: object) -> None:
    """A lossy or slow link loses no byte: TCP sends again."""
    pid, port = server
    with client(port) as connection, Link(iter(lambda: ends(pid), None)).made(bad):  # type: ignore[arg-type]
        connection.settimeout(30)
        sender = threading.Thread(target=connection.sendall, args=(bytes(200_000),))
        sender.start()
        received = 0
        while received < 200_000:
            received += len(connection.recv(65536))
        sender.join()


def test_one_peer_only_can_be_lost(server: tuple[int, int]) -> None:
    """A rule with a source loses that source's packets and no others; one with a port that port's."""
    pid, port = server
    for found in borrow.tcp_sockets(pid):
        borrow.attach(found, program([Rule(STRANGER)]))
    with pytest.raises(TimeoutError):
        client(port, STRANGER)
    with client(port) as connection:
        assert answered(connection)
        mine = connection.getsockname()[1]
        for other_port, passes in ((mine + 1, True), (mine, False)):
            for found in borrow.tcp_sockets(pid):
                borrow.detach(found)
                borrow.attach(found, program([Rule(FRIEND, other_port)]))
            assert answered(connection) is passes
        for found in borrow.tcp_sockets(pid):
            borrow.detach(found)


def test_borrowing_leaves_the_connection_to_its_owner(server: tuple[int, int]) -> None:
    """After a borrow a connection that its process closes is closed."""
    pid, port = server
    with client(port) as connection:
        assert answered(connection)
        assert sum(1 for _ in borrow.tcp_sockets(pid)) == 2
        os.kill(pid, 9)
        assert connection.recv(1) == b""


def test_a_process_that_is_gone_has_no_sockets() -> None:
    """A process that ended meanwhile is no error."""
    child = subprocess.Popen(["true"])
    child.wait()
    assert list(borrow.tcp_sockets(child.pid)) == []


def test_programs_are_what_the_kernel_reads() -> None:
    """Eight bytes an instruction; the probability of loss stands in a comparison with a random number."""
    assert len(packed(program([EVERYTHING]))) == 8 * 3
    comparison = [step for step in program([EVERYTHING], 0.5) if step[0] == 0x25]
    assert comparison == [(0x25, 0, 1, 0x7FFF_FFFF)]


def test_what_stands_before_a_node_is_cut_off_with_it() -> None:
    """Clients of a relay see what clients of the node would: both its sides lose packets."""
    node = Ends(HOST, (1,), (2,), (FRIEND, 11011), (3,))
    assert rules(DEAF, node) == {1: [EVERYTHING], 2: [Rule(HOST, others=True)]}
    assert rules(MUTE, node) == {2: [Rule(HOST)], 3: [Rule(HOST), Rule(FRIEND, 11011)]}
    assert set(rules(CUT, node)) == {1, 2, 3}


def test_only_those_who_watch_are_hastened() -> None:
    """Keepalive that a process set is made faster; where the process set none, none is made."""
    with socket.socket() as watched, socket.socket() as plain:
        watched.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        watched.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
        watched.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 120_000)
        before = plain.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
        for each in (watched, plain):
            hasten(each)
        assert watched.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60 // HASTE
        assert watched.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 120_000 // HASTE
        assert plain.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == before
        assert not plain.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
