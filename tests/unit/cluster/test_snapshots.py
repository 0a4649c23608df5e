"""Snapshots over several owners: one moment, read instead of the trees, gone when they are not needed."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance.ndmp import dataconn
from appliance.ndmp import messages as m
from appliance.ndmp.enums import DataHaltReason
from appliance.ndmp.types import Pval
from appliance.snapshots.keeper import owner_of
from tests.unit.cluster.conftest import Cluster, Dma
from tests.unit.cluster.fake_snapshots import Copies
from tests.unit.cluster.test_backup_rules import LARGE

PARTS = (("/a", "fs1", "a"), ("/b", "fs2", "b"))


class Site:
    """A cluster whose file servers have snapshots, and two parts, one of each."""

    def __init__(self, folder: Path, policy: str = "auto") -> None:
        self.cluster = Cluster(folder, "token", policy)
        self.events: list[str] = []
        self.fs1, self.fs2 = (Copies(folder / f"copies-{n}", n, self.events) for n in ("fs1", "fs2"))
        self.cluster.kinds = {"fs1": [self.fs1], "fs2": [self.fs2]}
        self.cluster.start()
        self.cluster.add(*PARTS)
        for path, node, name in PARTS:
            (self.cluster.local(node, name) / "early").write_text(f"early in {path}")

    def large(self) -> None:
        """Make the first part one that does not fit between its owner and a mover that does not read."""
        (self.cluster.local("fs1", "a") / "large").write_bytes(bytes(LARGE))

    @contextlib.contextmanager
    def held(self) -> Iterator[tuple[Dma, socket.socket]]:
        """A backup of everything in whose first part nobody reads the channel any more."""
        self.large()
        dma = self.cluster.dma("fs1")
        with dataconn.listen("127.79.0.31") as listener:
            dma.client.do(m.DataConnectRequest(dataconn.local_address(listener)))
            stream, _ = listener.accept()
            with stream:
                env = (Pval(b"FILESYSTEM", b"/"), Pval(b"HIST", b"f"))
                dma.client.do(m.DataStartBackupRequest(b"tar", env))
                got = 0
                while got < 1 << 20:
                    got += len(stream.recv(1 << 16))
                yield dma, stream


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Makes a site, and ends it."""
    with contextlib.ExitStack() as held:

        def make(policy: str = "auto") -> Site:
            site = Site(tmp_path, policy)
            held.callback(site.cluster.stop)
            return site

        yield make


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    """A site that makes snapshots where it can."""
    return make_site()


def drain(stream: socket.socket) -> None:
    """Read the channel to its end."""
    while stream.recv(1 << 20):
        pass


def test_all_owners_are_ready_before_the_first_snapshot(site: Site) -> None:
    """What takes long comes first, everywhere; then all snapshots; then the first part."""
    _, _, reason = site.cluster.backup("fs1")
    assert reason is DataHaltReason.SUCCESSFUL
    steps = [event.partition(" ")[0] for event in site.events]
    assert steps == ["find", "prepare", "find", "prepare", "take", "take", "drop", "drop"] or steps == [
        "find", "find", "prepare", "prepare", "take", "take", "drop", "drop",
    ]  # fmt: skip


def test_a_backup_reads_the_snapshots(site: Site) -> None:
    """What clients write while it runs is not in it; the log names the parts, and the moment's width."""
    for kind in (site.fs1, site.fs2):
        kind.after_take = lambda path: (path / "late").touch()
    dma, _, reason = site.cluster.backup("fs2")
    assert reason is DataHaltReason.SUCCESSFUL
    assert set(dma.history) == {b"/", b"/a", b"/a/early", b"/b", b"/b/early"}
    (line,) = dma.log
    assert line.startswith("read from snapshots made within ")
    assert line.endswith(" ms: /a, /b")
    assert dma.env()[b"SPANREEL_STATUS"] == b"complete"


def test_a_part_of_a_fileset_is_found_in_its_snapshot(site: Site) -> None:
    """A backup that begins below a junction reads there, from a snapshot of the whole fileset."""
    below = site.cluster.local("fs1", "a") / "x" / "y"
    below.mkdir(parents=True)
    (below / "f").touch()
    dma, _, _ = site.cluster.backup("fs2", b"/a/x/y")
    assert set(dma.history) == {b"/", b"/f"}
    assert dma.log == ["read from a snapshot: /a/x/y"]


def test_each_is_dropped_when_its_part_was_read(site: Site) -> None:
    """The first is gone while the second part is still to come, and nothing is left in the end."""
    with site.held() as (dma, stream):
        assert [len(site.fs1.kept()), len(site.fs2.kept())] == [1, 1]
        (site.cluster.local("fs2", "b") / "early").unlink()
        drain(stream)
        assert dma.await_halt() is DataHaltReason.SUCCESSFUL
    assert [event for event in site.events if event.startswith("drop")] == ["drop fs1", "drop fs2"]
    assert b"/b/early" in dma.history
    assert site.fs1.kept() == site.fs2.kept() == []


@pytest.mark.parametrize("step", ["find", "prepare", "take"])
def test_an_owner_without_a_snapshot_is_read_as_it_is(site: Site, step: str) -> None:
    """No room, no tool, another file system: one note says which parts and why; all is saved."""
    site.fs2.refuses[step] = "no room for a snapshot"
    dma, _, reason = site.cluster.backup("fs1")
    assert reason is DataHaltReason.SUCCESSFUL
    assert b"/b/early" in dma.history
    assert dma.log == [
        "read from a snapshot: /a",
        "read without a snapshot: /b: no room for a snapshot",
    ]
    assert dma.env()[b"SPANREEL_STATUS"] == b"complete"
    assert site.fs1.kept() == site.fs2.kept() == []


def test_required_means_that_nothing_else_is_saved(make_site: Callable[..., Site]) -> None:
    """A part that gets no snapshot is skipped and named; the job is incomplete."""
    site = make_site("required")
    site.fs2.refuses["take"] = "no room for a snapshot"
    dma, _, reason = site.cluster.backup("fs1")
    assert reason is DataHaltReason.SUCCESSFUL
    assert b"/a/early" in dma.history
    assert b"/b/early" not in dma.history
    assert "/b: not saved, fs2 wants a snapshot and has none: no room for a snapshot" in dma.log
    assert dma.env()[b"SPANREEL_STATUS"] == b"incomplete"


def test_off_asks_no_file_system(make_site: Callable[..., Site]) -> None:
    """The trees are read as they are, and nothing is said about it every night."""
    site = make_site("off")
    dma, _, reason = site.cluster.backup("fs1")
    assert (reason, dma.log, site.events) == (DataHaltReason.SUCCESSFUL, [], [])


def test_an_abort_drops_them(site: Site) -> None:
    """Also that of a part which was never begun."""
    with site.held() as (dma, _):
        dma.client.do(m.DataAbortRequest())
        assert dma.await_halt() is DataHaltReason.ABORTED
        site.fs1.await_empty()
        site.fs2.await_empty()


def test_an_abort_does_not_wait_for_an_owner_that_flushes(site: Site) -> None:
    """Making ready may take minutes; the DMA hears at once, and the owner makes no snapshot afterwards."""
    flushing, go_on = threading.Event(), threading.Event()

    def flush() -> None:
        flushing.set()
        assert go_on.wait(60)

    site.fs2.in_prepare = flush
    dma, mover = site.cluster.dma("fs1"), site.cluster.mover()
    mover.take()
    dma.client.do(m.DataConnectRequest(mover.address))
    dma.client.do(m.DataStartBackupRequest(b"tar", (Pval(b"FILESYSTEM", b"/"),)))
    assert flushing.wait(60)
    dma.client.do(m.DataAbortRequest())
    assert dma.await_halt() is DataHaltReason.ABORTED
    dma.client.do(m.DataStopRequest())
    go_on.set()
    site.cluster.roles["fs2"].stop()
    assert not [event for event in site.events if event.startswith("take")]


def test_an_entry_server_that_loses_its_dma_drops_them(site: Site) -> None:
    """Nobody is left to say that the job is over."""
    with site.held() as (dma, _):
        dma.client.close()
        site.fs1.await_empty()
        site.fs2.await_empty()


@pytest.mark.parametrize(
    ("policy", "words", "status"),
    [
        ("auto", "/b: its snapshot is gone; it is read as it is by now", b"problems"),
        ("required", "/b: not saved: there is no snapshot, and it is not read without", b"incomplete"),
    ],
)
def test_an_owner_that_starts_again_has_lost_its_snapshot(
    make_site: Callable[..., Site], policy: str, words: str, status: bytes
) -> None:
    """Its part is of another moment than the rest: that is a problem with a name, never silence."""
    site = make_site(policy)
    with site.held() as (dma, stream):
        site.cluster.roles["fs2"].stop()
        assert site.fs2.kept() == []
        site.cluster.start_one("fs2")
        drain(stream)
        assert dma.await_halt() is DataHaltReason.SUCCESSFUL
    assert words in dma.log
    assert dma.env()[b"SPANREEL_STATUS"] == status
    assert (b"/b/early" in dma.history) == (policy == "auto")
    assert "read from a snapshot: /a" in dma.log


def test_a_start_drops_what_a_killed_process_left(site: Site) -> None:
    """Snapshots of the same file server go when it starts; those of another one stay."""
    owner = owner_of("fs1", site.cluster.configs["fs1"].node.state)
    site.cluster.roles["fs1"].stop()
    for name in (f"{owner}.20261125T080000-0a1b2c3d.1", "fs1-00000000.job.1"):
        (site.fs1.folder / name).mkdir()
    site.cluster.start_one("fs1")
    with site.fs1.changed:
        assert site.fs1.changed.wait_for(lambda: site.fs1.kept() == ["fs1-00000000.job.1"], 10)


def test_what_could_not_be_dropped_goes_before_the_next_job(site: Site) -> None:
    """A failure to drop ends no backup, and is made good for."""
    site.fs1.refuses["drop"] = "in use"
    _, _, reason = site.cluster.backup("fs1")
    assert reason is DataHaltReason.SUCCESSFUL
    (left,) = site.fs1.kept()
    site.fs1.after_take = lambda _: site.events.append(f"kept {left in site.fs1.kept()}")
    site.cluster.backup("fs1")
    assert "kept False" in site.events


def test_two_jobs_of_one_fileset_have_a_snapshot_each(site: Site) -> None:
    """The one that ends first leaves the other's alone."""
    with site.held() as (dma, stream):
        (site.cluster.local("fs2", "b") / "second").touch()
        second, _, reason = site.cluster.backup("fs2", b"/b")
        assert reason is DataHaltReason.SUCCESSFUL
        assert b"/second" in second.history
        assert [len(site.fs1.kept()), len(site.fs2.kept())] == [1, 1]
        drain(stream)
        assert dma.await_halt() is DataHaltReason.SUCCESSFUL
    assert b"/b/second" not in dma.history
    assert site.fs1.kept() == site.fs2.kept() == []


def test_an_owner_that_is_away_holds_nobody_up(site: Site) -> None:
    """Its part is skipped and named, as without snapshots; the others have theirs."""
    site.cluster.roles["fs2"].stop()
    dma, _, reason = site.cluster.backup("fs1")
    assert reason is DataHaltReason.SUCCESSFUL
    assert "read from a snapshot: /a" in dma.log
    assert any(line.startswith("/b: skipped") for line in dma.log)
    assert not any("without a snapshot" in line for line in dma.log)
