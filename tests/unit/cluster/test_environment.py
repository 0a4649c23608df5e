"""What the variables of a backup do over several owners (draft-skardal-ndmpv4-04, 3.2.5, 3.2.6, 3.5.2)."""

from __future__ import annotations

import os

import pytest

from appliance.ndmp import messages as m
from appliance.ndmp.enums import ButypeAttr, DataHaltReason, ErrorCode
from appliance.ndmp.errors import ReplyError
from appliance.ndmp.types import Pval
from tests.unit.cluster.conftest import Cluster
from tests.unit.cluster.test_backup import members, seed


def saved(cluster: Cluster, *more: tuple[bytes, bytes], path: bytes = b"/") -> tuple[list[str], list[str]]:
    """The members of a backup with these variables, and its log."""
    dma, mover, reason = cluster.backup("fs1", path, b"tar", *more)
    assert reason is DataHaltReason.SUCCESSFUL
    return members(mover.image), dma.log


@pytest.mark.parametrize(
    ("values", "gone"),
    [
        ((b"*.txt",), {"home/c.txt", "projects/a.txt"}),
        ((b"/projects/a*,/home/c.txt",), {"home/c.txt", "projects/a.txt"}),
        ((b"a.txt", b"b.*"), {"projects/a.txt", "projects/media/b.bin"}),
        ((b"/projects/media",), {"projects/media/", "projects/media/b.bin"}),
        ((b"home",), {"home/", "home/c.txt"}),
        ((b"projects",), {"projects/", "projects/a.txt", "projects/media/", "projects/media/b.bin"}),
        ((b"nothing",), set()),
    ],
)
def test_exclude_reaches_every_owner(cluster: Cluster, values: tuple[bytes, ...], gone: set[str]) -> None:
    """EXCLUDE is honoured by every owner, and leaves whole parts out."""
    seed(cluster)
    everything = set(members(cluster.backup("fs1")[1].image))
    left, log = saved(cluster, *((b"EXCLUDE", value) for value in values))
    assert (set(left), log) == (everything - gone, [])


def test_exclude_is_relative_to_the_root_of_the_backup(cluster: Cluster) -> None:
    """A path in EXCLUDE begins at FILESYSTEM, as those of the file history do."""
    seed(cluster)
    left, _ = saved(cluster, (b"EXCLUDE", b"/media"), path=b"/projects")
    assert left == ["projects/", "projects/a.txt"]


def test_files_reaches_every_owner(cluster: Cluster) -> None:
    """FILES selects below FILESYSTEM, directories on the way come along, other parts are not touched."""
    seed(cluster)
    left, log = saved(cluster, (b"FILES", b"./home/*.txt"), (b"FILES", b"projects/media/b.bin"))
    assert left == ["./", "home/", "home/c.txt", "projects/", "projects/media/", "projects/media/b.bin"]
    assert log == []


def test_files_that_nobody_has_are_named(cluster: Cluster) -> None:
    """What FILES asks for and is not there makes a problem, not a failure."""
    seed(cluster)
    dma, _, _ = cluster.backup("fs2", b"/", b"tar", (b"FILES", b"home"), (b"FILES", b"home/nothing*"))
    assert dma.log == ["FILES: there is nothing at home/nothing*"]
    env = dma.env()
    assert (env[b"SPANREEL_STATUS"], env[b"SPANREEL_PROBLEMS"]) == (b"problems", b"1")


def test_marks_reach_every_owner(cluster: Cluster) -> None:
    """What users marked is left out by each owner, if asked, with a line from each and no problem."""
    seed(cluster)
    signature = b"Signature: 8a477f597d28d172789f06886806bc55"
    (cluster.local("fs1", "p") / "CACHEDIR.TAG").write_bytes(signature)
    (cluster.local("fs2", "h") / "CACHEDIR.TAG").write_bytes(signature)
    everything = set(saved(cluster)[0])
    dma, mover, _ = cluster.backup("fs1", b"/", b"tar", (b"SPANREEL_SKIP_CACHES", b"y"))
    assert everything - set(members(mover.image)) == {"home/c.txt", "projects/a.txt"}
    said = [(path, int(path != "/projects/media")) for path in ("/home", "/projects", "/projects/media")]
    assert dma.log == [
        f"{path}: left out as asked: {count} {'cache' if count else 'caches'} by CACHEDIR.TAG"
        for path, count in said
    ]
    assert dma.env()[b"SPANREEL_STATUS"] == b"complete"


@pytest.mark.parametrize(
    ("butype", "variable", "why"),
    [
        (b"dump", (b"TYPE", b"tar"), "TYPE=tar contradicts the backup type dump"),
        (b"cpio", (b"HIST", b"y"), "backup type cpio is not offered; use tar or dump"),
        (
            b"dump",
            (b"LEVEL", b"3"),
            "no file server knows a backup of a level below 3 of /: make a full one (level 0) first",
        ),
        (b"tar", (b"EXCLUDE", b",".join([b"x"] * 33)), "EXCLUDE has 33 items; 32 are allowed"),
        (b"tar", (b"FILES", b"../x"), "FILES: '../x' does not name anything below the backup's root"),
    ],
)
def test_what_cannot_be_done_is_refused_in_words(
    cluster: Cluster, butype: bytes, variable: tuple[bytes, bytes], why: str
) -> None:
    """ILLEGAL_ARGS, with the reason in a log line before the reply."""
    seed(cluster)
    dma, mover = cluster.dma("fs1"), cluster.mover()
    mover.take()
    dma.client.do(m.DataConnectRequest(mover.address))
    with pytest.raises(ReplyError) as refused:
        dma.client.do(m.DataStartBackupRequest(butype, (Pval(b"FILESYSTEM", b"/"), Pval(*variable))))
    assert refused.value.code is ErrorCode.ILLEGAL_ARGS
    post = dma.client.posts.get(timeout=10)
    assert post is not None
    assert why.encode() in post.raw


def test_another_user_is_noted(cluster: Cluster) -> None:
    """USER is accepted, and a line says that all files are read all the same."""
    seed(cluster)
    assert saved(cluster, (b"USER", b"nobody"))[1] == ["USER=nobody is ignored: all files are read"]
    assert saved(cluster, (b"USER", str(os.geteuid()).encode()))[1] == []


def test_the_environment_is_there_during_and_after_a_backup(cluster: Cluster) -> None:
    """DATA_GET_ENV returns all that was sent, repeated variables in order, and the separator (3.5.2.7)."""
    seed(cluster)
    with (cluster.local("fs1", "p") / "big").open("wb") as big:
        for _ in range(64):
            big.write(bytes(1 << 20))
    dma, mover = cluster.dma("fs1"), cluster.mover()
    dma.client.do(m.DataConnectRequest(mover.address))
    sent = (
        Pval(b"FILESYSTEM", b"/"),
        Pval(b"EXCLUDE", b"x"),
        Pval(b"EXCLUDE", b"y"),
        Pval(b"UPDATE", b"T"),
        Pval(b"\xff", b"\xfe"),
    )
    dma.client.do(m.DataStartBackupRequest(b"dump", sent))
    during = dma.client.call(m.DataGetEnvRequest(), m.DataGetEnvReply).env
    mover.take()
    assert dma.await_halt() is DataHaltReason.SUCCESSFUL
    after = dma.client.call(m.DataGetEnvRequest(), m.DataGetEnvReply).env
    for env in (during, after):
        assert [pair for pair in env if pair in sent] == list(sent)
        assert Pval(b"PATHNAME_SEPARATOR", b"/") in env


@pytest.mark.parametrize("butype", [b"tar", b"dump"])
def test_a_restore_takes_either_type(cluster: Cluster, butype: bytes) -> None:
    """One stream: an image of either type is restored by either, and its environment is there afterwards."""
    seed(cluster)
    cluster.add(("/restored", "fs2", "r"))
    _, mover, _ = cluster.backup("fs1", b"/home", b"dump")
    dma, giving = cluster.dma("fs2"), cluster.mover()
    giving.give(mover.image)
    dma.client.do(m.DataConnectRequest(giving.address))
    env = (Pval(b"TYPE", b"dump"), Pval(b"PREFIX", b"/restored"), Pval(b"UNKNOWN", b"kept"))
    dma.client.do(m.DataStartRecoverRequest(env, (), butype))
    assert dma.await_halt() is DataHaltReason.SUCCESSFUL
    assert (cluster.local("fs2", "r") / "c.txt").read_text() == "of fs2"
    assert dma.env()[b"UNKNOWN"] == b"kept"


def test_both_types_are_offered(cluster: Cluster) -> None:
    """GET_BUTYPE_INFO and GET_FS_INFO tell of tar and dump, with either form of history."""
    client = cluster.dma("fs1").client
    info = client.call(m.ConfigGetButypeInfoRequest(), m.ConfigGetButypeInfoReply).butype_info
    assert [each.butype_name for each in info] == [b"tar", b"dump"]
    for each in info:
        assert Pval(b"TYPE", each.butype_name) in each.default_env
        assert each.attrs & ButypeAttr.BACKUP_FH_FILE
        assert each.attrs & ButypeAttr.BACKUP_FH_DIR
        assert each.attrs & ButypeAttr.BACKUP_FILELIST
        assert each.attrs & ButypeAttr.BACKUP_INCREMENTAL
    systems = client.call(m.ConfigGetFsInfoRequest(), m.ConfigGetFsInfoReply).fs_info
    env = {pair.name: pair.value for pair in systems[0].fs_env}
    assert (env[b"AVAILABLE_BACKUP"], env[b"AVAILABLE_RECOVERY"]) == (b"tar,dump", b"tar,dump")
