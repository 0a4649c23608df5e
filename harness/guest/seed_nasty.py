"""Make the nasty corner: everything a file system allows and a backup likes to lose.

Argument: {"number": N, "folder": DIR}
Prints:   {"made": [NAME...], "left_out": {NAME: WHY}}

What this machine or user cannot make (devices without root, ACLs without support) is left out by
name, never silently.
"""

from __future__ import annotations

import errno
import json
import os
import random
import stat
import struct
import sys
from typing import Any

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
# Beyond the 8 GiB that an octal size field of 12 characters can say.
HUGE = 8 * GIB + 512 * MIB + 4321
# Beyond 2,097,151, which an octal id field of 8 characters can say.
BIG_ID = 2_000_000_019
# Refused for want of rights or support, as opposed to a mistake of this script.
REFUSED = {errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.ENAMETOOLONG}
# ACL entry tags of Linux's xattr form (include/uapi/linux/posix_acl.h).
USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
NO_ID = 0xFFFFFFFF
# VFS_CAP_REVISION_2 with the effective bit; CAP_NET_RAW is bit 13.
CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)


def write(path: bytes, data: bytes, mode: int = 0o644) -> bytes:
    """Write a file."""
    with open(path, "wb") as file:
        file.write(data)
    os.chmod(path, mode)
    return path


def acl(*entries: tuple[int, int, int]) -> bytes:
    """Pack a POSIX ACL as the kernel stores it in an xattr."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


ACCESS_ACL = acl(
    (USER_OBJ, 6, NO_ID),
    (USER, 4, 1234),
    (GROUP_OBJ, 4, NO_ID),
    (GROUP, 6, 4321),
    (MASK, 6, NO_ID),
    (OTHER, 0, NO_ID),
)
DEFAULT_ACL = acl(
    (USER_OBJ, 7, NO_ID), (USER, 5, 1234), (GROUP_OBJ, 5, NO_ID), (MASK, 5, NO_ID), (OTHER, 0, NO_ID)
)


def names(base: bytes, generator: random.Random) -> None:
    """Names of any bytes and length."""
    folder = os.path.join(base, b"names")
    os.mkdir(folder)
    for name in (
        b"n" * 255,
        "Größenänderung – 日本語 😀".encode(),
        b"latin1-\xe4\xf6\xfc",
        b"bytes-" + bytes(byte for byte in range(1, 256) if byte != 0x2F)[:200],
        b"new\nline",
        b"tab\tand\rreturn",
        b" leading and trailing ",
        b"-rf",
        b"--checkpoint-action=exec=false",
        b"back\\slash \\n \\x41",
        b"quote'\"`$(false)",
        b"star*?[]",
        b"...",
        b"~",
    ):
        write(os.path.join(folder, name), generator.randbytes(100))


def long_paths(base: bytes, generator: random.Random) -> None:
    """Paths longer than 100, 255 and 1,000 bytes."""
    folder = os.path.join(base, b"long")
    for depth in range(12):
        folder = os.path.join(folder, b"d%02d-" % depth + b"x" * 90)
        os.makedirs(folder)
        write(os.path.join(folder, b"file"), generator.randbytes(33))


def hard_links(base: bytes, generator: random.Random) -> None:
    """Links within a directory, across directories, and of things that are no files."""
    folder = os.path.join(base, b"links")
    os.makedirs(os.path.join(folder, b"a/b"))
    os.mkdir(os.path.join(folder, b"z"))
    first = write(os.path.join(folder, b"a/first"), generator.randbytes(70_000))
    for name in (b"a/second", b"a/b/third", b"z/fourth"):
        os.link(first, os.path.join(folder, name))
    os.symlink("first", os.path.join(folder, b"a/symlink"))
    os.link(os.path.join(folder, b"a/symlink"), os.path.join(folder, b"z/symlink"), follow_symlinks=False)
    empty = write(os.path.join(folder, b"a/empty"), b"")
    os.link(empty, os.path.join(folder, b"z/empty"))


def symbolic_links(base: bytes, _generator: random.Random) -> None:
    """Relative, absolute, dangling, long, of any bytes, of itself."""
    folder = os.path.join(base, b"symlinks")
    os.mkdir(folder)
    targets = (
        b".",
        b"../names",
        b"/usr/bin/env",
        b"nowhere",
        b"self-5",
        b"t" * 99 + b"/" + b"u" * 99,
        b"bytes-\xff\xfe\n",
        b" ",
    )
    for index, target in enumerate(targets):
        os.symlink(target, os.path.join(folder, b"self-%d" % index))


def long_symbolic_link(base: bytes, _generator: random.Random) -> None:
    """A link of 3,014 bytes; XFS stops at 1,023."""
    os.symlink(b"/".join([b"v" * 200] * 15), os.path.join(base, b"long-symlink"))


def fifo(base: bytes, _generator: random.Random) -> None:
    """A FIFO and a link to it."""
    os.mkfifo(os.path.join(base, b"fifo"), 0o640)
    os.link(os.path.join(base, b"fifo"), os.path.join(base, b"fifo-link"))


def devices(base: bytes, _generator: random.Random) -> None:
    """A character and a block device with large numbers."""
    os.mknod(os.path.join(base, b"chardev"), stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.mknod(os.path.join(base, b"blockdev"), stat.S_IFBLK | 0o660, os.makedev(259, 70_000))


def sparse(base: bytes, generator: random.Random) -> None:
    """Files with holes at every place, wholly empty ones, and one of more than 8 GiB."""
    folder = os.path.join(base, b"sparse")
    os.mkdir(folder)
    layouts = {
        b"middle": (3 * MIB, (0, 2 * MIB)),
        b"begins-with-hole": (2 * MIB, (MIB,)),
        b"ends-with-hole": (5 * MIB + 17, (0,)),
        b"only-a-hole": (4 * MIB, ()),
        b"many": (16 * MIB, tuple(range(0, 16 * MIB, 256 * KIB))),
        b"huge": (HUGE, (0, 4 * GIB, 8 * GIB + 256 * MIB)),
    }
    for name, (size, offsets) in layouts.items():
        with open(os.path.join(folder, name), "wb") as file:
            for offset in offsets:
                file.seek(offset)
                file.write(generator.randbytes(64 * KIB))
            file.truncate(size)
    write(os.path.join(folder, b"zeros-but-data"), bytes(256 * KIB))


def user_xattrs(base: bytes, generator: random.Random) -> None:
    """Extended attributes: binary, empty, several, on a directory too."""
    folder = os.path.join(base, b"xattrs")
    os.mkdir(folder)
    path = write(os.path.join(folder, b"file"), b"x")
    for name, value in (
        ("user.plain", b"value"),
        ("user.empty", b""),
        ("user.binary", b"\x00\xff\n=\n"),
        ("user.name with = and space", b"odd name"),
        ("user.big", generator.randbytes(2000)),
    ):
        os.setxattr(path, name, value)
    os.setxattr(folder, "user.directory", b"yes")


def root_xattrs(base: bytes, _generator: random.Random) -> None:
    """Attributes only root can set, on a file, a link and a FIFO."""
    path = write(os.path.join(base, b"trusted"), b"x")
    os.setxattr(path, "trusted.spanreel", b"\x00trusted")
    os.symlink("nowhere", os.path.join(base, b"trusted-link"))
    os.setxattr(os.path.join(base, b"trusted-link"), "trusted.link", b"on the link", follow_symlinks=False)


def capabilities(base: bytes, _generator: random.Random) -> None:
    """A file capability."""
    os.setxattr(write(os.path.join(base, b"capable"), b"#!", 0o755), "security.capability", CAPABILITY)


def acls(base: bytes, _generator: random.Random) -> None:
    """Access ACLs on a file, access and default ACLs on a directory."""
    os.setxattr(write(os.path.join(base, b"acl-file"), b"a"), "system.posix_acl_access", ACCESS_ACL)
    folder = os.path.join(base, b"acl-directory")
    os.mkdir(folder)
    write(os.path.join(folder, b"before-default"), b"b")
    os.setxattr(folder, "system.posix_acl_default", DEFAULT_ACL)
    write(os.path.join(folder, b"inherits"), b"c")


def modes(base: bytes, _generator: random.Random) -> None:
    """Every special mode bit, and no mode at all."""
    folder = os.path.join(base, b"modes")
    os.mkdir(folder)
    for mode in (0o4755, 0o2755, 0o6711, 0o1644, 0o0400, 0o7777):
        write(os.path.join(folder, b"%04o" % mode), b"m", mode)
    for mode in (0o1777, 0o2775, 0o0700):
        path = os.path.join(folder, b"dir-%04o" % mode)
        os.mkdir(path)
        os.chmod(path, mode)


def unreadable(base: bytes, _generator: random.Random) -> None:
    """A file and a directory that only root can read."""
    if os.geteuid() != 0:
        raise PermissionError(errno.EPERM, "its owner could not back it up")
    write(os.path.join(base, b"mode-0000"), b"m", 0)
    os.mkdir(os.path.join(base, b"dir-0000"))
    os.chmod(os.path.join(base, b"dir-0000"), 0)


def owners(base: bytes, _generator: random.Random) -> None:
    """Ids that octal fields cannot say; setuid survives the change of owner."""
    path = write(os.path.join(base, b"big-ids"), b"o")
    os.chown(path, BIG_ID, BIG_ID + 1)
    path = write(os.path.join(base, b"setuid-other"), b"o")
    os.chown(path, 1234, 4321)
    os.chmod(path, 0o4750)


def empty(base: bytes, _generator: random.Random) -> None:
    """Nothing, in several forms."""
    os.makedirs(os.path.join(base, b"empty/directory/in/directory"))
    write(os.path.join(base, b"empty/file"), b"")


def times(base: bytes, _generator: random.Random) -> None:
    """Times before 1970, with nanoseconds, far ahead, on links and directories."""
    folder = os.path.join(base, b"times")
    os.mkdir(folder)
    for name, when in (
        (b"negative", -86_400_000_000_000),
        (b"negative-fraction", -1_500_000_000),
        (b"zero", 0),
        (b"one-nanosecond", 1),
        (b"999999999", 1_234_567_890_999_999_999),
        (b"beyond-2038", 3_000_000_000_000_000_007),
        (b"beyond-33-bits", 9_000_000_000_123_456_700),
    ):
        os.utime(write(os.path.join(folder, name), b"t"), ns=(when, when))
    os.symlink("zero", os.path.join(folder, b"link"))
    os.utime(os.path.join(folder, b"link"), ns=(7, 1_111_111_111_111_111_111), follow_symlinks=False)
    os.mkdir(os.path.join(folder, b"directory"))
    os.utime(os.path.join(folder, b"directory"), ns=(5, 987_654_321_012_345_678))


def sizes(base: bytes, generator: random.Random) -> None:
    """Sizes around the block sizes of tar, disks and records."""
    folder = os.path.join(base, b"sizes")
    os.mkdir(folder)
    for block in (512, 4096, 10240, 262144):
        for size in (block - 1, block, block + 1):
            write(os.path.join(folder, b"%d" % size), generator.randbytes(size))


MAKERS = (
    names, long_paths, hard_links, symbolic_links, long_symbolic_link, fifo, devices, sparse, user_xattrs,
    root_xattrs, capabilities, acls, modes, unreadable, owners, empty, times, sizes,
)  # fmt: skip


def main(argument: dict[str, Any]) -> dict[str, Any]:
    """Make all of it below one new folder."""
    folder = os.fsencode(argument["folder"])
    os.makedirs(folder)
    generator = random.Random(argument["number"])
    made: list[str] = []
    left_out: dict[str, str] = {}
    for maker in MAKERS:
        try:
            maker(folder, generator)
            made.append(maker.__name__)
        except OSError as error:
            if error.errno not in REFUSED:
                raise
            left_out[maker.__name__] = f"{error.strerror} (uid {os.geteuid()})"
    return {"made": made, "left_out": left_out}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
