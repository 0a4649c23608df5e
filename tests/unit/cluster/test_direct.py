"""Restores by direct access: only what is needed is read, across owners, and nothing is missed."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from appliance.connection.reads import FIRST_BYTES
from appliance.ndmp import messages as m
from appliance.ndmp.enums import ALL_ONES, ButypeAttr, DataHaltReason, RecoveryStatus
from appliance.ndmp.types import Name, Pval
from tests.unit.cluster.conftest import Cluster, Dma

PARTS = (
    ("/projects", "fs1", "p"),
    ("/projects/media", "fs2", "m"),
    ("/home", "fs2", "h"),
    ("/restored", "fs1", "r"),
    ("/restored/home", "fs2", "rh"),
)
LARGE = bytes(range(256)) * 8000


class Saved:
    """An image, and what a DMA keeps of it."""

    def __init__(self, dma: Dma, image: bytes, pairs: tuple[Pval, ...]) -> None:
        self.image = image
        self.at = dma.history
        self.table = tuple(pair for pair in pairs if pair.name == b"SPANREEL_PART")


@pytest.fixture
def saved(cluster: Cluster) -> Saved:
    """Trees of two owners, large enough that reading all of them shows."""
    cluster.add(*PARTS[:3])
    projects, media, home = (cluster.local(*place) for place in (("fs1", "p"), ("fs2", "m"), ("fs2", "h")))
    (projects / "a.txt").write_text("of fs1")
    (projects / "big").write_bytes(LARGE)
    os.link(projects / "a.txt", projects / "hard")
    for name in ("one", "one-more"):
        (projects / name / "sub").mkdir(parents=True)
        (projects / name / "x").write_text(f"x of {name}")
        (projects / name / "sub" / "y").write_bytes(LARGE)
    os.link(projects / "a.txt", projects / "one" / "far")
    (media / "b.bin").write_bytes(LARGE)
    (home / "deep").mkdir()
    (home / "deep" / "c.txt").write_text("of fs2")
    dma, mover, reason = cluster.backup("fs1")
    assert reason is DataHaltReason.SUCCESSFUL
    cluster.add(*PARTS)
    return Saved(dma, mover.image, dma.client.call(m.DataGetEnvRequest(), m.DataGetEnvReply).env)


def tree(top: Path) -> dict[str, bytes]:
    """Files below a directory."""
    return {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}


@pytest.mark.parametrize("yes", [b"y", b"Y", b"yes", b"t", b"T"])
def test_one_small_file_is_one_read(cluster: Cluster, saved: Saved, yes: bytes) -> None:
    """64 KiB of the image at the file's fh_info, whatever the spelling of DIRECT=y."""
    path, at = b"/home/deep/c.txt", saved.at[b"/home/deep/c.txt"]
    dma, mover, reason = cluster.direct(
        "fs1", saved.image, (path, b"/restored/c", at), FILESYSTEM=b"/", DIRECT=yes
    )
    assert (reason, dma.log) == (DataHaltReason.SUCCESSFUL, [])
    assert dma.reads == [m.NotifyDataReadPost(at, FIRST_BYTES)]
    assert tree(cluster.local("fs1", "r")) == {"c": b"of fs2"}
    assert dma.files == [m.LogFilePost(path, RecoveryStatus.SUCCESSFUL)]
    assert (mover.sent, dma.env()[b"SPANREEL_STATUS"]) == (FIRST_BYTES, b"complete")
    assert (dma.state().read_offset, dma.state().read_length) == (at, FIRST_BYTES)


def test_a_large_file_is_read_to_its_last_byte_only(cluster: Cluster, saved: Saved) -> None:
    """64 KiB, then the rest that its header tells."""
    at = saved.at[b"/projects/big"]
    dma, mover, reason = cluster.direct(
        "fs2", saved.image, (b"/projects/big", b"/restored/home/big", at), FILESYSTEM=b"/"
    )
    assert reason is DataHaltReason.SUCCESSFUL
    assert tree(cluster.local("fs2", "rh")) == {"big": LARGE}
    assert len(dma.reads) == 2
    assert len(LARGE) < mover.sent < len(LARGE) + 4096


def test_without_filesystem_the_root_is_read_from_the_image(cluster: Cluster, saved: Saved) -> None:
    """As ndmjob restores: the global header comes first, then the file."""
    path, at = b"/projects/one-more/x", saved.at[b"/projects/one-more/x"]
    dma, _, reason = cluster.direct("fs1", saved.image, (path, b"/restored/x", at))
    assert reason is DataHaltReason.SUCCESSFUL
    assert [read.offset for read in dma.reads] == [0, at]
    assert tree(cluster.local("fs1", "r")) == {"x": b"x of one-more"}


def test_a_backup_of_a_subtree_has_names_relative_to_its_root(cluster: Cluster, saved: Saved) -> None:
    """With FILESYSTEM given back, and without."""
    backup, mover, _ = cluster.backup("fs2", b"/projects/media")
    for env in ({"FILESYSTEM": b"/projects/media"}, {}):
        dma, _, reason = cluster.direct(
            "fs1", mover.image, (b"/b.bin", b"/restored/b", backup.history[b"/b.bin"]), **env
        )
        assert (reason, dma.log) == (DataHaltReason.SUCCESSFUL, [])
        (cluster.local("fs1", "r") / "b").unlink()


@pytest.mark.parametrize(
    ("env", "fh_info"), [({"DIRECT": b"n"}, True), ({"DIRECT": b""}, True), ({"DIRECT": b"y"}, False)]
)
def test_a_scan_otherwise(cluster: Cluster, saved: Saved, env: dict[str, bytes], fh_info: bool) -> None:
    """Without DIRECT=y, or with one name whose place nobody knows, the whole image is read."""
    names = [b"/home/deep/c.txt", b"/projects/a.txt"]
    places = [saved.at[names[0]], saved.at[names[1]] if fh_info else ALL_ONES]
    wanted = [(name, b"/restored" + name, at) for name, at in zip(names, places, strict=True)]
    dma, _, reason = cluster.direct("fs1", saved.image, *wanted, FILESYSTEM=b"/", **env)
    assert reason is DataHaltReason.SUCCESSFUL
    assert dma.reads == [m.NotifyDataReadPost(0, ALL_ONES)]
    assert set(tree(cluster.local("fs2", "rh"))) == {"deep/c.txt"}
    assert set(tree(cluster.local("fs1", "r"))) == {"projects/a.txt"}


def direct_with_table(
    cluster: Cluster, saved: Saved, *names: tuple[bytes, bytes], **env: bytes
) -> tuple[Dma, int, DataHaltReason]:
    """A restore by a DMA that gives the table of parts back; also how many bytes it cost."""
    dma, mover = cluster.dma("fs1"), cluster.mover()
    mover.serve(saved.image)
    dma.on_read = mover.reads.put
    dma.client.do(m.DataConnectRequest(mover.address))
    own = {"DIRECT": b"y", "FILESYSTEM": b"/", **env}
    pairs = (*saved.table, *(Pval(name.encode(), value) for name, value in own.items()))
    nlist = tuple(Name(name, target, fh_info=saved.at[name]) for name, target in names)
    dma.client.do(m.DataStartRecoverRequest(pairs, nlist, b"tar"))
    reason = dma.await_halt()
    mover.reads.put(None)
    return dma, mover.sent, reason


def test_a_directory_and_the_parts_of_others_below_it(cluster: Cluster, saved: Saved) -> None:
    """A directory of one owner with a junction of another below: both, and nothing else."""
    dma, sent, reason = direct_with_table(cluster, saved, (b"/projects", b"/restored/p"))
    assert (reason, dma.log) == (DataHaltReason.SUCCESSFUL, [])
    found = tree(cluster.local("fs1", "r") / "p")
    assert found == tree(cluster.local("fs1", "p")) | {"media/b.bin": LARGE}
    assert (cluster.local("fs1", "r") / "p/hard").samefile(cluster.local("fs1", "r") / "p/a.txt")
    assert sent < len(saved.image) - FIRST_BYTES


def test_a_directory_ends_where_its_members_do(cluster: Cluster, saved: Saved) -> None:
    """The directory beside it, whose name begins alike, costs at most one read ahead."""
    dma, sent, reason = direct_with_table(
        cluster, saved, (b"/projects/one", b"/restored/one"), SPANREEL_SECOND_PASS=b"y"
    )
    assert reason is DataHaltReason.SUCCESSFUL
    assert tree(cluster.local("fs1", "r")) == {"one/x": b"x of one", "one/sub/y": LARGE}
    assert sent < len(LARGE) + 6 * FIRST_BYTES
    env = dma.client.call(m.DataGetEnvRequest(), m.DataGetEnvReply).env
    assert [pair.value for pair in env if pair.name == b"SPANREEL_LOST_LINK"] == [b"/projects/one/far"]
    assert dma.log == []


def test_a_lost_link_is_named_to_a_dma_that_makes_no_second_pass(cluster: Cluster, saved: Saved) -> None:
    """A log line with its path, and a failed directory: a foreign DMA hears of it."""
    dma, _, _ = direct_with_table(cluster, saved, (b"/projects/one", b"/restored/one"))
    assert dma.log == [
        "/projects/one/far: not restored: a hard link to a file that is not restored along with it"
    ]
    assert dma.files == [m.LogFilePost(b"/projects/one", RecoveryStatus.FAILED_IO_ERROR)]


def test_without_the_table_nothing_is_missed(cluster: Cluster, saved: Saved) -> None:
    """A DMA that gives nothing back has the image read from the directory to the end."""
    at = saved.at[b"/projects"]
    dma, _, reason = cluster.direct("fs1", saved.image, (b"/projects", b"/restored/p", at))
    assert (reason, dma.log) == (DataHaltReason.SUCCESSFUL, [])
    assert tree(cluster.local("fs1", "r") / "p") == tree(cluster.local("fs1", "p")) | {"media/b.bin": LARGE}
    assert dma.reads[-1].length == ALL_ONES - dma.reads[-1].offset


def test_a_directory_alone(cluster: Cluster, saved: Saved) -> None:
    """RECURSIVE=n: its own entry, by direct access as well as by a scan."""
    (cluster.local("fs1", "p") / "one").chmod(0o750)
    for direct in (b"y", b"n"):
        dma, sent, reason = direct_with_table(
            cluster, saved, (b"/projects/one", b"/restored/one"), RECURSIVE=b"n", DIRECT=direct
        )
        assert (reason, dma.log) == (DataHaltReason.SUCCESSFUL, [])
        assert dma.files == [m.LogFilePost(b"/projects/one", RecoveryStatus.SUCCESSFUL)]
        assert list((cluster.local("fs1", "r") / "one").iterdir()) == []
        assert (sent == FIRST_BYTES) is (direct == b"y")
        (cluster.local("fs1", "r") / "one").rmdir()


def test_each_name_of_a_linked_file_brings_its_data(cluster: Cluster, saved: Saved) -> None:
    """fh_info is the offset of the member with the data; names asked for together stay one file."""
    assert saved.at[b"/projects/hard"] == saved.at[b"/projects/a.txt"] == saved.at[b"/projects/one/far"]
    top = cluster.local("fs1", "r")
    for direct in (b"y", b"n"):
        dma, _, reason = direct_with_table(
            cluster, saved, (b"/projects/hard", b"/restored/alone"), DIRECT=direct
        )
        assert (reason, dma.log, tree(top)) == (DataHaltReason.SUCCESSFUL, [], {"alone": b"of fs1"})
        (top / "alone").unlink()
        names = (b"/projects/one/far", b"/projects/a.txt", b"/projects/hard")
        dma, _, reason = direct_with_table(
            cluster,
            saved,
            *((name, b"/restored/" + name.rpartition(b"/")[2]) for name in names),
            DIRECT=direct,
        )
        assert (reason, dma.log) == (DataHaltReason.SUCCESSFUL, [])
        assert dma.files == [m.LogFilePost(name, RecoveryStatus.SUCCESSFUL) for name in names]
        assert tree(top) == {"far": b"of fs1", "a.txt": b"of fs1", "hard": b"of fs1"}
        assert (top / "far").stat().st_nlink == 3
        for each in top.iterdir():
            each.unlink()


def test_an_fh_info_that_is_none_costs_its_name_only(cluster: Cluster, saved: Saved) -> None:
    """In the middle of a file, or at the archive's end: that name is not found, the others are restored."""
    middle = saved.at[b"/projects/big"] + 8192
    zeros = len(saved.image) - 1024
    good = saved.at[b"/home/deep/c.txt"]
    dma, _, reason = cluster.direct(
        "fs1",
        saved.image + bytes(FIRST_BYTES),
        (b"/projects/big", b"/restored/big", middle),
        (b"/projects/a.txt", b"/restored/a", zeros),
        (b"/home/deep/c.txt", b"/restored/c", good),
        FILESYSTEM=b"/",
    )
    assert reason is DataHaltReason.SUCCESSFUL
    assert tree(cluster.local("fs1", "r")) == {"c": b"of fs2"}
    assert {post.name: post.recovery_status for post in dma.files} == {
        b"/projects/big": RecoveryStatus.FAILED_NOT_FOUND,
        b"/projects/a.txt": RecoveryStatus.FAILED_NOT_FOUND,
        b"/home/deep/c.txt": RecoveryStatus.SUCCESSFUL,
    }


def test_the_table_names_every_part_by_global_path(cluster: Cluster, saved: Saved) -> None:
    """One variable a part; offsets and lengths cover the image up to the trailer; no local path."""
    fields = [pair.value.split(b" ") for pair in saved.table]
    assert [path for _, _, path in fields] == [b"/", b"/home", b"/projects", b"/projects/media"]
    for (offset, length, _), (following, _, _) in itertools.pairwise(fields):
        assert int(offset) + int(length) == int(following)
    assert not any(bytes(cluster.folder) in pair.value for pair in saved.table)


def test_a_mover_that_closes_when_all_is_served_is_no_failure(cluster: Cluster, saved: Saved) -> None:
    """As ndmjob answers a pause on its last volume by closing: what was asked for is there."""
    at = saved.at[b"/home/deep/c.txt"]
    end = at + 4096
    _, mover, reason = cluster.direct(
        "fs1", saved.image[:end], (b"/home/deep/c.txt", b"/restored/c", at), FILESYSTEM=b"/"
    )
    assert mover.sent < FIRST_BYTES
    assert reason is DataHaltReason.SUCCESSFUL
    assert tree(cluster.local("fs1", "r")) == {"c": b"of fs2"}


def test_a_dma_can_see_that_direct_access_is_offered(cluster: Cluster) -> None:
    """DMAs decide by the attributes of the backup type."""
    reply = cluster.dma("fs1").client.call(m.ConfigGetButypeInfoRequest(), m.ConfigGetButypeInfoReply)
    (tar,) = (each for each in reply.butype_info if each.butype_name == b"tar")
    both = int(ButypeAttr.BACKUP_DIRECT | ButypeAttr.RECOVER_DIRECT)
    assert tar.attrs & both == both
