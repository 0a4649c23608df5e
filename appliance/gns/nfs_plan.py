"""What a file server must mount and export so that NFSv4 clients see the one tree, as plain data.

On every file server lies, below `export_root`, one pseudo-root with

- its own parts: local directories bound to their global paths;
- the parts of others: referrals (`refer=PATH@ADDRESS`), which exports(5) wants to be mount points,
  so the directory is bound to itself.

Nothing below a referral can be reached on the server that gives it: a client asks for paths name by
name from the server's root and is sent away at the referral (RFC 7530, 8.4.1).  So when fs1 has
`/projects` and fs2 `/projects/media`, then on fs2 the way to its own part is barred by the referral to
fs1; a Linux client would go round between the two until ELOOP.  Such a part is exported by another way,
below `/.spanreel`, once for each time the way is barred, and referrals to it name that path:
`refer=/.spanreel/projects/media@fs2`.  Clients see the global path in their tree in any case.

The limits: a junction at `/` itself is not shown (a root cannot be a referral), and a part whose path
nfs-utils cannot write in a referral is shown by its owner only.  Both are named in `problems`.

`nfs.py` makes it so.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from appliance.gns.map import RESERVED_NAME, GnsMap, Junction, ancestors, components
from appliance.text import show_path

_DETOUR: Final = b"/" + RESERVED_NAME

# exports(5): anything else in a path is written as a backslash and three octal digits.
_PLAIN_BYTES: Final = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+")

# In an option nfs-utils knows no escapes (exportfs rewrites it unescaped into etab), and these are
# what separates options, locations and hosts there.
_UNREFERABLE: Final = re.compile(rb"[^!-~]|[,:@()\"\\#]")

_COMMON_OPTIONS: Final = "sync,no_subtree_check,crossmnt"


@dataclass(frozen=True, slots=True)
class Access:
    """Who may mount: clients as in exports(5), and those of them whose root stays root."""

    clients: tuple[str, ...]
    root_clients: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount point: `position` counts from the pseudo-root; `source` None binds it to itself."""

    position: bytes
    source: bytes | None


@dataclass(frozen=True, slots=True)
class NfsPlan:
    """All of it: mounts with outer before inner, the text of the exports file, and what is left out."""

    export_root: bytes
    mounts: tuple[Mount, ...]
    exports: bytes
    problems: tuple[str, ...]


def plan(
    gns_map: GnsMap, node: str, addresses: Mapping[str, str], export_root: bytes, access: Access
) -> NfsPlan:
    """Return what file server `node` mounts and exports for `gns_map`.

    `addresses` has the address of every other owner; parts of an owner without one are left out and
    named in `problems`.
    """
    settled = [junction for junction in gns_map.junctions if not junction.moving]
    shown = [junction for junction in settled if junction.path != b"/"]
    problems = [_ROOT_PROBLEM] if len(shown) < len(settled) else []
    mounts: list[Mount] = []
    lines = [_line(export_root, access, f"ro,fsid=0,{_COMMON_OPTIONS}")]
    for junction in shown:
        position = _position(gns_map, junction, node)
        if position is None:
            continue
        options = f"rw,{_COMMON_OPTIONS},fsid={uuid.UUID(hex=junction.fileset)}"
        if junction.owner != node:
            problem = _unreferable(gns_map, junction, addresses)
            if problem:
                problems.append(problem)
                continue
            target = export_path(gns_map, junction).decode("ascii")
            options = f"{options},refer={target}@{addresses[junction.owner]}"
        mounts.append(Mount(position, junction.local if junction.owner == node else None))
        lines.append(_line(export_root + position, access, options))
    mounts.sort(key=lambda mount: components(mount.position))
    return NfsPlan(export_root, tuple(mounts), _HEAD + b"".join(lines), tuple(problems))


_HEAD: Final = b"# Made by Spanreel from the map of the global name space; changes here are lost.\n"
_ROOT_PROBLEM: Final = "the junction at / is not shown by NFS: a server's root cannot be a referral"


def export_path(gns_map: GnsMap, junction: Junction) -> bytes:
    """Return the path at which the owner of `junction` exports it, seen from the owner's root."""
    return _DETOUR * _barriers(gns_map, junction, junction.owner) + junction.path


def _position(gns_map: GnsMap, junction: Junction, node: str) -> bytes | None:
    """Return where on `node` clients look for `junction`; None when no way leads there."""
    if junction.owner == node:
        return export_path(gns_map, junction)
    outer = _enclosing(gns_map, junction)
    if outer is None:
        return junction.path
    # A stranger's part shows inside an own part; inside another stranger's, that one refers to it.
    return _DETOUR * _barriers(gns_map, outer, node) + junction.path if outer.owner == node else None


def _enclosing(gns_map: GnsMap, junction: Junction) -> Junction | None:
    outer = gns_map.enclosing(junction.path)
    return None if outer is None or outer.path == b"/" else outer


def _barriers(gns_map: GnsMap, junction: Junction, node: str) -> int:
    """Count how often the way from the root to `junction` enters other nodes' parts and comes back."""
    owned = {each.path: each.owner for each in gns_map.junctions if each.path != b"/"}
    way = [owned[directory] for directory in reversed(list(ancestors(junction.path))) if directory in owned]
    return sum(before != node and after == node for before, after in pairwise(way))


def _unreferable(gns_map: GnsMap, junction: Junction, addresses: Mapping[str, str]) -> str | None:
    shown = show_path(junction.path)
    if junction.owner not in addresses:
        return f"{shown} is not shown: the address of its owner {junction.owner} is not known here"
    if _UNREFERABLE.search(export_path(gns_map, junction)):
        return f"{shown} is shown by its owner {junction.owner} only: NFS exports cannot refer to this name"
    return None


def _line(path: bytes, access: Access, options: str) -> bytes:
    entries = [f"{client}({options},root_squash)" for client in access.clients]
    entries += [f"{client}({options},no_root_squash)" for client in access.root_clients]
    return _quoted(path) + b" " + " ".join(entries).encode("ascii") + b"\n"


def _quoted(path: bytes) -> bytes:
    return b"".join(bytes([byte]) if byte in _PLAIN_BYTES else b"\\%03o" % byte for byte in path)
