"""File history coded and decoded directly, without a structure for each entry.

There is an entry for every file of a backup.  The declarations in messages/fh.py and types.py say what
the bytes are; the tests hold both against each other.  Only entries of one UNIX name and one set of
attributes are known here, as every file server on UNIX sends them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from appliance.ndmp.enums import FileStatUnsupported, FsType

__all__ = ["Attributes", "dir_entry", "file_entry", "node_entry", "post_body"]

_U32_MAX = 0xFFFFFFFF
_UNSUPPORTED = int(FileStatUnsupported.ATIME | FileStatUnsupported.CTIME)
_UNIX = int(FsType.UNIX)

# One name: how many, its name space, its length.  One set of attributes: how many, ndmp_file_stat.
_NAME = struct.Struct(">III")
_STAT = ">IIIIIIIIIIQI"
_NODES = ">QQ"
_FILE = struct.Struct(_STAT + _NODES[1:])
_DIR = struct.Struct(_NODES)
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")


class Attributes(NamedTuple):
    """What file history says of an inode: whole seconds, mode bits without the type, size in bytes.

    Times and links beyond their fields become the nearest that fits; all but the size have 32 bits.
    """

    ftype: int
    mtime: int
    owner: int
    group: int
    fattr: int
    size: int
    links: int


def _name(name: bytes) -> bytes:
    length = len(name)
    return _NAME.pack(1, _UNIX, length) + name + _PADDING[length & 3]


def file_entry(path: bytes, stat: Attributes, node: int, fh_info: int) -> bytes:
    """The bytes of an ndmp_file (draft-skardal-ndmpv4-04, 4.3)."""
    return _name(path) + node_entry(stat, node, fh_info)


def dir_entry(name: bytes, node: int, parent: int) -> bytes:
    """The bytes of an ndmp_dir."""
    return _name(name) + _DIR.pack(node, parent)


def node_entry(stat: Attributes, node: int, fh_info: int) -> bytes:
    """The bytes of an ndmp_node."""
    ftype, mtime, owner, group, fattr, size, links = stat
    mtime = min(max(mtime, 0), _U32_MAX)
    return _FILE.pack(
        1,
        _UNSUPPORTED,
        _UNIX,
        ftype,
        mtime,
        0,
        0,
        owner & _U32_MAX,
        group & _U32_MAX,
        fattr,
        size,
        min(links, _U32_MAX),
        node,
        fh_info,
    )


def post_body(entries: Sequence[bytes]) -> bytes:
    """The body of a post with these entries."""
    return len(entries).to_bytes(4, "big") + b"".join(entries)
