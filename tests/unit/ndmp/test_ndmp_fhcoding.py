"""File history coded directly against its declared structures."""

from __future__ import annotations

import os
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from appliance.ndmp import messages as m
from appliance.ndmp.enums import FileStatUnsupported, FileType, FsType
from appliance.ndmp.fhcoding import (
    dir_entries,
    dir_entry,
    file_entries,
    node_entries,
    node_entry,
    post_body,
)
from appliance.ndmp.messages.fh import FhDir, FhFile, FhNode
from appliance.ndmp.types import FileName, FileStat

U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
NAMES = st.binary(max_size=40)


class Attributes(NamedTuple):
    """What file history says of an inode, in numbers that fit."""

    ftype: int
    mtime: int
    owner: int
    group: int
    fattr: int
    size: int
    links: int

    @property
    def stat(self) -> os.stat_result:
        """The same as the kernel says it, with the bits of a regular file."""
        mode = 0o100000 | self.fattr
        numbers = (mode, 1, 1, self.links, self.owner, self.group, self.size, 0, self.mtime, 0)
        return os.stat_result(numbers, {"st_mtime": float(self.mtime)})


ATTRIBUTES = st.builds(Attributes, st.sampled_from(FileType), U32, U32, U32, st.integers(0, 0o7777), U64, U32)


def file_entry(path: bytes, attributes: Attributes, node: int, fh_info: int) -> bytes:
    """An ndmp_file."""
    return node_entry(attributes.ftype, attributes.stat, node, fh_info, path)


def declared(stat: Attributes) -> FileStat:
    """The structure that says the same."""
    unsupported = int(FileStatUnsupported.ATIME | FileStatUnsupported.CTIME)
    ftype, mtime, owner, group, fattr, size, links = stat
    return FileStat(unsupported, FsType.UNIX, FileType(ftype), mtime, 0, 0, owner, group, fattr, size, links)


@given(st.lists(st.tuples(NAMES, ATTRIBUTES, U64, U64), max_size=4))
def test_file_form(entries: list[tuple[bytes, Attributes, int, int]]) -> None:
    """Names of any length and numbers up to their fields' ends are the bytes that the declaration makes."""
    files = tuple(FhFile((FileName(name),), (declared(stat),), node, at) for name, stat, node, at in entries)
    assert post_body([file_entry(*entry) for entry in entries]) == m.FhAddFilePost(files).to_bytes()


@given(st.lists(st.tuples(NAMES, U64, U64), max_size=4))
def test_names_of_node_form(entries: list[tuple[bytes, int, int]]) -> None:
    """Likewise the names of a directory."""
    dirs = tuple(FhDir((FileName(name),), node, parent) for name, node, parent in entries)
    assert post_body([dir_entry(*entry) for entry in entries]) == m.FhAddDirPost(dirs).to_bytes()


@given(st.lists(st.tuples(ATTRIBUTES, U64, U64), max_size=4))
def test_nodes_of_node_form(entries: list[tuple[Attributes, int, int]]) -> None:
    """Likewise the nodes."""
    nodes = tuple(FhNode((declared(stat),), node, at) for stat, node, at in entries)
    assert (
        post_body([node_entry(s.ftype, s.stat, node, at) for s, node, at in entries])
        == m.FhAddNodePost(nodes).to_bytes()
    )


def test_numbers_beyond_their_fields() -> None:
    """Times before 1970 and after 2106, and a host of links, become the nearest that the fields hold."""
    early = Attributes(FileType.REG, -5, 2**32 + 1, 0, 0o644, 1, 2**40)
    late = early._replace(mtime=2**40)

    def entry(attributes: Attributes) -> bytes:
        return node_entry(attributes.ftype, attributes.stat, 1, 1)

    assert entry(early) == entry(early._replace(mtime=0, owner=1, links=2**32 - 1))
    assert entry(late) == entry(late._replace(mtime=2**32 - 1))


def with_sign(value: int) -> int:
    """A number of 64 bits as a database holds it."""
    return value - (1 << 64) if value >> 63 else value


@given(st.lists(st.tuples(NAMES, ATTRIBUTES, U64, U64), max_size=4))
def test_what_is_coded_comes_back(entries: list[tuple[bytes, Attributes, int, int]]) -> None:
    """Files, names and nodes are read as they were written; cut short, or with more behind, they are not."""
    files = post_body([file_entry(*entry) for entry in entries])
    dirs = post_body([dir_entry(name, node, at) for name, _, node, at in entries])
    nodes = post_body([node_entry(s.ftype, s.stat, node, at) for _, s, node, at in entries])
    facts = [
        (with_sign(node), with_sign(at), s.ftype, s.fattr, with_sign(s.size), s.mtime, s.owner, s.group)
        for _, s, node, at in entries
    ]
    assert file_entries(files) == [(entry[0], *fact) for entry, fact in zip(entries, facts, strict=True)]
    assert dir_entries(dirs) == [(name, with_sign(node), with_sign(at)) for name, _, node, at in entries]
    assert node_entries(nodes) == facts
    for read, raw in ((file_entries, files), (dir_entries, dirs), (node_entries, nodes)):
        assert read(raw + b"\0") is None
        assert all(read(raw[:length]) is None for length in range(4, len(raw)))


def test_other_shapes_are_left_to_the_declaration() -> None:
    """Names of Windows, several names, no attributes, an unknown type: nothing is guessed."""
    stat = FileStat(ftype=FileType.REG)
    windows = FileName(b"/a", FsType.NT, b"A")
    shapes: list[FhFile] = [
        FhFile((windows,), (stat,), 1, 2),
        FhFile((FileName(b"/a"), windows), (stat,), 1, 2),
        FhFile((), (stat,), 1, 2),
        FhFile((FileName(b"/a"),), (), 1, 2),
        FhFile((FileName(b"/a"),), (stat, stat), 1, 2),
        FhFile((FileName(b"/a"),), (FileStat(fs_type=FsType.NT, ftype=FileType.REG),), 1, 2),
    ]
    for shape in shapes:
        assert file_entries(m.FhAddFilePost((shape,)).to_bytes()) is None
    plain = bytearray(file_entry(b"/abc", Attributes(FileType.REG, 0, 0, 0, 0, 0, 0), 1, 2))
    plain[12 + 4 + 12 : 12 + 4 + 16] = (99).to_bytes(4, "big")
    assert file_entries(post_body([bytes(plain)])) is None


@given(st.binary(max_size=200))
def test_garbage_is_not_read(raw: bytes) -> None:
    """Whatever comes, nothing is raised."""
    for read in (file_entries, dir_entries, node_entries):
        found = read(raw)
        assert found is None or len(found) == int.from_bytes(raw[:4], "big")
