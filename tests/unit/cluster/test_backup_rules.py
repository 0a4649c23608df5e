"""The rules that make a backup over several owners close (docs/architecture.md, "A backup"), one test each.

Where a party must fail in the middle, the mover's end is held back: a part of many megabytes cannot have left
its owner by then.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from appliance.archive.frame import END_OF_ARCHIVE
from appliance.archive.member import GlobalHeader
from appliance.archive.reader import MemberReader
from appliance.connection.channel import Channel
from appliance.connection.reads import FIRST_BYTES
from appliance.ndmp import dataconn
from appliance.ndmp import messages as m
from appliance.ndmp.enums import DataHaltReason, DataState
from appliance.ndmp.types import Pval
from tests.unit.cluster.conftest import NODES, Cluster, Dma
from tests.unit.cluster.test_backup import members, seed

LARGE = 64 << 20
"""More than all socket buffers on the way hold together."""


@contextlib.contextmanager
def held(cluster: Cluster, entry: str = "fs1") -> Iterator[tuple[Dma, socket.socket]]:
    """A backup of /small (fs1) and /z (fs2, large), whose channel nobody reads yet."""
    cluster.add(("/small", "fs1", "s"), ("/z", "fs2", "z"))
    (cluster.local("fs1", "s") / "whole.txt").write_text("saved before the other fails")
    (cluster.local("fs2", "z") / "large").write_bytes(bytes(LARGE))
    dma = cluster.dma(entry)
    with dataconn.listen("127.79.0.31") as listener:
        dma.client.do(m.DataConnectRequest(dataconn.local_address(listener)))
        stream, _ = listener.accept()
        with stream:
            env = (Pval(b"FILESYSTEM", b"/"), Pval(b"HIST", b"f"))
            dma.client.do(m.DataStartBackupRequest(b"tar", env))
            yield dma, stream


def read_into(stream: socket.socket, enough: Callable[[bytes], bool]) -> bytes:
    """What the channel brings until it is enough."""
    image = b""
    while not enough(image):
        piece = stream.recv(1 << 16)
        assert piece, "the channel ended"
        image += piece
    return image


def in_the_large_part(image: bytes) -> bool:
    """Whether the second owner's data is coming."""
    return b"z/large" in image and len(image) > 1 << 20


def test_rule_1_a_listen_reply_carries_the_connection_servers_address(cluster: Cluster) -> None:
    """The channel is made before FILESYSTEM is known; the mover connects to the connection server."""
    dma = cluster.dma("fs2")
    (endpoint,) = dma.client.call(m.DataListenRequest(), m.DataListenReply).connect_addr.tcp
    assert dataconn.endpoint_of(endpoint)[0] == NODES["conn1"]


def test_rule_2_nodes_are_unique_and_places_are_of_the_whole_image(cluster: Cluster) -> None:
    """Each owner starts where the one before ended, in bytes and in node numbers."""
    seed(cluster)
    dma, mover, _ = cluster.backup("fs2")
    assert len(set(dma.nodes.values())) == len(dma.nodes)
    assert len(set(dma.history.values())) == len(dma.history)
    assert max(dma.history.values()) < len(mover.image)


@pytest.mark.parametrize("lie", [-1, 1])
def test_rule_3_a_part_counts_only_when_the_byte_counts_agree(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, lie: int
) -> None:
    """One byte more or less at the connection server than at the owner fails the job, named."""
    seed(cluster)
    relay = Channel.relay

    def lying(
        self: Channel, source: socket.socket, offset: int, moved: Callable[[int], None], *rest: Any
    ) -> None:
        relay(self, source, offset, moved, *rest)
        moved(lie)

    monkeypatch.setattr(Channel, "relay", lying)
    dma, _, reason = cluster.backup("fs1")
    assert reason is DataHaltReason.INTERNAL_ERROR
    assert any("bytes were sent" in line for line in dma.log)


def test_rule_3_parts_carry_no_end_and_no_padding_between_them(cluster: Cluster) -> None:
    """There is one end-of-archive, and it is the image's last bytes."""
    seed(cluster)
    _, mover, _ = cluster.backup("fs1")
    assert mover.image.endswith(END_OF_ARCHIVE)
    reader = MemberReader(_readinto(mover.image))
    assert sum(1 for _ in reader) > 7
    assert reader.offset >= len(mover.image) - len(END_OF_ARCHIVE)


def test_rule_4_the_trailer_is_at_least_64_kib_and_the_halt_comes_last(cluster: Cluster) -> None:
    """Wherever a member begins, 64 KiB follow; when HALTED is heard the channel has ended."""
    seed(cluster)
    _, mover, reason = cluster.backup("fs1")
    assert reason is DataHaltReason.SUCCESSFUL
    last = 0
    for item in MemberReader(_readinto(mover.image)):
        last = last if isinstance(item, GlobalHeader) else item.offset
    assert len(mover.image) - last >= FIRST_BYTES


def test_rule_5_the_state_is_counted_while_it_runs_and_exact_at_the_halt(cluster: Cluster) -> None:
    """bytes_processed grows within a part, and is the image's length at the end."""
    with held(cluster) as (dma, stream):
        image = read_into(stream, in_the_large_part)
        while dma.state().bytes_processed < 1 << 20:
            assert dma.state().state is DataState.ACTIVE
        while piece := stream.recv(1 << 20):
            image += piece
        assert dma.await_halt() is DataHaltReason.SUCCESSFUL
        assert dma.state().bytes_processed == len(image)


def test_rule_6_no_timer_counts_silence_on_the_channel(cluster: Cluster) -> None:
    """A mover that does not read for an hour is no dead mover: no user timeout, no time limit."""
    with held(cluster) as (dma, stream):
        read_into(stream, in_the_large_part)
        (channel,) = cluster.roles["conn1"]._channels._channels.values()  # type: ignore[union-attr]
        assert channel.stream is not None
        assert channel.stream.gettimeout() is None
        assert channel.stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0
        dma.client.do(m.DataAbortRequest())
        assert dma.await_halt() is DataHaltReason.ABORTED


@pytest.mark.parametrize("entry", ["fs1", "fs2"])
def test_rule_7_an_owner_lost_within_its_part(cluster: Cluster, entry: str) -> None:
    """HALTED(INTERNAL_ERROR), or the session is gone with the entry server; the part before is restorable."""
    with held(cluster, entry) as (dma, stream):
        image = read_into(stream, in_the_large_part)
        cluster.roles.pop("fs2").stop()
        with contextlib.suppress(OSError):
            while piece := stream.recv(1 << 20):
                image += piece
        if entry == "fs1":
            assert dma.await_halt() is DataHaltReason.INTERNAL_ERROR
            assert any("/z" in line for line in dma.log)
    cut = image.index(b"z/large") & ~511
    assert "small/whole.txt" in members(image[:cut] + END_OF_ARCHIVE)


@pytest.mark.parametrize("node", ["conn1", "mover"])
def test_rule_7_the_channel_lost_within_a_part(cluster: Cluster, node: str) -> None:
    """Without connection server or mover the job ends with an error, and never as complete."""
    with held(cluster) as (dma, stream):
        read_into(stream, in_the_large_part)
        if node == "mover":
            dataconn.shut(stream)
        else:
            cluster.roles.pop("conn1").stop()
        assert dma.await_halt() in (DataHaltReason.INTERNAL_ERROR, DataHaltReason.CONNECT_ERROR)
        assert dma.env().get(b"SPANREEL_STATUS") != b"complete"


def test_rule_7_an_abort_is_answered_while_everybody_waits(cluster: Cluster) -> None:
    """ABORT halts at once though mover, connection server and owner are all blocked; the next job runs."""
    with held(cluster) as (dma, stream):
        read_into(stream, in_the_large_part)
        dma.client.do(m.DataAbortRequest(), 10.0)
        assert dma.await_halt() is DataHaltReason.ABORTED
    _, mover, reason = cluster.backup("fs2", b"/small")
    assert reason is DataHaltReason.SUCCESSFUL
    assert "small/whole.txt" in members(mover.image)


def _readinto(image: bytes) -> Callable[[memoryview], int]:
    """A reader of bytes in memory, as of a socket."""
    place = [0]

    def readinto(view: memoryview) -> int:
        piece = image[place[0] : place[0] + len(view)]
        view[: len(piece)] = piece
        place[0] += len(piece)
        return len(piece)

    return readinto
