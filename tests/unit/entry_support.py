"""What the archive writer tells of many files at once, as entries."""

import os
from collections.abc import Iterator
from stat import S_IFREG

from appliance.archive.kinds import Kind
from appliance.archive.part import Entry, Files
from appliance.archive.quick import ROW


def entries(files: Files) -> Iterator[Entry]:
    """One after the other; the device and the time of access are not known."""
    for name, number, row in zip(files.names, files.numbers, ROW.iter_unpack(files.rows), strict=True):
        offset, inode, size, mtime, ctime, mode, uid, gid = row
        times = (0, mtime // 10**9, ctime // 10**9, 0.0, mtime / 1e9, ctime / 1e9, 0, mtime, ctime)
        status = os.stat_result((S_IFREG | mode, inode, 0, 1, uid, gid, size, *times))
        yield Entry(
            files.base + name, name, number, files.parent, offset, status, Kind.FILE, number, told=False
        )
