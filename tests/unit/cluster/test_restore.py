"""Restores over several owners: to whoever owns each target today."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from pathlib import Path

import pytest

from appliance.errors import ConfigurationError, JobError
from appliance.gns.change import batch_change, remove_change, replace_change
from appliance.gns.client import fetch_map, move, send_change
from appliance.ndmp import messages as m
from appliance.ndmp.enums import DataHaltReason, ErrorCode, RecoveryStatus
from appliance.ndmp.errors import ReplyError
from appliance.ndmp.types import Name
from tests.unit.cluster.conftest import WAIT_S, Cluster

PARTS = (
    ("/projects", "fs1", "p"),
    ("/projects/media", "fs2", "m"),
    ("/home", "fs2", "h"),
    ("/restored", "fs1", "r"),
    ("/restored/home", "fs2", "rh"),
)


def seed(cluster: Cluster) -> bytes:
    """Make the trees and return an image of them."""
    cluster.add(*PARTS[:3])
    (cluster.local("fs1", "p") / "a.txt").write_text("of fs1")
    os.link(cluster.local("fs1", "p") / "a.txt", cluster.local("fs1", "p") / "hard")
    (cluster.local("fs2", "m") / "b.bin").write_bytes(bytes(range(256)) * 5000)
    (cluster.local("fs2", "h") / "deep").mkdir()
    (cluster.local("fs2", "h") / "deep" / "c.txt").write_text("of fs2")
    _, mover, reason = cluster.backup("fs1")
    assert reason is DataHaltReason.SUCCESSFUL
    cluster.add(*PARTS)
    return mover.image


def tree(top: Path) -> dict[str, bytes]:
    """Files below a directory."""
    return {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}


@pytest.mark.parametrize("entry", ["fs1", "fs2"])
def test_a_whole_image_goes_to_the_owners_of_the_target(cluster: Cluster, entry: str) -> None:
    """Restored elsewhere, each member lands with the server that owns its new place."""
    image = seed(cluster)
    dma, reason = cluster.restore(entry, image, (b"", b"/restored"))
    assert (reason, dma.log) == (DataHaltReason.SUCCESSFUL, [])
    assert tree(cluster.local("fs1", "r")) == {
        "projects/a.txt": b"of fs1",
        "projects/hard": b"of fs1",
        "projects/media/b.bin": bytes(range(256)) * 5000,
    }
    assert tree(cluster.local("fs2", "rh")) == {"deep/c.txt": b"of fs2"}
    assert dma.files == [m.LogFilePost(b"", RecoveryStatus.SUCCESSFUL)]
    assert dma.env()[b"SPANREEL_STATUS"] == b"complete"


def test_in_place_after_the_originals_were_deleted(cluster: Cluster) -> None:
    """Everything comes back where it was, on both owners."""
    image = seed(cluster)
    before = [tree(cluster.local(*place)) for place in (("fs1", "p"), ("fs2", "m"), ("fs2", "h"))]
    for node, name in (("fs1", "p"), ("fs2", "m"), ("fs2", "h")):
        shutil.rmtree(cluster.local(node, name))
        cluster.local(node, name)
    _, reason = cluster.restore("fs2", image, (b"", b"/"))
    assert reason is DataHaltReason.SUCCESSFUL
    assert [tree(cluster.local(*p)) for p in (("fs1", "p"), ("fs2", "m"), ("fs2", "h"))] == before


def test_single_names_two_targets_and_one_that_is_not_there(cluster: Cluster) -> None:
    """Each nlist entry has its own target and its own status."""
    image = seed(cluster)
    dma, reason = cluster.restore(
        "fs1",
        image,
        (b"/projects/a.txt", b"/restored/one.txt"),
        (b"/home/deep", b"/restored/home/deeper"),
        (b"/nowhere", b"/restored/nowhere"),
    )
    assert reason is DataHaltReason.SUCCESSFUL
    assert tree(cluster.local("fs1", "r")) == {"one.txt": b"of fs1"}
    assert tree(cluster.local("fs2", "rh")) == {"deeper/c.txt": b"of fs2"}
    assert {post.name: post.recovery_status for post in dma.files} == {
        b"/projects/a.txt": RecoveryStatus.SUCCESSFUL,
        b"/home/deep": RecoveryStatus.SUCCESSFUL,
        b"/nowhere": RecoveryStatus.FAILED_NOT_FOUND,
    }
    assert (dma.env()[b"SPANREEL_STATUS"], dma.env()[b"SPANREEL_PROBLEMS"]) == (b"problems", b"1")


def test_what_is_kept_is_said(cluster: Cluster) -> None:
    """A restore that leaves existing files says how many, server by server, and is no problem."""
    image = seed(cluster)
    dma, reason = cluster.restore("fs1", image, (b"home", b"/home"), EXISTING=b"keep")
    assert reason is DataHaltReason.SUCCESSFUL
    assert dma.log == ["fs2 left 2 names that were there already as they are (existing: keep)"]


def test_an_empty_nlist_is_everything_and_names_nothing(cluster: Cluster) -> None:
    """As ndmjob restores: all to PREFIX, no LOG_FILE, and no totals of the backup in the environment."""
    image = seed(cluster)
    dma, reason = cluster.restore("fs2", image, PREFIX=b"/restored", SPANREEL_NODES=b"99")
    assert reason is DataHaltReason.SUCCESSFUL
    assert tree(cluster.local("fs2", "rh")) == {"deep/c.txt": b"of fs2"}
    assert (dma.files, dma.env().get(b"SPANREEL_NODES")) == ([], None)
    assert dma.state().bytes_processed == len(image)


def test_an_owner_lost_during_a_restore_costs_its_files_only(cluster: Cluster) -> None:
    """The others' files are restored, the lost server is named, the job is incomplete and ends."""
    image = seed(cluster)
    dma, mover, lost = cluster.dma("fs1"), cluster.mover(), threading.Event()

    def give() -> None:
        with contextlib.suppress(OSError), mover._accept() as stream:
            stream.sendall(image[:1024])
            assert lost.wait(WAIT_S)
            stream.sendall(image[1024:])
            stream.recv(1)

    giving = threading.Thread(target=give)
    giving.start()
    dma.client.do(m.DataConnectRequest(mover.address))
    dma.client.do(m.DataStartRecoverRequest((), (Name(b"", b"/restored"),), b"tar"))
    assert dma.client.posts.get(timeout=WAIT_S) is not None
    cluster.roles.pop("fs2").stop()
    lost.set()
    assert dma.await_halt() is DataHaltReason.SUCCESSFUL
    giving.join(WAIT_S)
    assert dma.env()[b"SPANREEL_STATUS"] == b"incomplete"
    assert dma.log == ["not restored: fs2 was lost during the restore"]
    assert "projects/a.txt" in tree(cluster.local("fs1", "r"))


def test_listening_without_a_connection_server_is_refused(cluster: Cluster) -> None:
    """DATA_LISTEN is CONNECT_ERR with a line in the log, and the session can try again."""
    cluster.roles.pop("conn1").stop()
    dma = cluster.dma("fs1")
    for _ in range(2):
        with pytest.raises(ReplyError) as refused:
            dma.client.do(m.DataListenRequest())
        assert refused.value.code is ErrorCode.CONNECT
        post = dma.client.posts.get(timeout=10)
        assert post is not None
        assert b"no connection server" in post.raw


def test_a_junction_that_moved_since_the_backup(cluster: Cluster) -> None:
    """A restore in place goes to today's owner, not to the one the backup was made from."""
    image = seed(cluster)
    config = cluster.configs["fs1"]
    new = cluster.local("fs1", "moved-home")
    change = replace_change(fetch_map(config).at(b"/home"), "fs1", bytes(new))
    send_change(config, change)
    _, reason = cluster.restore("fs2", image, (b"/home", b"/home"))
    assert reason is DataHaltReason.SUCCESSFUL
    assert tree(new) == {"deep/c.txt": b"of fs2"}


def test_a_target_that_nobody_owns_is_refused(cluster: Cluster) -> None:
    """START_RECOVER to such a path is FILE_NOT_FOUND, with the reason in the log."""
    seed(cluster)
    dma, mover = cluster.dma("fs1"), cluster.mover()
    mover.give(b"")
    dma.client.do(m.DataConnectRequest(mover.address))
    with pytest.raises(ReplyError) as refused:
        dma.client.do(m.DataStartRecoverRequest((), (Name(b"", b"/nobody"),), b"tar"))
    assert refused.value.code is ErrorCode.FILE_NOT_FOUND


def test_a_truncated_image_is_no_success(cluster: Cluster) -> None:
    """An image that ends early halts the job as failed; what came whole is restored."""
    image = seed(cluster)
    _, reason = cluster.restore("fs1", image[: len(image) // 2], (b"", b"/restored"))
    assert reason is not DataHaltReason.SUCCESSFUL
    assert tree(cluster.local("fs2", "rh")) == {"deep/c.txt": b"of fs2"}


def test_move_keeps_the_path_and_the_files(cluster: Cluster) -> None:
    """`gns move` copies a part to another server and switches it over under the same global path."""
    seed(cluster)
    config = cluster.configs["fs2"]
    before = fetch_map(config).at(b"/home")
    new = cluster.folder / "fs1" / "data" / "home-of-fs1"
    move(config, b"/home", "fs1", bytes(new))
    after = fetch_map(config).at(b"/home")
    assert (after.owner, after.local, after.fileset) == ("fs1", bytes(new), before.fileset)
    assert tree(new) == {"deep/c.txt": b"of fs2"}
    assert [each.path for each in fetch_map(config).junctions if each.path.startswith(b"/.")] == []


@pytest.mark.parametrize(("name", "why"), [("old", "is not empty"), ("old/file/x", "cannot be made")])
def test_move_to_a_directory_with_files_is_refused(cluster: Cluster, name: str, why: str) -> None:
    """Files of another time never slip into a part that moves; it stays, and the reason is told."""
    seed(cluster)
    (cluster.local("fs1", "old") / "file").write_text("deleted long ago")
    with pytest.raises(JobError, match=f"/home was not moved: .*{why}.*; it is still on fs2"):
        move(cluster.configs["fs2"], b"/home", "fs1", bytes(cluster.folder / "fs1" / "data" / name))
    after = fetch_map(cluster.configs["fs2"])
    assert after.at(b"/home").owner == "fs2"
    assert [each.path for each in after.junctions if each.path.startswith(b"/.")] == []
    assert tree(cluster.local("fs1", "old")) == {"file": b"deleted long ago"}


def test_a_removed_junction_is_not_saved(cluster: Cluster) -> None:
    """`gns rm` takes a part out of the name space, and so out of the next backup."""
    seed(cluster)
    send_change(cluster.configs["fs1"], batch_change([remove_change(b"/home")]))
    dma, _, reason = cluster.backup("fs2")
    assert reason is DataHaltReason.SUCCESSFUL
    assert not any(path.startswith(b"/home") for path in dma.history)


def test_a_part_on_its_way_is_in_no_backup(cluster: Cluster) -> None:
    """The new place of a part that is still being copied is not a part of the tree yet."""
    seed(cluster)
    cluster.add(("/.moving-0123456789ab", "fs1", "on-its-way"))
    dma, _, reason = cluster.backup("fs2")
    assert reason is DataHaltReason.SUCCESSFUL
    assert not any(path.startswith(b"/.moving") for path in dma.history)


def test_a_move_onto_itself_is_refused_in_words_for_people(cluster: Cluster) -> None:
    """The reason names the part and says "its new place", not the hidden name of the copy."""
    seed(cluster)
    with pytest.raises(ConfigurationError) as refused:
        move(cluster.configs["fs1"], b"/home", "fs2", bytes(cluster.local("fs2", "h")))
    assert "its new place" in str(refused.value)
    assert ".moving-" not in str(refused.value)


def test_an_interrupted_move_leaves_nothing(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C during the copy takes the hidden junction away, and the part stays where it was."""
    seed(cluster)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("appliance.gns.client.copy_part", interrupted)
    before = fetch_map(cluster.configs["fs1"]).junctions
    with pytest.raises(KeyboardInterrupt):
        move(cluster.configs["fs1"], b"/home", "fs1", bytes(cluster.local("fs1", "new")))
    assert fetch_map(cluster.configs["fs1"]).junctions == before
