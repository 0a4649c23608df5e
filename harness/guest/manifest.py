"""Describe trees: every name with all its metadata and the SHA-256 of its data.

Argument: {"roots": [{"global": PATH, "local": DIR, "skip": [GLOBAL PATH...]}]}
Prints:   JSON lines, sorted by path: {"path": shown, "path_base64": exact, "type": ...}

It shares nothing with the code that reads files for backups.  Fields:
  type mode uid gid mtime_ns      as lstat says (a symbolic link has no mode)
  size sha256 extents             of regular files, see `digest` and `extents`
  target                          of symbolic links, base64
  device                          [major, minor]
  links                           the first path of the link group and its size, if more than one
  xattrs                          name → base64 of the value; ACLs and capabilities among them
"""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
import stat
import sys
from typing import Any

Entry = dict[str, Any]
Inode = tuple[int, int]
# File systems allocate in blocks; 4 KiB is the smallest that ext4 and btrfs share.
BLOCK = 4096
# Read and hashed at once; a whole piece of zeros counts the same as a hole.
PIECE = 65536
ZEROS = bytes(PIECE)
TYPES = {
    stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink", stat.S_IFIFO: "fifo",
    stat.S_IFCHR: "char", stat.S_IFBLK: "block", stat.S_IFSOCK: "socket",
}  # fmt: skip


def encoded(data: bytes) -> str:
    """Return bytes as base64 text."""
    return base64.b64encode(data).decode()


def shown(path: bytes) -> str:
    r"""Return bytes as people read them: what is not UTF-8 or not printable as \xNN."""
    text = path.decode("utf-8", "surrogateescape")
    return "".join(c if c.isprintable() else "".join(f"\\x{b:02x}" for b in os.fsencode(c)) for c in text)


def extents(descriptor: int, size: int) -> list[list[int]]:
    """Return the allocated ranges, rounded outwards to blocks and merged: [[start, end]...]."""
    found: list[list[int]] = []
    position = 0
    while position < size:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break
        end = min(os.lseek(descriptor, start, os.SEEK_HOLE), size)
        position = end
        start, end = start // BLOCK * BLOCK, -(-end // BLOCK) * BLOCK
        if found and start <= found[-1][1]:
            found[-1][1] = end
        else:
            found.append([start, end])
    return found


def digest(descriptor: int, size: int, ranges: list[list[int]]) -> str:
    """Return a SHA-256 of size and content, the same however the holes lie.

    Hashed are the size, and offset and bytes of every 64 KiB piece that is not all zeros.  A plain
    SHA-256 would have to read gigabytes of holes.
    """
    total = hashlib.sha256(b"%d;" % size)
    position = 0
    for start, end in ranges:
        position = max(position, start // PIECE * PIECE)
        while position < min(end, size):
            piece = os.pread(descriptor, PIECE, position)
            if not piece:
                break
            if piece != ZEROS[: len(piece)]:
                total.update(b"%d:" % position)
                total.update(piece)
            position += PIECE
    return total.hexdigest()


def content(path: bytes, size: int) -> Entry:
    """Return the fields of a regular file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        ranges = extents(descriptor, size)
        return {"size": size, "sha256": digest(descriptor, size, ranges), "extents": ranges}
    finally:
        os.close(descriptor)


def attributes(path: bytes) -> dict[str, str]:
    """Return all extended attributes, whatever their name space."""
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return {}
        raise
    return {name: encoded(os.getxattr(path, name, follow_symlinks=False)) for name in sorted(names)}


def describe(path: bytes, name: bytes) -> tuple[Entry, Inode | None]:
    """Return the entry of one path, and the key of its link group."""
    status = os.lstat(path)
    kind = TYPES[stat.S_IFMT(status.st_mode)]
    entry: Entry = {"path": shown(name), "path_base64": encoded(name), "type": kind}
    if kind != "symlink":
        entry["mode"] = f"{stat.S_IMODE(status.st_mode):04o}"
    entry |= {"uid": status.st_uid, "gid": status.st_gid, "mtime_ns": status.st_mtime_ns}
    try:
        if kind == "file":
            entry |= content(path, status.st_size)
        elif kind == "symlink":
            entry["target"] = encoded(os.readlink(path))
        elif kind in ("char", "block"):
            entry["device"] = [os.major(status.st_rdev), os.minor(status.st_rdev)]
        found = attributes(path)
    except PermissionError as error:
        found = {}
        entry["unreadable"] = str(error.strerror)
    if found:
        entry["xattrs"] = found
    linked = kind != "directory" and status.st_nlink > 1
    return entry, ((status.st_dev, status.st_ino) if linked else None)


def walk(
    local: bytes, name: bytes, skip: set[bytes], entries: list[tuple[bytes, Entry, Inode | None]]
) -> None:
    """Collect a directory and everything below it, parents first."""
    stack = [(local, name)]
    while stack:
        path, name = stack.pop()
        entries.append((name, *describe(path, name)))
        if stat.S_ISDIR(os.lstat(path).st_mode):
            try:
                children = os.listdir(path)
            except PermissionError as error:
                entries[-1][1]["unreadable"] = str(error.strerror)
                continue
            base = name if name.endswith(b"/") else name + b"/"
            below = ((os.path.join(path, child), base + child) for child in children)
            stack += [pair for pair in below if pair[1] not in skip]


def main(argument: dict[str, Any]) -> list[Entry]:
    """Return all entries, sorted, link groups named by their first path."""
    entries: list[tuple[bytes, Entry, Inode | None]] = []
    for root in argument["roots"]:
        skip = {os.fsencode(path) for path in root["skip"]}
        walk(os.fsencode(root["local"]), os.fsencode(root["global"]), skip, entries)
    entries.sort(key=lambda item: item[0])
    groups: dict[Inode, list[bytes]] = {}
    for name, _, key in entries:
        if key is not None:
            groups.setdefault(key, []).append(name)
    for _, entry, key in entries:
        if key is not None and len(groups[key]) > 1:
            entry["links"] = [encoded(groups[key][0]), len(groups[key])]
    return [entry for _, entry, _ in entries]


if __name__ == "__main__":
    for line in main(json.loads(sys.argv[1])):
        print(json.dumps(line))
