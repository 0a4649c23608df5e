"""File history coded and decoded directly, without a structure for each entry.

There is an entry for every file of a backup.  The declarations in messages/fh.py and types.py say what
the bytes are; the tests hold both against each other.  Only entries of one UNIX name and one set of
attributes are known here, as every file server on UNIX sends them.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Sequence

from appliance.ndmp.enums import FileStatUnsupported, FileType, FsType

__all__ = [
    "dir_entries",
    "dir_entry",
    "file_entries",
    "node_entries",
    "node_entry",
    "post_body",
    "regular_entries",
]

# node, fh_info, type, mode bits, size, mtime, owner, group; after a file's path.  64 bits have signs.
NodeEntry = tuple[int, int, int, int, int, int, int, int]
FileEntry = tuple[bytes, int, int, int, int, int, int, int, int]

# name, node, parent
DirEntry = tuple[bytes, int, int]

_U32_MAX = 0xFFFFFFFF
_NANOSECONDS = 1_000_000_000
_MODE_BITS = 0o7777
_UNSUPPORTED = int(FileStatUnsupported.ATIME | FileStatUnsupported.CTIME)
_UNIX = int(FsType.UNIX)

# One name: how many, its name space, its length.  One set of attributes: how many, ndmp_file_stat.
_NAME = struct.Struct(">III")
_STAT = ">IIIIIIIIIIQI"
_NODES = ">QQ"
_FILE = struct.Struct(_STAT + _NODES[1:])
_DIR = struct.Struct(_NODES)
# The same, with numbers of 64 bits as a database has them: with a sign.
_READ = struct.Struct(">IIIIIIIIIIqIqq")
_READ_DIR = struct.Struct(">qq")
_FILE_TYPES = frozenset(int(kind) for kind in FileType)
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")


def _name(name: bytes) -> bytes:
    length = len(name)
    return _NAME.pack(1, _UNIX, length) + name + _PADDING[length & 3]


def dir_entry(name: bytes, node: int, parent: int) -> bytes:
    """The bytes of an ndmp_dir (draft-skardal-ndmpv4-04, 4.3)."""
    return _name(name) + _DIR.pack(node, parent)


def node_entry(
    ftype: int, status: os.stat_result, node: int, fh_info: int, path: bytes | None = None
) -> bytes:
    """The bytes of an ndmp_node; with a path, those of an ndmp_file.

    Whole seconds, mode bits without the type, size in bytes.  Times and links beyond their fields become the
    nearest that fits; all numbers of `status` but the size have 32 bits.
    """
    facts = _FILE.pack(
        1,
        _UNSUPPORTED,
        _UNIX,
        ftype,
        min(max(int(status.st_mtime), 0), _U32_MAX),
        0,
        0,
        status.st_uid & _U32_MAX,
        status.st_gid & _U32_MAX,
        status.st_mode & _MODE_BITS,
        status.st_size,
        min(status.st_nlink, _U32_MAX),
        node,
        fh_info,
    )
    if path is None:
        return facts
    length = len(path)
    return b"%b%b%b%b" % (_NAME.pack(1, _UNIX, length), path, _PADDING[length & 3], facts)


def regular_entries(
    files: Iterable[tuple[bytes | None, int, tuple[int, ...]]],
) -> list[bytes]:
    """The bytes of `node_entry` for regular files of one name each, last changed in 1970 or later.

    Of each its path (None: an ndmp_node), its number, and what `quick.ROW` has of it.
    """
    pack, named, padding = _FILE.pack, _NAME.pack, _PADDING
    regular = int(FileType.REG)
    found = []
    for path, node, (offset, _, size, mtime, _, mode, uid, gid) in files:
        seconds = min(mtime // _NANOSECONDS, _U32_MAX)
        facts = pack(1, _UNSUPPORTED, _UNIX, regular, seconds, 0, 0, uid, gid, mode, size, 1, node, offset)
        if path is None:
            found.append(facts)
        else:
            length = len(path)
            found.append(b"%b%b%b%b" % (named(1, _UNIX, length), path, padding[length & 3], facts))
    return found


def file_entries(raw: bytes) -> list[FileEntry] | None:
    """What the body of an ADD_FILE post says; None unless it is whole and all of it is of the plain kind."""
    found: list[FileEntry] = []
    append, name_at, file_at = found.append, _NAME.unpack_from, _READ.unpack_from
    head, size = _NAME.size, _READ.size
    position = 4
    try:
        for _ in range(int.from_bytes(raw[:4], "big")):
            names, space, length = name_at(raw, position)
            position += head
            end = position + length
            path = raw[position:end]
            position = end + (-length & 3)
            count, _, kind, ftype, mtime, _, _, owner, group, fattr, bytes_, _, node, at = file_at(
                raw, position
            )
            position += size
            if names != 1 or count != 1 or space != _UNIX or kind != _UNIX or ftype not in _FILE_TYPES:
                return None
            append((path, node, at, ftype, fattr, bytes_, mtime, owner, group))
    except struct.error:
        return None
    return found if position == len(raw) else None


def dir_entries(raw: bytes) -> list[DirEntry] | None:
    """Likewise of an ADD_DIR post."""
    found: list[DirEntry] = []
    position = 4
    try:
        for _ in range(int.from_bytes(raw[:4], "big")):
            names, space, length = _NAME.unpack_from(raw, position)
            position += _NAME.size
            name = raw[position : position + length]
            position += length + (-length & 3)
            node, parent = _READ_DIR.unpack_from(raw, position)
            position += _READ_DIR.size
            if names != 1 or space != _UNIX:
                return None
            found.append((name, node, parent))
    except struct.error:
        return None
    return found if position == len(raw) else None


def node_entries(raw: bytes) -> list[NodeEntry] | None:
    """Likewise of an ADD_NODE post."""
    found: list[NodeEntry] = []
    body = memoryview(raw)[4:]
    if len(body) != int.from_bytes(raw[:4], "big") * _READ.size:
        return None
    for count, _, kind, ftype, mtime, _, _, owner, group, fattr, size, _, node, at in _READ.iter_unpack(body):
        if count != 1 or kind != _UNIX or ftype not in _FILE_TYPES:
            return None
        found.append((node, at, ftype, fattr, size, mtime, owner, group))
    return found


def post_body(entries: Sequence[bytes]) -> bytes:
    """The body of a post with these entries."""
    return len(entries).to_bytes(4, "big") + b"".join(entries)
