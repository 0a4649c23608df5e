"""File systems mounted nowhere: by the calls behind mount(8) since Linux 5.2, without a mount point.

Nobody else sees such a mount, and it is gone when the last descriptor in it is closed, however the process
ends.  mount(8) would not do: it looks at the user id, and a service has capabilities only.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping

from appliance.gns.mounts import Mounted, all_mounts
from appliance.snapshots.volume import DIRECTORY_FLAGS, SnapshotError

__all__ = ["flush", "mount_of", "open_detached"]

# <linux/mount.h>
_FSOPEN_CLOEXEC = 1
_FSMOUNT_CLOEXEC = 1
_SET_FLAG, _SET_STRING, _CREATE = 0, 1, 6
_MOUNT_ATTR_RDONLY = 1
_MNT_ID = "mnt_id:"


def open_detached(kind: bytes, source: bytes, options: Mapping[bytes, bytes | None]) -> int:
    """Mount a file system and open its root; the mount lasts as long as anything in it is open.

    An option whose value is None is a flag.  Raises SnapshotError.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "fsopen"):
        raise SnapshotError("the C library is too old (glibc 2.36 is needed)")
    try:
        context = _checked(libc.fsopen(kind, _FSOPEN_CLOEXEC))
        try:
            _checked(libc.fsconfig(context, _SET_STRING, b"source", source, 0))
            for name, value in options.items():
                _checked(libc.fsconfig(context, _SET_FLAG if value is None else _SET_STRING, name, value, 0))
            _checked(libc.fsconfig(context, _CREATE, None, None, 0))
            attributes = _MOUNT_ATTR_RDONLY if b"ro" in options else 0
            mount = _checked(libc.fsmount(context, _FSMOUNT_CLOEXEC, attributes))
        finally:
            os.close(context)
        try:
            # What fsmount returns names a place only (O_PATH).
            return os.open(b".", DIRECTORY_FLAGS, dir_fd=mount)
        finally:
            os.close(mount)
    except OSError as error:
        raise SnapshotError(f"its file system cannot be opened aside: {error.strerror}") from error


def mount_of(descriptor: int) -> Mounted:
    """The mount that an open file lies in.  Raises SnapshotError."""
    with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as lines:
        number = next(int(line.removeprefix(_MNT_ID)) for line in lines if line.startswith(_MNT_ID))
    found = next((mount for mount in all_mounts() if mount.number == number), None)
    if found is None:
        raise SnapshotError("its file system is mounted out of sight of this process")
    return found


def flush(descriptor: int) -> None:
    """Write out what a file system has in memory (syncfs(2)), so that its snapshot is quicker."""
    # A failure is that of earlier writes, of other programs; reading goes on as it would without a snapshot.
    ctypes.CDLL(None).syncfs(descriptor)


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
