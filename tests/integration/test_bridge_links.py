"""Links made bad on a bridge: two machines' ports and the host, in network namespaces of this test."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest

from harness import netns
from harness.faults import bridge
from harness.faults.link import CUT, DEAF, LOSSY, MUTE, SLOW, Bad
from harness.providers.libvirt.harm import bad_link

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("nft"), reason="network namespaces need root, and nftables"
)

HOST, FIRST, SECOND = "10.99.0.1", "10.99.0.2", "10.99.0.3"
# What must not arrive is waited for shortly; everything else as long as it takes.
SHORT_S, LONG_S = 0.4, 30.0
MUCH = bytes(600_000)


@dataclass(frozen=True)
class Net:
    """A namespace with a bridge, and one for each of two machines."""

    middle: str
    first: str
    second: str


def ip(*words: str) -> None:
    """Change an interface."""
    subprocess.run(["ip", *words], check=True)


@pytest.fixture
def net() -> Iterator[Net]:
    """Two machines at ports `port1` and `port2` of a bridge that has the host's address."""
    mine = Net(*(f"spanreel-test-{os.getpid()}-{name}" for name in ("middle", "first", "second")))
    try:
        for name in (mine.middle, mine.first, mine.second):
            netns.create(name)
        ip("-n", mine.middle, "link", "add", "lab0", "type", "bridge")
        ip("-n", mine.middle, "addr", "add", f"{HOST}/24", "dev", "lab0")
        ip("-n", mine.middle, "link", "set", "lab0", "up")
        for number, (name, address) in enumerate(((mine.first, FIRST), (mine.second, SECOND)), start=1):
            port = f"port{number}"
            ip("-n", mine.middle, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("-n", mine.middle, "link", "set", port, "master", "lab0", "up")
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
        yield mine
    finally:
        for name in (mine.middle, mine.first, mine.second):
            netns.delete(name)


def listening(namespace: str, address: str) -> tuple[socket.socket, int]:
    """A listener made in a namespace."""
    found: list[socket.socket] = []

    def make() -> None:
        with open(netns.RUN_NETNS / namespace) as place:
            netns._libc.setns(place.fileno(), netns.CLONE_NEWNET)
        found.append(socket.create_server((address, 0)))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return found[0], found[0].getsockname()[1]


def reaches(source: str, namespace: str, address: str, patience: float = LONG_S) -> bool:
    """Whether a connection from one namespace to a listener in another comes about in this time."""
    server, port = listening(namespace, address)
    with closing(server):
        try:
            netns.connect(source, (address, port), patience).close()
        except TimeoutError:
            return False
    return True


@pytest.mark.parametrize("bad", [CUT, DEAF, MUTE])
def test_a_machine_is_cut_off_from_its_peers_only(net: Net, bad: Bad) -> None:
    """Cut both ways or one, nothing connects either way; the host still reaches the machine; later all do."""
    with bad_link(net.middle, "port1", bad):
        assert not reaches(net.second, net.first, FIRST, SHORT_S)
        assert not reaches(net.first, net.second, SECOND, SHORT_S)
        assert reaches(net.middle, net.first, FIRST)
        assert reaches(net.middle, net.second, SECOND)
    assert reaches(net.second, net.first, FIRST)
    assert reaches(net.first, net.second, SECOND)


@pytest.mark.parametrize(("bad", "arrives"), [(DEAF, False), (MUTE, True)])
def test_cut_one_way_the_other_still_carries(net: Net, bad: Bad, arrives: bool) -> None:
    """What is sent to a machine that is deaf is lost; a mute one hears it."""
    server, port = listening(net.first, FIRST)
    with closing(server), netns.connect(net.second, (FIRST, port), LONG_S) as client:
        taken, _ = server.accept()
        with closing(taken), bad_link(net.middle, "port1", bad):
            taken.settimeout(LONG_S if arrives else SHORT_S)
            client.sendall(b"x")
            try:
                heard = taken.recv(1) == b"x"
            except TimeoutError:
                heard = False
    assert heard is arrives


@pytest.mark.parametrize("bad", [LOSSY, SLOW])
def test_a_bad_link_passes_everything(net: Net, bad: Bad) -> None:
    """A lossy or slow link loses packets, and no byte of a connection."""
    server, port = listening(net.first, FIRST)
    with closing(server), netns.connect(net.second, (FIRST, port), LONG_S) as client:
        taken, _ = server.accept()
        with closing(taken), bad_link(net.middle, "port1", bad):
            taken.settimeout(LONG_S)
            sender = threading.Thread(target=client.sendall, args=(MUCH,))
            sender.start()
            received = 0
            while received < len(MUCH):
                received += len(taken.recv(65536))
            sender.join()
    assert received == len(MUCH)


def test_mending_twice_is_fine(net: Net) -> None:
    """A link that is not bad can be mended: whoever cleans up need not know."""
    for _ in range(2):
        subprocess.run(
            netns.argv_inside(net.middle, ["nft", "-f", "-"]),
            input=bridge.mended("port1").encode(),
            check=True,
        )
