"""A restore goes to today's owners: parts that were split, moved or lost since the backup."""

from __future__ import annotations

from appliance.gns import client
from appliance.ndmp.enums import DataHaltReason, RecoveryStatus
from tests.unit.cluster.conftest import Cluster
from tests.unit.cluster.test_backup import seed


def test_a_part_that_was_split_since(cluster: Cluster) -> None:
    """What was one owner's part goes to both servers that have it today, each its share."""
    cluster.add(("/all", "fs1", "all"))
    (cluster.local("fs1", "all") / "here").mkdir()
    (cluster.local("fs1", "all") / "here/file").write_text("stays")
    (cluster.local("fs1", "all") / "there").mkdir()
    (cluster.local("fs1", "all") / "there/file").write_text("goes")
    _, mover, _ = cluster.backup("fs1", b"/all")
    (cluster.local("fs1", "all") / "here/file").unlink()
    cluster.add(("/all/there", "fs2", "split"))
    dma, reason = cluster.restore("fs2", mover.image, (b"", b"/all"))
    assert reason is DataHaltReason.SUCCESSFUL
    assert (cluster.local("fs1", "all") / "here/file").read_text() == "stays"
    assert (cluster.local("fs2", "split") / "file").read_text() == "goes"
    assert dma.env()[b"SPANREEL_STATUS"] == b"complete"


def test_a_server_that_is_gone_costs_its_parts_only(cluster: Cluster) -> None:
    """The parts of a file server that is away are named as not restored; all others are there."""
    seed(cluster)
    _, mover, _ = cluster.backup("fs1")
    (cluster.local("fs1", "p") / "a.txt").unlink()
    cluster.roles["fs2"].stop()
    dma, reason = cluster.restore("fs1", mover.image, (b"", b"/"), (b"/home", b"/projects/of-fs2"))
    assert reason is DataHaltReason.SUCCESSFUL
    assert (cluster.local("fs1", "p") / "a.txt").read_text() == "of fs1"
    assert (cluster.local("fs1", "p") / "of-fs2/c.txt").read_text() == "of fs2"
    assert any("not restored: fs2 did not start" in line for line in dma.log)
    assert dma.env()[b"SPANREEL_STATUS"] == b"incomplete"
    ended = {post.name: post.recovery_status for post in dma.files}
    assert ended[b"/home"] is RecoveryStatus.SUCCESSFUL
    assert ended[b""] is not RecoveryStatus.SUCCESSFUL


def test_an_incremental_backup_after_a_move(cluster: Cluster) -> None:
    """The new owner has no base: it saves the part whole, and the chain gives the tree all the same."""
    seed(cluster)
    _, full, _ = cluster.backup("fs1")
    client.move(cluster.configs["fs1"], b"/home", "fs1", bytes(cluster.local("fs1", "moved") / "home"))
    (cluster.local("fs1", "moved") / "home/new").write_text("new")
    dma, changed, reason = cluster.backup("fs2", b"/", b"tar", (b"LEVEL", b"1"))
    assert (reason, dma.log) == (DataHaltReason.SUCCESSFUL, [])
    assert {b"/home/c.txt", b"/home/new"} <= dma.history.keys()
    cluster.add(("/back", "fs2", "back"))
    for mover in (full, changed):
        _, reason = cluster.restore("fs1", mover.image, (b"", b"/back"), EXTRACT=b"n")
        assert reason is DataHaltReason.SUCCESSFUL
    back = cluster.local("fs2", "back") / "home"
    assert sorted(path.name for path in back.iterdir()) == ["c.txt", "new"]
