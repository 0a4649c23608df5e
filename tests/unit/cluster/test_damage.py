"""Restores from damaged tape: what is damaged is named, everything else comes back."""

from __future__ import annotations

import random

import pytest

from appliance.archive.index import parse_index
from appliance.archive.member import Member
from appliance.archive.reader import MemberReader
from appliance.ndmp.enums import DataHaltReason, RecoveryStatus
from tests.unit.cluster.conftest import Cluster
from tests.unit.cluster.test_direct import Saved, direct_with_table
from tests.unit.cluster.test_direct import saved as saved  # a fixture
from tests.unit.cluster.test_restore import seed, tree

Places = dict[bytes, tuple[int, int, int]]


def layout(image: bytes) -> tuple[Places, list[tuple[int, int]]]:
    """Start, end of the headers, and end of every member by path; start and end of every index."""
    position = 0

    def readinto(view: memoryview) -> int:
        nonlocal position
        piece = image[position : position + len(view)]
        view[: len(piece)] = piece
        position += len(piece)
        return len(piece)

    members: Places = {}
    indexes = []
    reader = MemberReader(readinto)
    for item in reader:
        if isinstance(item, Member):
            data = item.offset + len(item.raw)
            members[b"/" + item.name] = item.offset, data, data + item.data_length
        elif parse_index(item.records, item.offset):
            indexes.append((item.offset, reader.offset))
    return members, indexes


def flipped(image: bytes, at: int) -> bytes:
    """The image with one bit changed."""
    return image[:at] + bytes([image[at] ^ 16]) + image[at + 1 :]


def restored(cluster: Cluster) -> dict[str, bytes]:
    """What is in both targets now."""
    homes = {f"home/{name}": data for name, data in tree(cluster.local("fs2", "rh")).items()}
    return tree(cluster.local("fs1", "r")) | homes


def test_data_that_is_not_as_it_was_is_restored_and_named(cluster: Cluster) -> None:
    """A flipped bit in a file's data: the file is there, and the DMA is told that it is damaged."""
    image = seed(cluster)
    _, start, _ = layout(image)[0][b"/projects/media/b.bin"]
    dma, reason = cluster.restore("fs1", flipped(image, start + 700_000), (b"", b"/restored"))
    assert reason is DataHaltReason.SUCCESSFUL
    assert dma.log == ["/projects/media/b.bin: restored, but damaged: its checksum differs"]
    assert len(restored(cluster)) == 4
    assert [post.recovery_status for post in dma.files] == [RecoveryStatus.FAILED_IO_ERROR]
    assert dma.env()[b"SPANREEL_STATUS"] == b"problems"


@pytest.mark.parametrize("lost", [b"/projects/a.txt", b"/projects/media/b.bin", b"/home/deep/c.txt"])
def test_a_broken_header_costs_its_file_only(cluster: Cluster, lost: bytes) -> None:
    """Wherever a bit of a member's headers flips, that file is named as lost, and all others come back."""
    image = seed(cluster)
    cluster.restore("fs1", image, (b"", b"/restored"))
    whole = restored(cluster)
    start, data, _ = layout(image)[0][lost]
    for at in random.Random(7).sample(range(start, data), 4):
        dma, reason = cluster.restore(
            "fs2", flipped(image, at), (lost, b"/restored/x"), EXISTING=b"overwrite"
        )
        padding = dma.log == [f"{lost.decode()}: restored, but damaged: its checksum differs"]
        assert reason is DataHaltReason.SUCCESSFUL
        assert padding or dma.log == [f"{lost.decode()}: not restored: it cannot be read from tape"]
        assert [post.recovery_status for post in dma.files] == [RecoveryStatus.FAILED_IO_ERROR]
        others, reason = cluster.restore("fs1", flipped(image, at), (b"", b"/restored"))
        assert reason is DataHaltReason.SUCCESSFUL
        assert others.log
        assert all(line.startswith((lost.decode(), "/projects/hard")) for line in others.log)
        assert {name: data for name, data in restored(cluster).items() if name != "x"} == whole


def test_an_unreadable_record_costs_the_files_in_it(cluster: Cluster) -> None:
    """Where a record is lost, the files in it are named, and what comes after them is restored."""
    image = seed(cluster)
    start, _, _ = layout(image)[0][b"/projects/a.txt"]
    damaged = image[:start] + b"\xff" * 2048 + image[start + 2048 :]
    dma, reason = cluster.restore("fs1", damaged, (b"", b"/restored"))
    assert reason is DataHaltReason.SUCCESSFUL
    assert any("/projects/a.txt: not restored" in line for line in dma.log)
    assert restored(cluster).keys() == {"projects/media/b.bin", "home/deep/c.txt"}


def test_the_images_own_header_may_be_lost(cluster: Cluster) -> None:
    """A DMA that says what was backed up gets it, whatever became of the image's first block."""
    image = seed(cluster)
    for at in (5, 600):
        _, reason = cluster.restore("fs1", flipped(image, at), (b"", b"/restored"), FILESYSTEM=b"/")
        assert reason is DataHaltReason.SUCCESSFUL
        assert len(restored(cluster)) == 4


def test_a_lost_index_is_no_silence(cluster: Cluster) -> None:
    """Where an index cannot be read, every file comes back, and the DMA is told what that leaves open."""
    image = seed(cluster)
    _, indexes = layout(image)
    dma, reason = cluster.restore("fs1", flipped(image, indexes[1][0] + 7), (b"", b"/restored"))
    assert reason is DataHaltReason.SUCCESSFUL
    assert any("files may be missing" in line for line in dma.log)
    assert len(restored(cluster)) == 4


def test_direct_access_reads_on_behind_damage(cluster: Cluster, saved: Saved) -> None:
    """Damage to one file below a directory costs that one; the DMA is told that something is missing."""
    start, _, _ = layout(saved.image)[0][b"/projects/one/x"]
    saved.image = flipped(saved.image, start + 30)
    dma, _, reason = direct_with_table(cluster, saved, (b"/projects/one", b"/restored/one"))
    assert reason is DataHaltReason.SUCCESSFUL
    assert any("files may be missing" in line for line in dma.log)
    assert tree(cluster.local("fs1", "r") / "one").keys() == {"sub/y"}
