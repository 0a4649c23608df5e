"""Snapshots of btrfs subvolumes, by the ioctls of <linux/btrfs.h>.

A snapshot needs a name in the same file system.  It gets one in a directory of the topmost subvolume, which
is mounted aside for it: there no walk comes by, and no client, as long as the topmost directory itself is
not what clients see.  Where it is, there are no snapshots.

Nested subvolumes are not in a snapshot; an empty directory stands for each.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
from collections.abc import Callable, Iterable

from appliance.gns.mounts import Mounted, all_mounts
from appliance.snapshots.detached import flush, mount_of, open_detached
from appliance.snapshots.volume import DIRECTORY_FLAGS, Found, Frozen, Kind, SnapshotError, Volume

__all__ = ["PLACE", "Btrfs"]

PLACE = b".spanreel-snapshots"
"""The directory of snapshots in the topmost subvolume."""

_KIND = b"btrfs"
_TOP = 5  # BTRFS_FS_TREE_OBJECTID: the subvolume that every btrfs has
_STUB_INODE = 2  # BTRFS_EMPTY_SUBVOL_DIR_OBJECTID
_FS_INFO = 0x8400941F
_INO_LOOKUP = 0xD0009412
_SNAP_CREATE_V2 = 0x50009417
_SNAP_DESTROY = 0x5000940F
_READ_ONLY = 2  # BTRFS_SUBVOL_RDONLY
_NAME_MAX = 255
_LOOKUP = struct.Struct("=QQ4080s")
_CREATE = struct.Struct("=qQQ32x4040s")
_DESTROY = struct.Struct("=q4088s")
_INFO = struct.Struct("=QQ16s992x")


class Btrfs(Kind):
    """The kind."""

    def find(self, directory: int, exported: Iterable[bytes]) -> Found | None:
        """As the base class."""
        mount = mount_of(directory)
        if mount.kind != _KIND:
            return None
        if mount.is_read_only:
            # Mounted aside it would be made writable everywhere (Linux 6.8).
            raise SnapshotError("its file system is read-only")
        with contextlib.ExitStack() as held:
            top = open_detached(_KIND, mount.source, {b"subvolid": b"%d" % _TOP})
            held.callback(os.close, top)
            if _is_among(top, exported):
                raise SnapshotError(
                    "clients see the top of its btrfs file system, where no snapshot can be kept out of their"
                    " sight; a subvolume or directory below it is what it should be"
                )
            inode = os.fstat(directory).st_ino
            try:
                subvolume, way = _place(directory, inode)
                file_system = _identity(directory)
            except OSError as error:
                raise SnapshotError(f"its subvolume cannot be found: {error.strerror}") from error
            source = open_detached(_KIND, mount.source, {b"subvolid": b"%d" % subvolume})
            held.pop_all()
        return Found(_Subvolume((file_system, subvolume), top, source), way, inode)

    def sweep(self, owner: str, is_live: Callable[[str], bool]) -> list[str]:
        """As the base class, on every btrfs that is mounted."""
        dropped = []
        writable = (each for each in all_mounts() if each.kind == _KIND and not each.is_read_only)
        for mount in {each.source: each for each in writable}.values():
            dropped += _sweep(mount, f"{owner}.", is_live)
        return dropped


class _Subvolume(Volume):
    """One subvolume, with its own root and that of the topmost one open."""

    def __init__(self, key: tuple[bytes, int], top: int, source: int) -> None:
        self.key = key
        self._open = [top, source]

    def prepare(self) -> None:
        flush(self._open[1])

    def take(self, name: str) -> Frozen:
        top, source = self._open
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(PLACE, 0o700, dir_fd=top)
            place = os.open(PLACE, DIRECTORY_FLAGS, dir_fd=top)
            try:
                _ioctl(place, _SNAP_CREATE_V2, _CREATE.pack(source, 0, _READ_ONLY, _short(name)))
                return _Snapshot(os.dup(place), name)
            finally:
                os.close(place)
        except OSError as error:
            raise SnapshotError(f"btrfs makes no snapshot: {error.strerror}") from error

    def close(self) -> None:
        while self._open:
            os.close(self._open.pop())


class _Snapshot(Frozen):
    """A snapshot in its place."""

    stub_inode = _STUB_INODE

    def __init__(self, place: int, name: str) -> None:
        self._place = place
        self._name = name
        try:
            self.root = os.open(os.fsencode(name), DIRECTORY_FLAGS, dir_fd=place)
        except OSError:
            self._remove()
            raise

    def drop(self) -> None:
        os.close(self.root)
        self._remove()

    def _remove(self) -> None:
        try:
            _ioctl(self._place, _SNAP_DESTROY, _DESTROY.pack(0, _short(self._name)))
        except OSError as error:
            raise SnapshotError(f"btrfs does not remove {self._name}: {error.strerror}") from error
        finally:
            os.close(self._place)


def _sweep(mount: Mounted, prefix: str, is_live: Callable[[str], bool]) -> list[str]:
    """Remove what is left over on one file system."""
    top = open_detached(_KIND, mount.source, {b"subvolid": b"%d" % _TOP})
    try:
        place = os.open(PLACE, DIRECTORY_FLAGS, dir_fd=top)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SnapshotError(f"the place of btrfs snapshots cannot be read: {error.strerror}") from error
    finally:
        os.close(top)
    try:
        left = [
            name
            for name in os.listdir(place)  # noqa: PTH208  (of a descriptor)
            if name.startswith(prefix) and not is_live(name)
        ]
        for name in left:
            _ioctl(place, _SNAP_DESTROY, _DESTROY.pack(0, _short(name)))
    except OSError as error:
        raise SnapshotError(f"a btrfs snapshot that was left over stays: {error.strerror}") from error
    finally:
        os.close(place)
    return left


def _is_among(top: int, exported: Iterable[bytes]) -> bool:
    """Whether an open directory is one of those."""
    status = os.fstat(top)
    for path in exported:
        with contextlib.suppress(OSError):
            other = os.stat(path)  # noqa: PTH116  (a bytes path)
            if (other.st_dev, other.st_ino) == (status.st_dev, status.st_ino):
                return True
    return False


def _place(directory: int, inode: int) -> tuple[int, tuple[bytes, ...]]:
    """The number of the subvolume that a directory lies in, and the way to it from there."""
    found, _, path = _LOOKUP.unpack(_ioctl(directory, _INO_LOOKUP, _LOOKUP.pack(0, inode, b"")))
    return found, tuple(name for name in path.partition(b"\0")[0].split(b"/") if name)


def _identity(directory: int) -> bytes:
    """The UUID of the file system."""
    identity: bytes = _INFO.unpack(_ioctl(directory, _FS_INFO, bytes(_INFO.size)))[2]
    return identity


def _short(name: str) -> bytes:
    encoded = os.fsencode(name)
    if len(encoded) > _NAME_MAX:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    return encoded


def _ioctl(descriptor: int, code: int, argument: bytes) -> bytes:
    # A buffer that may be changed: others are limited to 1024 bytes.
    buffer = bytearray(argument)
    fcntl.ioctl(descriptor, code, buffer)
    return bytes(buffer)
