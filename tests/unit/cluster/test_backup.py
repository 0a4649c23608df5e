"""Backups over several owners: one image, one channel, one file history."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from appliance import dataservice
from appliance.ndmp import dataconn
from appliance.ndmp import messages as m
from appliance.ndmp.enums import DataHaltReason, DataState, ErrorCode
from appliance.ndmp.errors import ReplyError
from appliance.ndmp.types import Pval
from tests.unit.cluster.conftest import Cluster

PARTS = (("/projects", "fs1", "p"), ("/projects/media", "fs2", "m"), ("/home", "fs2", "h"))


def seed(cluster: Cluster) -> None:
    """Make a tree of two owners; one part of the second lies below a directory of the first."""
    cluster.add(*PARTS)
    (cluster.local("fs1", "p") / "a.txt").write_text("of fs1")
    (cluster.local("fs1", "p") / "media").mkdir()
    (cluster.local("fs1", "p") / "media" / "hidden").write_text("below a junction: not in the tree")
    (cluster.local("fs2", "m") / "b.bin").write_bytes(bytes(range(256)) * 5000)
    (cluster.local("fs2", "h") / "c.txt").write_text("of fs2")


def members(image: bytes) -> list[str]:
    """What GNU tar lists; it must not complain."""
    run = subprocess.run(["tar", "-tf", "-"], input=image, capture_output=True, check=True)
    assert run.stderr == b""
    return sorted(run.stdout.decode().splitlines())


@pytest.mark.parametrize("entry", ["fs1", "fs2"])
def test_any_file_server_saves_the_whole_tree(cluster: Cluster, entry: str) -> None:
    """The image holds every owner's files once, by global path, whichever file server is asked."""
    seed(cluster)
    dma, mover, reason = cluster.backup(entry)
    assert (reason, dma.log) == (DataHaltReason.SUCCESSFUL, [])
    assert members(mover.image) == [
        "./", "home/", "home/c.txt", "projects/", "projects/a.txt", "projects/media/", "projects/media/b.bin",
    ]  # fmt: skip


def test_one_channel_for_the_whole_job(cluster: Cluster) -> None:
    """The media server sees exactly one connection, and it is the connection server's."""
    seed(cluster)
    _, mover, _ = cluster.backup("fs1")
    assert mover.connections == 1


def test_gnu_tar_extracts_the_image_in_silence(cluster: Cluster, tmp_path: Path) -> None:
    """GNU tar reads an image of several parts to its end without a word."""
    seed(cluster)
    _, mover, _ = cluster.backup("fs2")
    out = tmp_path / "out"
    out.mkdir()
    run = subprocess.run(["tar", "-C", out, "-xf", "-"], input=mover.image, capture_output=True, check=True)
    assert run.stderr == b""
    assert (out / "projects/media/b.bin").read_bytes() == bytes(range(256)) * 5000


def test_history_points_into_the_image(cluster: Cluster) -> None:
    """Each name's fh_info is the offset in the whole image of its member; node numbers are unique."""
    seed(cluster)
    dma, mover, _ = cluster.backup("fs1")
    assert len(set(dma.nodes.values())) == len(dma.nodes) == 7
    for path, offset in dma.history.items():
        with tarfile.open(fileobj=io.BytesIO(mover.image[offset:])) as archive:
            member = archive.next()
            assert member is not None
            assert b"/" + member.name.lstrip("./").encode() == path


def test_counts_and_environment_after_the_halt(cluster: Cluster) -> None:
    """DATA_GET_STATE is exact at the halt, and DATA_GET_ENV returns unknown variables and the totals."""
    seed(cluster)
    dma, mover, _ = cluster.backup("fs1")
    env = dma.env()
    assert dma.state().bytes_processed == len(mover.image) == int(env[b"SPANREEL_BYTES"])
    assert (env[b"UNKNOWN"], env[b"SPANREEL_STATUS"]) == (b"kept", b"complete")
    dma.client.do(m.DataStopRequest())
    assert dma.state().state is DataState.IDLE


def test_no_local_path_leaves_the_file_servers(cluster: Cluster) -> None:
    """Neither image nor history nor log holds a local path."""
    seed(cluster)
    dma, mover, _ = cluster.backup("fs1")
    local = bytes(cluster.folder)
    said = [*dma.history, *(line.encode() for line in dma.log), *dma.env().values(), mover.image]
    assert not any(local in each for each in said)


def test_an_unknown_path_is_refused_with_its_reason(cluster: Cluster) -> None:
    """START_BACKUP of a path that nobody owns is ILLEGAL_ARGS, and the log says why."""
    seed(cluster)
    dma, mover = cluster.dma("fs1"), cluster.mover()
    mover.take()
    dma.client.do(m.DataConnectRequest(mover.address))
    with pytest.raises(ReplyError) as refused:
        dma.client.do(m.DataStartBackupRequest(b"tar", (Pval(b"FILESYSTEM", b"/nowhere"),)))
    assert refused.value.code is ErrorCode.ILLEGAL_ARGS
    post = dma.client.posts.get(timeout=10)
    assert post is not None
    assert b"/nowhere" in post.raw


def test_a_lost_owner_before_its_part_makes_the_job_incomplete(cluster: Cluster) -> None:
    """An owner that cannot be reached is skipped and named; the other owners are saved."""
    seed(cluster)
    cluster.roles.pop("fs2").stop()
    dma, mover, reason = cluster.backup("fs1")
    assert reason is DataHaltReason.SUCCESSFUL
    assert dma.env()[b"SPANREEL_STATUS"] == b"incomplete"
    assert [line.split(":")[0] for line in dma.log] == ["/home", "/projects/media"]
    assert "projects/a.txt" in members(mover.image)


def test_an_aborted_backup_halts_at_once(cluster: Cluster) -> None:
    """ABORT of a backup whose mover does not read is answered, and the halt follows."""
    seed(cluster)
    with (cluster.local("fs1", "p") / "big").open("wb") as big:
        big.truncate(1 << 34)
        big.seek(1 << 33)
        for _ in range(64):
            big.write(bytes(1 << 20))
    dma, mover = cluster.dma("fs1"), cluster.mover()
    dma.client.do(m.DataConnectRequest(mover.address))
    dma.client.do(m.DataStartBackupRequest(b"tar", (Pval(b"FILESYSTEM", b"/"),)))
    dma.client.do(m.DataAbortRequest(), timeout=10)
    assert dma.await_halt() is DataHaltReason.ABORTED
    dma.client.do(m.DataStopRequest())
    assert dma.state().state is DataState.IDLE


def test_a_backup_may_start_as_soon_as_the_mover_has_connected(cluster: Cluster) -> None:
    """Once the mover has connected START_BACKUP is not too early, though word of it travels behind."""
    seed(cluster)
    for _ in range(5):
        dma = cluster.dma("fs1")
        address = dma.client.call(m.DataListenRequest(), m.DataListenReply).connect_addr
        with dataconn.connect(address, "127.79.0.31") as stream:
            dma.client.do(m.DataStartBackupRequest(b"tar", (Pval(b"FILESYSTEM", b"/home"),)))
            image = b"".join(iter(lambda: stream.recv(1 << 20), b""))
        assert dma.await_halt() is DataHaltReason.SUCCESSFUL
        assert "home/c.txt" in members(image)


def test_a_backup_without_a_mover_is_illegal(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """START_BACKUP while nobody has connected is ILLEGAL_STATE, after a moment's grace."""
    monkeypatch.setattr(dataservice, "ACCEPT_LAG_S", 0.01)
    dma = cluster.dma("fs1")
    dma.client.do(m.DataListenRequest())
    with pytest.raises(ReplyError) as refused:
        dma.client.do(m.DataStartBackupRequest(b"tar", (Pval(b"FILESYSTEM", b"/"),)))
    assert refused.value.code is ErrorCode.ILLEGAL_STATE
    assert dma.state().state is DataState.LISTEN


def test_a_path_that_is_not_there_fails_with_one_reason(cluster: Cluster) -> None:
    """A backup of what its owner does not have fails, and each line says so by its global path."""
    seed(cluster)
    dma, _, reason = cluster.backup("fs1", b"/home/no/such")
    assert reason is DataHaltReason.INTERNAL_ERROR
    assert dma.log == [
        "/home/no/such: No such file or directory",
        "the job failed: nothing was saved: /home/no/such is not there",
    ]


def test_no_symbolic_link_leads_a_backup_out_of_its_part(cluster: Cluster) -> None:
    """A path through a symbolic link is not there, whatever the link points at."""
    seed(cluster)
    (cluster.local("fs2", "h") / "out").symlink_to("/etc")
    dma, _, reason = cluster.backup("fs1", b"/home/out/passwd")
    assert reason is DataHaltReason.INTERNAL_ERROR
    assert dma.log[-1].endswith("nothing was saved: /home/out/passwd is not there")


def test_a_cluster_aware_dma_learns_early_what_cannot_be_saved(cluster: Cluster) -> None:
    """CAB's prepare checks backup type and path; the backup that follows works as any other."""
    seed(cluster)
    dma = cluster.dma("fs2")
    dma.client.call(m.ConfigGetExtListRequest(), m.ConfigGetExtListReply)
    dma.client.do(m.ConfigSetExtListRequest((m.ClassVersion(m.CAB_CLASS, 1),)))
    dma.client.do(m.CabDataConnPrepareRequest(b"tar", (Pval(b"FILESYSTEM", b"/projects"),)))
    for butype, path in ((b"tar", b"/nowhere"), (b"zip", b"/projects")):
        with pytest.raises(ReplyError) as refused:
            dma.client.do(m.CabDataConnPrepareRequest(butype, (Pval(b"FILESYSTEM", path),)))
        assert refused.value.code is ErrorCode.ILLEGAL_ARGS
    _, mover, reason = cluster.backup("fs2", b"/projects")
    assert reason is DataHaltReason.SUCCESSFUL
    assert "projects/media/b.bin" in members(mover.image)
