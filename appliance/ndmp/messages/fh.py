"""FILE HISTORY interface (draft-skardal-ndmpv4-04, 4.3)."""

from __future__ import annotations

from appliance.ndmp.declare import post
from appliance.ndmp.types import FileName, FileStat
from appliance.ndmp.xdr import U64, Struct, struct


@struct
class FhFile(Struct):
    """One file by its path relative to the backup root."""

    names: tuple[FileName, ...]
    stats: tuple[FileStat, ...]
    node: U64
    fh_info: U64


@struct
class FhDir(Struct):
    """One directory entry."""

    names: tuple[FileName, ...]
    node: U64
    parent: U64


@struct
class FhNode(Struct):
    """One node's attributes."""

    stats: tuple[FileStat, ...]
    node: U64
    fh_info: U64


@post(0x703)
class FhAddFilePost(Struct):
    """File history in file form."""

    files: tuple[FhFile, ...] = ()


@post(0x704)
class FhAddDirPost(Struct):
    """File history in node form: directory entries."""

    dirs: tuple[FhDir, ...] = ()


@post(0x705)
class FhAddNodePost(Struct):
    """File history in node form: attributes."""

    nodes: tuple[FhNode, ...] = ()
