"""What one node does, or fails to do, and what the others make of it."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from appliance import peers
from appliance.fileserver.owner import OwnerService
from appliance.ndmp import messages as m
from appliance.ndmp.enums import AddressType, DataHaltReason, ErrorCode, RecoveryStatus
from appliance.ndmp.errors import ReplyError
from tests.unit.cluster.conftest import WAIT_S, Cluster


def test_parts_of_one_owner_in_a_row(cluster: Cluster) -> None:
    """The end of the session for one part is not taken for the loss of the owner in the next."""
    names = [f"part{number}" for number in range(8)]
    cluster.add(*((f"/{name}", "fs2", name) for name in names))
    for name in names:
        (cluster.local("fs2", name) / "file").write_text(name)
    dma, _, reason = cluster.backup("fs1")
    assert (reason, dma.log) == (DataHaltReason.SUCCESSFUL, [])
    assert {b"/" + name.encode() + b"/file" for name in names} < set(dma.history)


@contextlib.contextmanager
def hanging(monkeypatch: pytest.MonkeyPatch, node: str) -> Iterator[None]:
    """A file server that takes a restore's order, and then neither reads its feed nor answers."""
    over = threading.Event()
    ask, restore = OwnerService._on_get_state, OwnerService._restore

    def hang(service: OwnerService) -> None:
        if service._node == node:
            over.wait(WAIT_S)

    def on_get_state(service: OwnerService, request: m.DataGetStateRequest) -> m.DataGetStateReply:
        hang(service)
        return ask(service, request)

    def on_restore(service: OwnerService, *given: Any) -> DataHaltReason:
        service.ask_for_image()
        hang(service)
        return restore(service, *given)

    monkeypatch.setattr(OwnerService, "_on_get_state", on_get_state)
    monkeypatch.setattr(OwnerService, "_restore", on_restore)
    monkeypatch.setattr(peers, "ANSWER_S", 0.5)
    try:
        yield
    finally:
        over.set()


def test_an_owner_that_hangs_during_a_restore_costs_its_files_only(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stops reading, so that the image stands; it is found out on its control session, and left behind."""
    cluster.add(("/a", "fs2", "a"), ("/b", "fs1", "b"), ("/new/a", "fs2", "na"), ("/new/b", "fs1", "nb"))
    (cluster.local("fs2", "a") / "large").write_bytes(bytes(32 << 20))
    (cluster.local("fs1", "b") / "small").write_text("of fs1")
    _, mover, reason = cluster.backup("fs1")
    assert reason is DataHaltReason.SUCCESSFUL
    with hanging(monkeypatch, "fs2"):
        dma, reason = cluster.restore("fs1", mover.image, (b"/a", b"/new/a"), (b"/b", b"/new/b"))
        assert reason is DataHaltReason.SUCCESSFUL
        assert (cluster.local("fs1", "nb") / "small").read_text() == "of fs1"
        assert dma.env()[b"SPANREEL_STATUS"] == b"incomplete"
        assert {post.name: post.recovery_status for post in dma.files} == {
            b"/a": RecoveryStatus.FAILED_UNDEFINED_ERROR,
            b"/b": RecoveryStatus.SUCCESSFUL,
        }


def test_a_session_that_is_refused_is_closed(cluster: Cluster) -> None:
    """A feed of a channel that is not there leaves neither socket nor thread behind."""
    reader = "ndmp-client-conn1"
    before = {thread for thread in threading.enumerate() if thread.name == reader}
    with pytest.raises(ReplyError) as refused:
        peers.FeedSession(
            peers.Peers(cluster.configs["fs1"]), b"no such channel", "feed", queue.SimpleQueue()
        )
    assert refused.value.code is ErrorCode.NOT_AUTHORIZED
    for thread in threading.enumerate():
        if thread.name == reader and thread not in before:
            thread.join(WAIT_S)
            assert not thread.is_alive()


def test_a_moving_part_goes_as_the_site_wants_its_feeds(cluster: Cluster) -> None:
    """With feed = "tls" no file crosses the network in clear text, when it moves no more than in a backup."""
    with peers.Peers(cluster.configs["fs1"]).open("fs2") as client:
        reply = client.call(m.DataListenRequest(AddressType.TCP), m.DataListenReply)
    env = {pair.name: pair.value for pair in reply.connect_addr.tcp[0].addr_env}
    assert env[b"FEED_TLS"] == (b"y" if cluster.feed == "tls" else b"n")
