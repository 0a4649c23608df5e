"""Bind mounts below one directory: what is there, and how it is made what it should be.

Paths below a part belong to users, who may plant symbolic links there.  So mount points are opened
name by name without following links, and mounts are made on the open directories (through
/proc/self/fd) rather than on path names that could change meaning in between.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.errors import InfrastructureError
from appliance.gns.map import components, join, relative_to
from appliance.gns.nfs_plan import Mount
from appliance.paths import is_at_or_below
from appliance.text import show_path

# <sys/mount.h>
_MS_BIND: Final = 0x1000
_MNT_DETACH: Final = 2

_MOUNTINFO: Final = Path("/proc/self/mountinfo")
_OCTAL: Final = re.compile(rb"\\([0-7]{3})")

# Mount points that users see must be passable; rights inside are those of what is mounted.
_MOUNT_POINT_MODE: Final = 0o755


@dataclass(frozen=True, slots=True)
class Mounted:
    """One line of /proc/self/mountinfo (proc(5)): `root` is what of the file system is mounted.

    `kind` and `source`: the file system's type, and the device or whatever else it is made of.
    `is_read_only`: whether all of it is, wherever it is mounted.
    """

    number: int
    parent: int
    device: bytes
    root: bytes
    point: bytes
    kind: bytes = b""
    source: bytes = b""
    is_read_only: bool = False


def all_mounts() -> list[Mounted]:
    """Return what is mounted, as this process sees it."""
    return parse_mountinfo(_MOUNTINFO.read_bytes())


def parse_mountinfo(content: bytes) -> list[Mounted]:
    """Return the mounts in the text of a mountinfo file, in its order."""
    return [_parse_line(line) for line in content.splitlines() if line]


def _parse_line(line: bytes) -> Mounted:
    number, parent, device, root, point = line.split(b" ", 5)[:5]
    # Optional fields end at a dash.
    kind, source, options = [*line.partition(b" - ")[2].split(b" "), b"", b"", b""][:3]
    return Mounted(
        int(number),
        int(parent),
        device,
        _unescape(root),
        _unescape(point),
        kind,
        _unescape(source),
        b"ro" in options.split(b","),
    )


def _unescape(field: bytes) -> bytes:
    return _OCTAL.sub(lambda match: bytes([int(match[1], 8)]), field)


def is_bound_to_itself(mount: Mounted, mounts: Sequence[Mounted]) -> bool:
    """Tell whether `mount` shows the very directory it is mounted on."""
    parent = next((each for each in mounts if each.number == mount.parent), None)
    if parent is None or parent.device != mount.device:
        return False
    return mount.root == join(parent.root, relative_to(mount.point, parent.point))


def reconcile(top: bytes, wanted: Sequence[Mount]) -> None:
    """Make the mounts below the directory `top` those of `wanted` (outer ones first), no others.

    What is right already is left alone.  Raises InfrastructureError naming the mount that failed.
    """
    # As mountinfo has it.
    top = os.path.realpath(top)
    kept = _unmount_others(top, wanted)
    for mount in wanted:
        if mount.position not in kept:
            _mount(top, mount)


def _unmount_others(top: bytes, wanted: Sequence[Mount]) -> set[bytes]:
    """Unmount what is not wanted, inner before outer, and return the positions that stay."""
    kept, gone = _sort_out(top, wanted, all_mounts())
    for position in reversed(gone):
        _unmount(top, position)
    # In another part, the mount point may be a user's directory; elsewhere it was made here.
    places = {*gone, *(mount.position for mount in wanted)}
    for position in reversed(gone):
        if not any(is_at_or_below(position, place) for place in places - {position}):
            _remove_mount_point(top, position)
    return kept


def _sort_out(
    top: bytes, wanted: Sequence[Mount], mounts: Sequence[Mounted]
) -> tuple[set[bytes], list[bytes]]:
    """Return the positions of mounts that are right, and of those to go, once for each mount."""
    by_position = {mount.position: mount for mount in wanted}
    kept: set[bytes] = set()
    gone: list[bytes] = []
    # Outer mounts come before inner ones in mountinfo.
    for each in mounts:
        if each.point == top or not is_at_or_below(each.point, top):
            continue
        position = join(b"/", relative_to(each.point, top))
        if position in kept:
            # Something was mounted over a right one: both go, and it is made anew.
            gone += [position, position]
            kept = {other for other in kept if not is_at_or_below(other, position)}
        elif any(is_at_or_below(position, other) for other in gone):
            gone.append(position)
        elif _is_right(each, by_position.get(position), mounts):
            kept.add(position)
        else:
            gone.append(position)
    return kept, gone


def _is_right(mounted: Mounted, wanted: Mount | None, mounts: Sequence[Mounted]) -> bool:
    if wanted is None:
        return False
    if wanted.source is None:
        return is_bound_to_itself(mounted, mounts)
    with suppress(OSError):
        source, point = Path(os.fsdecode(wanted.source)), Path(os.fsdecode(mounted.point))
        return source.samefile(point)
    return False


def _unmount(top: bytes, position: bytes) -> None:
    # Detached rather than unmounted: nfsd keeps files open for clients, and a junction that has moved
    # must not be held in its old place by them.
    with _mount_point(top, position) as point:
        if _libc().umount2(_by_descriptor(point), _MNT_DETACH) != 0:
            raise _failure("unmount", position)


def _remove_mount_point(top: bytes, position: bytes) -> None:
    """Remove the directories made for a mount that is gone, as far as they lead nowhere else."""
    directory = join(top, position[1:])
    # rmdir stops by itself at the first directory that is not empty.
    with suppress(OSError):
        while directory != top:
            os.rmdir(directory)  # noqa: PTH106  (a bytes path)
            directory = directory[: directory.rindex(b"/")]


def _mount(top: bytes, mount: Mount) -> None:
    with _mount_point(top, mount.position) as target:
        if mount.source is None:
            _bind(target, target, mount.position)
            return
        with _directory(mount.source, f"the local directory of {show_path(mount.position)}") as source:
            _bind(source, target, mount.position)


def _bind(source: int, target: int, position: bytes) -> None:
    if _libc().mount(_by_descriptor(source), _by_descriptor(target), None, _MS_BIND, None) != 0:
        raise _failure("mount", position)


def _by_descriptor(descriptor: int) -> bytes:
    return b"/proc/self/fd/%d" % descriptor


@contextmanager
def _directory(path: bytes, what: str) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise InfrastructureError(
            f"{what} cannot be used: {error.strerror}; make it, or move the part"
        ) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _mount_point(top: bytes, position: bytes) -> Iterator[int]:
    """Open the directory at `position` below `top`, made where it is missing, following no link."""
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(top, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in components(position):
            made = _make(name, descriptor)
            inner = os.open(name, flags, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
            if made:
                # Whatever this process's umask is, clients pass through here.
                os.chmod(_by_descriptor(descriptor), _MOUNT_POINT_MODE)  # noqa: PTH101  (a bytes path)
        yield descriptor
    except OSError as error:
        raise InfrastructureError(
            f"cannot make the mount point {show_path(position)}: {error.strerror}; "
            "a file or symbolic link in its way must be moved"
        ) from error
    finally:
        os.close(descriptor)


def _make(name: bytes, directory: int) -> bool:
    try:
        os.mkdir(name, _MOUNT_POINT_MODE, dir_fd=directory)
    except FileExistsError:
        return False
    return True


def _failure(action: str, position: bytes) -> InfrastructureError:
    code = ctypes.get_errno()
    hint = "; this needs the capability CAP_SYS_ADMIN" if code == errno.EPERM else ""
    return InfrastructureError(f"cannot {action} {show_path(position)}: {os.strerror(code)}{hint}")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
