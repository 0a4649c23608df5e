"""A restore by direct access when somebody is slow, gives up or dies: no hang, true words, nothing left."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from appliance import peers
from appliance.archive.restore_data import Copy
from appliance.connection.channel import Channel
from appliance.connection.channel_service import ChannelService
from appliance.connection.role import ConnectionServerRole
from appliance.fileserver.owner import OwnerService
from appliance.ndmp import messages as m
from appliance.ndmp.enums import DataHaltReason, DataState, RecoveryStatus
from appliance.ndmp.types import Name
from tests.unit.cluster.conftest import WAIT_S, Cluster, Dma, Mover

LARGE = bytes(range(256)) * 40_000
PARTS = (("/a", "fs1", "a"), ("/b", "fs2", "b"), ("/t/a", "fs1", "ta"), ("/t/b", "fs2", "tb"))
LOST = RecoveryStatus.FAILED_UNDEFINED_ERROR
GOOD = RecoveryStatus.SUCCESSFUL


def descriptors() -> int:
    """Open files and sockets of this process, in which the whole cluster runs."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def eventually(true: Callable[[], bool]) -> bool:
    """Whether something becomes true within WAIT_S."""
    deadline, never = time.monotonic() + WAIT_S, threading.Event()
    while not true():
        if time.monotonic() > deadline:
            return False
        never.wait(0.02)
    return True


@dataclass
class Running:
    """A restore of one large file to each of two owners, whose DMA serves the reads by hand."""

    cluster: Cluster
    dma: Dma
    mover: Mover
    image: bytes

    def read(self) -> m.NotifyDataReadPost:
        """The next read that is asked for."""
        while (post := self.dma.client.posts.get(timeout=WAIT_S)) is not None:
            body = post.body()
            if isinstance(body, m.NotifyDataReadPost):
                return body
        raise AssertionError("the session ended")

    def serve(self, read: m.NotifyDataReadPost) -> None:
        """Have the mover send it."""
        self.mover.reads.put(read)

    def go_on(self) -> DataHaltReason:
        """Serve all reads up to the halt."""
        self.dma.on_read = self.mover.reads.put
        return self.dma.await_halt()

    @property
    def results(self) -> dict[bytes, RecoveryStatus]:
        """The LOG_FILE posts."""
        assert len({post.name for post in self.dma.files}) == len(self.dma.files)
        return {post.name: post.recovery_status for post in self.dma.files}

    def state(self) -> DataState:
        """After DATA_STOP, which is legal."""
        self.dma.client.do(m.DataStopRequest())
        return self.dma.state().state


Begin = Callable[[], Running]


@pytest.fixture
def begin(cluster: Cluster) -> Iterator[Begin]:
    """Begins a restore; at the end of the test everything that it held is given back."""
    cluster.add(*PARTS)
    (cluster.local("fs1", "a") / "large").write_bytes(LARGE)
    (cluster.local("fs2", "b") / "large").write_bytes(LARGE)
    for name in ("ta", "tb"):
        cluster.local("fs1" if name == "ta" else "fs2", name)
    saved, saving, reason = cluster.backup("fs1")
    assert reason is DataHaltReason.SUCCESSFUL
    names = [
        Name(each + b"/large", b"/t" + each + b"/large", fh_info=saved.history[each + b"/large"])
        for each in (b"/a", b"/b")
    ]
    saved.client.close()
    saving.close()
    assert eventually(lambda: not threads())
    before = descriptors()
    begun: list[Running] = []

    def start() -> Running:
        dma, mover = cluster.start_direct("fs1", saving.image, *names, FILESYSTEM=b"/")
        begun.append(Running(cluster, dma, mover, saving.image))
        return begun[0]

    yield start
    for running in begun:
        running.mover.reads.put(None)
        running.dma.client.close()
        running.mover.close()
    # Servers that were stopped on the way have given back even more.
    assert eventually(lambda: descriptors() <= before), f"{descriptors()} descriptors, {before} before"
    assert eventually(lambda: not threads()), threads()


def channels(cluster: Cluster) -> list[Channel]:
    """What is open on the connection server."""
    role = cluster.roles["conn1"]
    assert isinstance(role, ConnectionServerRole)
    return list(role._channels._channels.values())


def working(monkeypatch: pytest.MonkeyPatch) -> list[OwnerService]:
    """The owners' services of restores that begin from now on."""
    found: list[OwnerService] = []
    restore = OwnerService._restore

    def on_restore(service: OwnerService, *given: Any) -> DataHaltReason:
        found.append(service)
        return restore(service, *given)

    monkeypatch.setattr(OwnerService, "_restore", on_restore)
    return found


def counting(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The owners that were asked for their state from now on."""
    asked: list[str] = []
    answer = OwnerService._on_get_state

    def on_get_state(service: OwnerService, request: m.DataGetStateRequest) -> m.DataGetStateReply:
        asked.append(service._node)
        return answer(service, request)

    monkeypatch.setattr(OwnerService, "_on_get_state", on_get_state)
    return asked


@contextlib.contextmanager
def hanging(monkeypatch: pytest.MonkeyPatch, node: str) -> Iterator[None]:
    """A file server whose disk hangs at the first write, and which does not answer then."""
    answer = OwnerService._on_get_state
    with slow_disk(monkeypatch, node) as (hangs, over):

        def on_get_state(service: OwnerService, request: m.DataGetStateRequest) -> m.DataGetStateReply:
            if service._node == node and hangs.is_set():
                over.wait(WAIT_S)
            return answer(service, request)

        monkeypatch.setattr(OwnerService, "_on_get_state", on_get_state)
        yield


@contextlib.contextmanager
def slow_disk(
    monkeypatch: pytest.MonkeyPatch, node: str
) -> Iterator[tuple[threading.Event, threading.Event]]:
    """A file server whose first write takes until the second event; the first tells that it has begun."""
    begun, over = threading.Event(), threading.Event()
    write = Copy.write

    def on_write(copy: Copy, view: memoryview, position: int) -> None:
        if f"/{node}/" in str(Path(f"/proc/self/fd/{copy.descriptor}").readlink()):
            begun.set()
            over.wait(WAIT_S)
        write(copy, view, position)

    monkeypatch.setattr(Copy, "write", on_write)
    try:
        yield begun, over
    finally:
        over.set()


def threads() -> list[str]:
    """Threads that work for jobs."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("data-operation")]


def restored(cluster: Cluster) -> set[str]:
    """The owners that have their file, whole."""
    return {
        node
        for node, name in (("fs1", "ta"), ("fs2", "tb"))
        if (path := cluster.local(node, name) / "large").exists() and path.read_bytes() == LARGE
    }


def test_all_is_well(begin: Begin) -> None:
    """The restore that the others are compared with: two places, two reads each."""
    running = begin()
    assert running.go_on() is DataHaltReason.SUCCESSFUL
    assert len(running.dma.reads) == 4
    assert restored(running.cluster) == {"fs1", "fs2"}
    assert running.results == {b"/a/large": GOOD, b"/b/large": GOOD}
    assert running.state() is DataState.IDLE


def test_an_owner_that_dies_costs_its_files_only(begin: Begin) -> None:
    """In the middle of the first file, which is another's: the second is named as lost."""
    running = begin()
    running.serve(running.read())
    read = running.read()
    running.cluster.roles.pop("fs2").stop()
    running.serve(read)
    assert running.go_on() is DataHaltReason.SUCCESSFUL
    assert restored(running.cluster) == {"fs1"}
    assert running.results == {b"/a/large": GOOD, b"/b/large": LOST}
    assert running.dma.env()[b"SPANREEL_STATUS"] == b"incomplete"
    assert running.dma.log == ["not restored: fs2 was lost during the restore"]


def test_nothing_is_read_for_owners_that_are_gone(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    """When no owner is left the restore ends as failed, without the rest of the reads."""
    owners = working(monkeypatch)
    running = begin()
    running.serve(running.read())
    read = running.read()
    (channel,) = channels(running.cluster)
    for owner in owners:
        owner.cancel()
    assert eventually(lambda: all(feed.failed for feed in channel._feeds.values()))
    running.serve(read)
    assert running.go_on() is DataHaltReason.INTERNAL_ERROR
    assert restored(running.cluster) == set()
    assert running.results == {b"/a/large": LOST, b"/b/large": LOST}
    assert running.dma.reads == []
    assert running.state() is DataState.IDLE


@pytest.mark.parametrize("when", ["before the first read", "within a read"])
def test_a_mover_that_dies_fails_the_restore(begin: Begin, when: str) -> None:
    """The data connection ends: CONNECT_ERROR, and every name has failed that is not on disk."""
    running = begin()
    read = running.read()
    if when == "within a read":
        running.mover.image = running.image[: read.offset + 1000]
        running.serve(read)
    else:
        running.mover.reads.put(None)
    assert running.go_on() is DataHaltReason.CONNECT_ERROR
    assert restored(running.cluster) == set()
    assert running.results == {b"/a/large": LOST, b"/b/large": LOST}
    assert running.state() is DataState.IDLE


def test_a_mover_that_dies_later_costs_what_it_did_not_send(begin: Begin) -> None:
    """The first file is whole on disk; the second has failed, and the job with it."""
    running = begin()
    running.serve(running.read())
    running.serve(running.read())
    running.read()
    running.mover.reads.put(None)
    assert running.go_on() is DataHaltReason.CONNECT_ERROR
    assert restored(running.cluster) == {"fs1"}
    assert running.results[b"/b/large"] is LOST


def test_a_mover_that_is_slow_is_waited_for(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tape change may take an hour: while owners and connection server answer, nobody loses patience."""
    monkeypatch.setattr(peers, "ANSWER_S", 0.5)
    asked = counting(monkeypatch)
    running = begin()
    read = running.read()
    assert eventually(lambda: len(asked) > 4)
    assert running.dma.state().state is DataState.ACTIVE
    running.serve(read)
    assert running.go_on() is DataHaltReason.SUCCESSFUL
    assert restored(running.cluster) == {"fs1", "fs2"}


def test_an_abort_while_the_mover_does_not_send(begin: Begin) -> None:
    """It is answered at once, ABORTED follows, and the session is good for the next job."""
    running = begin()
    running.read()
    running.dma.client.do(m.DataAbortRequest(), timeout=10)
    assert running.dma.await_halt() is DataHaltReason.ABORTED
    assert running.state() is DataState.IDLE
    assert restored(running.cluster) == set()


def test_an_abort_within_a_file(begin: Begin) -> None:
    """Half of a file is not left behind."""
    running = begin()
    running.serve(running.read())
    running.read()
    running.dma.client.do(m.DataAbortRequest(), timeout=10)
    assert running.dma.await_halt() is DataHaltReason.ABORTED
    assert eventually(lambda: not list(running.cluster.local("fs1", "ta").iterdir()))


def test_a_dma_that_goes_away(begin: Begin) -> None:
    """The job ends with its session; the fixture sees that nothing stays."""
    running = begin()
    running.read()
    running.dma.client.close()


def test_a_connection_server_that_dies(begin: Begin) -> None:
    """The job has failed, says so, and the file server is ready for the next."""
    running = begin()
    running.serve(running.read())
    running.read()
    running.cluster.roles.pop("conn1").stop()
    assert running.go_on() is DataHaltReason.INTERNAL_ERROR
    assert running.dma.log[-1:] == ["the job failed: the connection server was lost"]
    assert running.state() is DataState.IDLE
    assert restored(running.cluster) == set()


def test_an_owner_that_hangs_is_left_behind(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes no more of its feed and does not answer: found out on its control session."""
    monkeypatch.setattr(peers, "ANSWER_S", 0.5)
    with hanging(monkeypatch, "fs2"):
        running = begin()
        assert running.go_on() is DataHaltReason.SUCCESSFUL
        assert restored(running.cluster) == {"fs1"}
        assert running.results == {b"/a/large": GOOD, b"/b/large": LOST}
        assert running.dma.env()[b"SPANREEL_STATUS"] == b"incomplete"


def test_an_owner_that_is_slow_is_waited_for(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds up the image, but it answers: everything is restored in the end."""
    monkeypatch.setattr(peers, "ANSWER_S", 0.5)
    asked = counting(monkeypatch)
    with slow_disk(monkeypatch, "fs2") as (begun, over):
        running = begin()
        for _ in range(4):
            running.serve(running.read())
        assert begun.wait(WAIT_S)
        now = len(asked)
        assert eventually(lambda: len(asked) > now + 2)
        over.set()
        assert running.go_on() is DataHaltReason.SUCCESSFUL
    assert restored(running.cluster) == {"fs1", "fs2"}
    assert running.results == {b"/a/large": GOOD, b"/b/large": GOOD}


def test_a_connection_server_that_hangs(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not answer any more: the job fails, in words, instead of waiting for ever."""
    over, hangs = threading.Event(), threading.Event()
    answer = ChannelService._on_count

    def on_count(service: ChannelService, request: m.DataGetStateRequest) -> m.DataGetStateReply:
        if hangs.is_set():
            over.wait(WAIT_S)
        return answer(service, request)

    monkeypatch.setattr(ChannelService, "_on_count", on_count)
    monkeypatch.setattr(peers, "ANSWER_S", 0.5)
    try:
        running = begin()
        running.serve(running.read())
        running.read()
        hangs.set()
        assert running.go_on() is DataHaltReason.INTERNAL_ERROR
        assert running.dma.log[-1].startswith("the job failed: conn1")
        assert running.state() is DataState.IDLE
    finally:
        over.set()


def test_when_no_owner_is_left_nobody_waits_for_the_mover(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every owner fails while a cartridge is changed: the job ends now, and each name has failed."""
    owners = working(monkeypatch)
    running = begin()
    running.serve(running.read())
    running.read()
    for owner in owners:
        owner.cancel()
    assert running.dma.await_halt() is DataHaltReason.INTERNAL_ERROR
    assert running.results == {b"/a/large": LOST, b"/b/large": LOST}
    assert running.dma.log[-1] == "the job failed: no file server finished its share"
    assert running.state() is DataState.IDLE
