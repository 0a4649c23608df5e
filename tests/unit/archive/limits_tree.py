"""What lies at the limits of Linux and of tar's headers, added to the harness's nasty corner.

As there, what a file system or user does not allow is left out by name.
"""

import errno
import os
import random
import stat
import struct
from collections.abc import Callable
from typing import Any

from harness.guest import seed_nasty

REFUSED = seed_nasty.REFUSED | {errno.E2BIG, errno.ENOSPC, errno.ERANGE, errno.ENAMETOOLONG, errno.ENODATA}
NO_ID = 0xFFFFFFFF
LARGE_VALUES = (65536, 65000, 16000, 4000)
"""Bytes; ext4 with large inodes, XFS and tmpfs take 64 KiB, btrfs less than its leaves of 16 KiB."""


def _write(path: bytes, data: bytes = b"x") -> bytes:
    with open(path, "wb") as file:
        file.write(data)
    return path


def _path(*parts: bytes) -> bytes:
    return os.path.join(*parts)  # noqa: PTH118  Path cannot hold bytes


def any_bytes(base: bytes) -> None:
    """Each byte that a name may have, alone and in the middle."""
    folder = _path(base, b"bytes")
    os.mkdir(folder)  # noqa: PTH102
    for byte in range(1, 256):
        if byte not in b"/.":
            _write(_path(folder, bytes([byte])))
        if byte != ord("/"):
            _write(_path(folder, b"a" + bytes([byte]) + b"z"))


def lengths(base: bytes) -> None:
    """Names and links around every length that a header's fields have, of text and of other bytes."""
    folder = _path(base, b"lengths")
    os.mkdir(folder)  # noqa: PTH102
    for letter in (b"n", b"\xe9", "ü".encode()):
        for length in (98, 99, 100, 101, 102, 154, 155, 156, 254, 255):
            name = (letter * length)[:length]
            path = _write(_path(folder, name))
            os.link(path, _path(folder, b"link %d " % length + letter))
            os.symlink(name, _path(folder, b"symlink %d " % length + letter))  # noqa: PTH211
        inner = folder
        for _ in range(5):
            inner = _path(inner, (letter * 50)[:50])
            os.mkdir(inner)  # noqa: PTH102
            _write(_path(inner, (letter * 60)[:60]))


def long_symlinks(base: bytes) -> None:
    """Symbolic links as long as they may be."""
    for length in (255, 256, 1000, 1023):
        os.symlink(b"t" * length, _path(base, b"symlink-%d" % length))  # noqa: PTH211


def longest_symlink(base: bytes) -> None:
    """PATH_MAX but for its NUL; XFS stops at 1023."""
    os.symlink(b"t" * 4095, _path(base, b"symlink-4095"))  # noqa: PTH211


def linked_kinds(base: bytes) -> None:
    """Hard links of every kind across directories, and more of one than a byte counts."""
    for folder in (b"links-1", b"links-2"):
        os.mkdir(_path(base, folder))  # noqa: PTH102
    first = _write(_path(base, b"links-1", b"first"), b"many")
    for number in range(300):
        os.link(first, _path(base, b"links-2", b"%d" % number))
    os.mkfifo(_path(base, b"links-1", b"fifo"))
    os.link(_path(base, b"links-1", b"fifo"), _path(base, b"links-2", b"fifo"))
    with open(_path(base, b"links-1", b"sparse"), "wb") as file:
        file.truncate(1 << 20)
    os.link(_path(base, b"links-1", b"sparse"), _path(base, b"links-2", b"sparse"))


def linked_device(base: bytes) -> None:
    """A device of two names."""
    os.mknod(_path(base, b"device"), stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.link(_path(base, b"device"), _path(base, b"device-link"))


def large_attributes(base: bytes) -> None:
    """The largest value that this file system takes, of a file and of a directory."""
    file = _write(_path(base, b"large-attribute"))
    folder = _path(base, b"large-attribute-of-a-directory")
    os.mkdir(folder)  # noqa: PTH102
    for path in (file, folder):
        for size in LARGE_VALUES:
            try:
                os.setxattr(path, "user.large", random.Random(size).randbytes(size))
                break
            except OSError as error:
                if error.errno not in REFUSED:
                    raise


def many_attributes(base: bytes) -> None:
    """Many attributes, one with the longest name."""
    path = _write(_path(base, b"many-attributes"))
    os.setxattr(path, b"user." + b"n" * 250, b"longest")
    for number in range(40):
        os.setxattr(path, f"user.{number}", b"v" * number)


def all_name_spaces(base: bytes) -> None:
    """Attributes of every name space, on every kind of inode that may have them."""
    paths = [_write(_path(base, b"spaces-file")), _path(base, b"spaces-fifo"), _path(base, b"spaces-symlink")]
    os.mkfifo(paths[1])
    os.symlink("nowhere", paths[2])  # noqa: PTH211
    os.setxattr(paths[0], "user.spanreel", b"user")
    for path in paths:
        for name in ("trusted.spanreel", "security.spanreel"):
            os.setxattr(path, name, name.encode(), follow_symlinks=False)


def acl_of_many(base: bytes) -> None:
    """An ACL with many users and groups, access and default, and mode bits beside it."""
    entries = [(1, 7, NO_ID), *((2, n % 8, 1000 + n) for n in range(20)), (4, 5, NO_ID)]
    entries += [*((8, n % 8, 2_000_000_000 + n) for n in range(20)), (16, 7, NO_ID), (32, 0, NO_ID)]
    value = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    path = _write(_path(base, b"acl-of-many"))
    os.setxattr(path, "system.posix_acl_access", value)
    folder = _path(base, b"acl-of-many-directory")
    os.mkdir(folder)  # noqa: PTH102
    os.setxattr(folder, "system.posix_acl_access", value)
    os.setxattr(folder, "system.posix_acl_default", value)
    _write(_path(folder, b"inherits"))


def acl_and_capability(base: bytes) -> None:
    """Both at once, and the bits that chown(2) clears."""
    path = _write(_path(base, b"acl-and-capability"))
    os.chown(path, 1234, 4321)
    os.chmod(path, 0o6755)  # noqa: PTH101
    os.setxattr(path, "system.posix_acl_access", seed_nasty.ACCESS_ACL)
    os.setxattr(path, "security.capability", seed_nasty.CAPABILITY)


def numbers(base: bytes) -> None:
    """Owners around what octal fields can say, up to the last that is one."""
    for number in (2**21 - 1, 2**21, 2**31 - 1, 2**31, 2**32 - 2):
        os.chown(_write(_path(base, b"owner-%d" % number)), number, number)


def read_only_directories(base: bytes) -> None:
    """Directories that nobody may write to, with something in them and old times; modes come last."""
    folder = _path(base, b"read-only")
    os.makedirs(_path(folder, b"below", b"deeper"))  # noqa: PTH103
    _write(_path(folder, b"below", b"file"))
    _write(_path(folder, b"below", b"deeper", b"file"))
    for path, mode in ((_path(folder, b"below", b"deeper"), 0o555), (_path(folder, b"below"), 0o511)):
        os.utime(path, ns=(1, 1_000_000_000_000_000_007))
        os.chmod(path, mode)  # noqa: PTH101
    os.utime(folder, ns=(1, 7))
    os.chmod(folder, 0o500)  # noqa: PTH101


def holes(base: bytes) -> None:
    """Holes and data in alternating blocks, beyond 8 GiB, and at an end that is no whole block."""
    with open(_path(base, b"comb"), "wb") as file:
        for block in range(0, 512, 2):
            os.pwrite(file.fileno(), b"d" * 65536, block * 65536)
    with open(_path(base, b"data-beyond-8-GiB"), "wb") as file:
        os.pwrite(file.fileno(), b"far" * 5000, (9 << 30) + 65536)
        file.truncate((9 << 30) + 3 * 65536 + 1)


MAKERS: list[Callable[[bytes], None]] = [
    any_bytes,
    lengths,
    long_symlinks,
    longest_symlink,
    linked_kinds,
    linked_device,
    large_attributes,
    many_attributes,
    all_name_spaces,
    acl_of_many,
    acl_and_capability,
    numbers,
    read_only_directories,
    holes,
]

NEEDS_ROOT = frozenset(
    ("linked_device", "all_name_spaces", "acl_and_capability", "numbers", "devices", "root_xattrs")
) | frozenset(("capabilities", "unreadable", "owners"))
"""What a plain user may not make."""


def make(folder: bytes) -> dict[str, Any]:
    """Make all of it in a new folder; return what was left out, by name, and why."""
    left_out = dict(seed_nasty.main({"number": 7, "folder": os.fsdecode(folder)})["left_out"])
    for maker in MAKERS:
        try:
            maker(folder)
        except OSError as error:
            if error.errno not in REFUSED:
                raise
            left_out[maker.__name__] = str(error)
    return left_out
