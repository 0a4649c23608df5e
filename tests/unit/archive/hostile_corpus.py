"""Archives that mean harm, as a table: what is in them, what lies in the way, and what must hold afterwards.

For each of them nothing beside the target may be changed, made or read; what else must hold is in the table.
"""

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from archive_support import IS_ROOT, make_socket

from appliance.archive.pax import RECORDS_MAX, extended_header, global_record, record
from appliance.archive.reader import LONG_NAME_BYTES_MAX, RECORDS_BYTES_MAX
from appliance.archive.ustar import encode_header, long_header, padding

SECRET = b"../outside/secret"


def member(name: bytes, flag: bytes = b"0", data: bytes = b"", link: bytes = b"", *records: bytes) -> bytes:
    """One member, as a stranger may write it; the owner is whoever runs the test."""
    owner = b"%07o" % os.getuid(), b"%07o" % os.getgid(), b"", b""
    extended = extended_header(b"j", 0, b"".join(records)) if records else b""
    mode = 0o755 if flag in (b"5", b"D") else 0o644
    header = encode_header(name, flag, len(data), mode=mode, link=link, owner=owner, mtime=1_000_000_000)
    return extended + header + data + bytes(padding(len(data)))


def patched(header: bytes, start: int, field_bytes: bytes) -> bytes:
    """A header block with other bytes in it, and the right checksum."""
    block = bytearray(header)
    block[start : start + len(field_bytes)] = field_bytes
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def device(name: bytes, flag: bytes, major: int, minor: int) -> bytes:
    """A device that everybody may write to."""
    return encode_header(name, flag, 0, mode=0o666, device=(major, minor))


def sparse(name: bytes, body: bytes, *records: bytes, size: bytes = b"4") -> bytes:
    """A sparse file in GNU's format 1.0."""
    head = [record(b"GNU.sparse.major", b"1"), record(b"GNU.sparse.minor", b"0")]
    return member(name, b"0", body, b"", *head, record(b"GNU.sparse.realsize", size), *records)


def map_of(*numbers: int | bytes) -> bytes:
    """The map of a sparse file, padded."""
    text = b"".join(b"%b\n" % (n if isinstance(n, bytes) else b"%d" % n) for n in numbers)
    return text + bytes(padding(len(text)))


@dataclass(frozen=True)
class Case:
    """One archive.

    `prepare` puts things in the way; `leaves` is what must be at names in the target afterwards: "file" and
    the like, content of a file, or None for nothing; `broken`: the stream ends there, and is named damaged.
    Without `root_only` the same must hold for a user without rights.
    """

    members: bytes
    leaves: dict[str, str | bytes | None] = field(default_factory=dict)
    prepare: Callable[[Path], object] | None = None
    broken: bool = False
    root_only: bool = False


def in_the_way(target: Path) -> None:
    """Things that hurt when they are opened, or written to."""
    os.mkfifo(target / "fifo")
    make_socket(target / "socket")
    (target / "link").symlink_to("../outside/secret")
    (target / "links").symlink_to("../outside")
    (target / "loop").symlink_to("loop")
    if IS_ROOT:
        os.mknod(target / "full", stat.S_IFCHR | 0o666, os.makedev(1, 7))
        os.mknod(target / "disk", stat.S_IFBLK | 0o666, os.makedev(259, 1048575))


def full(target: Path) -> None:
    """Something that is not in the archive."""
    (target / "kept").write_bytes(b"kept")


WAY = ("fifo", "socket", "link", "links", "loop", "full", "disk")
EVIL = b"evil"
AS_FILES = b"".join(member(name.encode(), b"0", EVIL) for name in WAY)

NAMES = {
    "dot dot": Case(member(SECRET, b"0", EVIL)),
    "dot dot within": Case(member(b"a/../../outside/x", b"0", EVIL), {"a": None}),
    "dot dot alone": Case(member(b"..", b"5")),
    "dot dot at the end": Case(member(b"a/..", b"5"), {"a": None}),
    "dot dot in a record": Case(member(b"x", b"0", EVIL, b"", record(b"path", SECRET)), {"x": None}),
    "dot dot in an L header": Case(long_header(b"L", SECRET) + member(b"x", b"0", EVIL), {"x": None}),
    "dot dot in the prefix": Case(encode_header(b"outside/new", b"5", 0, prefix=b"..")),
    "dot dot in a sparse name": Case(
        sparse(b"x", map_of(1, 0, 4) + EVIL, record(b"GNU.sparse.name", SECRET)), {"x": None}
    ),
    "an absolute name stays inside": Case(member(b"/outside/x", b"0", EVIL), {"outside/x": EVIL}),
    "many slashes": Case(member(b"//outside//x", b"0", EVIL), {"outside/x": EVIL}),
    "a backslash is a name": Case(member(b"..\\x", b"0", EVIL), {"..\\x": EVIL}),
    "NUL": Case(member(b"x", b"0", EVIL, b"", record(b"path", SECRET + b"\0x")), {"x": None}),
    "the root as a file": Case(member(b".", b"0", EVIL), {".": "directory"}, full),
    "the root as a file with a slash": Case(member(b"./", b"0", EVIL), {".": "directory"}, broken=True),
    "the root as a symlink": Case(member(b"./", b"2", link=b"../outside"), {".": "directory"}, full),
    "a component too long": Case(member(b"x", b"0", EVIL, b"", record(b"path", b"a" * 256)), {"x": None}),
    "dots without end": Case(
        member(b"x", b"0", EVIL, b"", record(b"path", b"./" * 500_000 + b"dots")), {"dots": EVIL}
    ),
    "a name beyond what is kept": Case(
        member(b"x", b"0", EVIL, b"", record(b"path", b"a/" * (LONG_NAME_BYTES_MAX // 2) + b"a")), broken=True
    ),
}

SYMLINKS = {
    f"a symlink, then a {what} through it": Case(
        member(b"l", b"2", link=b"../outside") + member(b"l/" + name, flag, data, link),
        {"l": "directory"},
    )
    for what, name, flag, data, link in (
        ("file", b"secret", b"0", EVIL, b""),
        ("directory", b"d", b"5", b"", b""),
        ("symlink", b"s", b"2", b"", b"secret"),
        ("FIFO", b"f", b"6", b"", b""),
        ("hard link", b"h", b"1", b"", b"innocent"),
        ("deep file", b"d/e/f", b"0", EVIL, b""),
    )
} | {
    "a symlink, then a directory over it": Case(
        member(b"l", b"2", link=b"../outside") + member(b"l", b"5") + member(b"l/secret", b"0", EVIL),
        {"l/secret": EVIL},
    ),
    "a symlink, then a file over it": Case(
        member(b"l", b"2", link=SECRET) + member(b"l", b"0", EVIL), {"l": EVIL}
    ),
    "a symlink to a directory, then its time": Case(
        member(b"l", b"2", link=b"..") + member(b"l/", b"5"), {"l": "directory"}
    ),
    "symlinks in a chain": Case(
        member(b"a", b"2", link=b".")
        + member(b"a/b", b"2", link=b"..")
        + member(b"a/b/outside/x", b"0", EVIL)
    ),
    "a symlink to descriptors": Case(
        member(b"l", b"2", link=b"/proc/self/fd") + member(b"l/1", b"0", EVIL), {"l/1": EVIL}
    ),
    "a default ACL through a symlink": Case(
        member(b"l", b"2", b"", b"../outside", record(b"SCHILY.acl.default", b"user::rwx")), {"l": "symlink"}
    ),
    "attributes through a symlink": Case(
        member(b"l", b"2", b"", SECRET, record(b"SCHILY.xattr.user.evil", b"x")), {"l": "symlink"}
    ),
}

HARD_LINKS = {
    "a hard link outside": Case(member(b"h", b"1", link=SECRET) + member(b"h", b"0", EVIL), {"h": EVIL}),
    "an absolute hard link": Case(member(b"h", b"1", link=b"/etc/passwd"), {"h": None}),
    "a hard link outside by a record": Case(
        member(b"h", b"1", b"", b"x", record(b"linkpath", SECRET)), {"h": None}
    ),
    "a hard link outside by a K header": Case(
        long_header(b"K", SECRET) + member(b"h", b"1", link=b"x"), {"h": None}
    ),
    "a hard link through a symlink": Case(
        member(b"l", b"2", link=b"../outside") + member(b"h", b"1", link=b"l/secret"), {"h": None}
    ),
    "a hard link to a symlink": Case(
        member(b"l", b"2", link=SECRET) + member(b"h", b"1", link=b"l") + member(b"h", b"0", EVIL),
        {"l": "symlink", "h": EVIL},
    ),
    "a hard link to the root": Case(member(b"h", b"1", link=b"."), {"h": None}),
    "a hard link to a directory": Case(member(b"d", b"5") + member(b"h", b"1", link=b"d"), {"h": None}),
    "a hard link to itself": Case(
        member(b"h", b"1", link=b"h"), {"h": b"old"}, lambda target: (target / "h").write_bytes(b"old")
    ),
    "a hard link in a circle": Case(
        member(b"a", b"1", link=b"b") + member(b"b", b"1", link=b"a"), {"a": None, "b": None}
    ),
}

IN_THE_WAY = {
    "files": Case(AS_FILES, dict.fromkeys(WAY, EVIL), in_the_way),
    "directories": Case(
        b"".join(member(name.encode(), b"5") for name in WAY), dict.fromkeys(WAY, "directory"), in_the_way
    ),
    "ways": Case(
        b"".join(member(name.encode() + b"/x", b"0", EVIL) for name in WAY),
        {f"{name}/x": EVIL for name in WAY},
        in_the_way,
    ),
    "FIFOs": Case(
        b"".join(member(name.encode(), b"6") for name in WAY), dict.fromkeys(WAY, "fifo"), in_the_way
    ),
    "symlinks": Case(
        b"".join(member(name.encode(), b"2", link=b"x") for name in WAY),
        dict.fromkeys(WAY, "symlink"),
        in_the_way,
    ),
    "a file over a full directory": Case(
        member(b"d", b"0", EVIL),
        {"d/e": "directory"},
        lambda target: (target / "d" / "e").mkdir(parents=True),
    ),
    "links to what is there": Case(
        b"".join(member(b"h-" + name.encode(), b"1", link=name.encode()) for name in WAY) + AS_FILES,
        {"fifo": EVIL, "link": EVIL, "full": EVIL},
        in_the_way,
    ),
}

DEVICES = {
    "a device, then data for it": Case(
        device(b"full", b"3", 1, 7) + member(b"full", b"0", EVIL), {"full": EVIL}, root_only=True
    ),
    "a disk, then data for it": Case(
        device(b"disk", b"4", 259, 1048575) + member(b"disk", b"0", EVIL), {"disk": EVIL}, root_only=True
    ),
    "a device, then a link to it, then data": Case(
        device(b"full", b"3", 1, 7) + member(b"h", b"1", link=b"full") + member(b"h", b"0", EVIL),
        {"full": "character device", "h": EVIL},
        root_only=True,
    ),
    "a device with data": Case(
        patched(device(b"full", b"3", 1, 7), 124, b"00000000004\0"),
        {"full": "character device"},
        root_only=True,
    ),
    "numbers out of range": Case(
        patched(device(b"d", b"3", 0, 0), 329, b"\x80\0\0\xff\xff\xff\xff\xff"), {"d": None}
    ),
    "negative numbers": Case(patched(device(b"d", b"4", 0, 0), 337, b"\xff" * 8), {"d": None}),
    "devices without the right": Case(
        b"".join(device(b"d%d" % n, b"3", 1, n) for n in range(100)) if not IS_ROOT else b""
    ),
}

_HEADER = encode_header(b"x", b"0", 4)
SIZES = {
    "more than there is": Case(patched(_HEADER, 124, b"77777777777\0"), broken=True),
    "negative": Case(patched(_HEADER, 124, b"\xff" * 12), broken=True),
    "beyond 63 bits": Case(patched(_HEADER, 124, b"\x80" + b"\0" * 3 + b"\xff" * 8), broken=True),
    "beyond 63 bits in a record": Case(
        member(b"x", b"0", b"", b"", record(b"size", b"9223372036854775807")), broken=True
    ),
    "of 30 digits": Case(member(b"x", b"0", b"", b"", record(b"size", b"9" * 30)), broken=True),
    "none where there is data": Case(member(b"x", b"0", EVIL, b"", record(b"size", b"0")), broken=True),
    "of a symlink": Case(patched(encode_header(b"l", b"2", 0, link=b"x"), 124, b"00000001000\0")),
    "of a directory": Case(patched(encode_header(b"d", b"5", 0), 124, b"77777777777\0"), {"d": "directory"}),
    "of a sparse file: too small": Case(sparse(b"x", map_of(1, 0, 4) + EVIL, size=b"3"), {"x": None}),
    "of a sparse file: too large": Case(sparse(b"x", map_of(0), size=b"9223372036854775807"), broken=True),
    "of a sparse file: what no file can have": Case(
        sparse(b"x", map_of(0), size=b"%d" % (2**62)), {"x": None}
    ),
    "of a map: endless": Case(sparse(b"x", map_of(10**9)), {"x": None}),
    "of a map: digits without end": Case(sparse(b"x", b"1" * 5120), {"x": None}),
    "of a map: negative": Case(sparse(b"x", map_of(1, b"-4", 4) + EVIL), {"x": None}),
    "of a map: overlapping": Case(sparse(b"x", map_of(2, 0, 4, 2, 2) + EVIL), {"x": None}),
    "of a map: more than the data": Case(
        sparse(b"x", map_of(1, 0, 100_000) + EVIL, size=b"100000"), {"x": None}
    ),
    "of a map: none at all": Case(sparse(b"x", b""), {"x": None}),
    "sparse in an older format": Case(
        member(b"x", b"0", EVIL, b"", record(b"GNU.sparse.size", b"9"), record(b"GNU.sparse.map", b"5,4")),
        {"x": None},
    ),
}

HEADERS = {
    "an endless x header": Case(encode_header(b"x", b"x", RECORDS_BYTES_MAX + 1), broken=True),
    "an endless L header": Case(encode_header(b"L", b"L", 2**31), broken=True),
    "an endless K header": Case(encode_header(b"K", b"K", 2**31), broken=True),
    "an endless g header": Case(encode_header(b"g", b"g", 2**31), broken=True),
    "x headers without end": Case(extended_header(b"j", 0, b"") * 1000, broken=True),
    "g headers by the thousand": Case(global_record(b"g", record(b"comment", b"x")) * 3000),
    "records by the million": Case(
        extended_header(b"j", 0, b"".join(b"9 %05x=\n" % n for n in range(800_000))), broken=True
    ),
    "as many records as are taken": Case(
        member(b"x", b"0", EVIL, b"", *(b"9 %05x=\n" % n for n in range(RECORDS_MAX))), {"x": EVIL}
    ),
    "a record longer than its header": Case(
        extended_header(b"j", 0, b"999 path=x\n") + member(b"x"), {"x": None}, broken=True
    ),
    "a record of no length": Case(extended_header(b"j", 0, b"0 path=x\n") + member(b"x"), broken=True),
    "a record without a length": Case(extended_header(b"j", 0, b"path=x\n") + member(b"x"), broken=True),
    "a record without a length behind another": Case(
        extended_header(b"j", 0, b"9 a=1234\n" + b"x" * 30 + b"=\n") + member(b"x"), broken=True
    ),
    "a record of a length without end": Case(
        extended_header(b"j", 0, b"9" * 5000 + b" path=x\n") + member(b"x"), broken=True
    ),
    "garbage": Case(b"\xff" * 512, broken=True),
    "a lone zero block": Case(bytes(512) + member(b"x"), broken=True),
}

_DUMPDIR = b"".join(
    name + b"\0"
    for name in (
        b"Y" + SECRET, b"Y/etc/passwd", b"D..", b"N../outside", b"Ya/b", b"X../outside/tmp",
        b"R../outside/secret", b"T../target/stolen", b"Rinnocent", b"T../outside/new", b"R", b"T/etc/x", b"",
    )
)  # fmt: skip
TYPES = {
    "a dumpdir with names outside": Case(member(b"d/", b"D", _DUMPDIR) + member(b"d/f", b"0", b"f")),
    "a dumpdir with renames, of the root": Case(member(b"./", b"D", _DUMPDIR)),
    "a dumpdir outside": Case(member(b"../outside/", b"D", b"Nsecret\0\0")),
    "an empty dumpdir outside": Case(member(b"../outside/", b"D", b"\0")),
    "a dumpdir through a symlink": Case(member(b"l", b"2", link=b"../outside") + member(b"l/", b"D", b"\0")),
    "a dumpdir with moves through a symlink": Case(
        member(b"l", b"2", link=b"../outside")
        + member(
            b"./", b"D", b"Rl/secret\0Tstolen\0Rinnocent\0Tl/new\0Rl/directory\0Tl/moved\0Yl\0Yinnocent\0\0"
        )
    ),
    "a dumpdir without names, with a symlink below": Case(
        member(b"d/", b"5") + member(b"d/l", b"2", link=b"../../outside") + member(b"d/", b"D", b"\0")
    ),
    "a dumpdir of more names than a directory has": Case(member(b"d/", b"D", b"Y1\0" * 2_100_000 + b"\0")),
    "a dumpdir without an end": Case(member(b"d/", b"D", b"Yx")),
    "a dumpdir in a record": Case(
        member(b"d/", b"5", b"", b"", record(b"GNU.dumpdir", _DUMPDIR)), {"d": "directory"}
    ),
    "a dumpdir in a record, outside": Case(
        member(b"../outside/", b"5", b"", b"", record(b"GNU.dumpdir", b"\0"))
    ),
    **{
        f"a member of type {flag.decode()}": Case(member(b"x", flag, EVIL), {"x": None})
        for flag in (b"M", b"N", b"V", b"X", b"A", b"?")
    },
    "an old sparse member": Case(member(b"x", b"S", EVIL), broken=True),
}

GLOBALS = {
    f"a global {keyword.decode()}": Case(
        global_record(b"g", record(keyword, value)) + member(b"f", b"0", b"fine"), {"f": b"fine"}
    )
    for keyword, value in (
        (b"path", SECRET),
        (b"linkpath", SECRET),
        (b"size", b"0"),
        (b"uid", b"12345"),
        (b"GNU.sparse.name", SECRET),
        (b"GNU.sparse.major", b"1"),
        (b"SCHILY.xattr.user.evil", b"x"),
        (b"comment", b"[" * 100_000),
        (b"comment", b'{"format":"spanreel","version":1,"kind":"files","start":' + b"9" * 5000 + b"}\n"),
        (b"comment", b'{"format":"spanreel","version":1,"kind":"lost"}\n../outside/secret\n'),
        (b"hdrcharset", b"BINARY"),
    )
} | {
    "a backup root outside": Case(
        global_record(b"g", record(b"comment", b'{"format":"spanreel","version":1,"kind":"image",'
                                   b'"job":"j","root_base64":"Ly4uL291dHNpZGU="}\n')),
        broken=True,
    ),
}  # fmt: skip

ATTRIBUTES = {
    what: Case(member(b"x", b"0", EVIL, b"", record(keyword, value)), {"x": EVIL if restored else None})
    for what, keyword, value, restored in (
        ("an xattr with NUL in its name", b"SCHILY.xattr.user.\0x", b"x", True),
        ("an xattr with a long name", b"SCHILY.xattr.user." + b"x" * 256, b"x", True),
        ("an xattr of no name", b"SCHILY.xattr.", b"x", True),
        ("an xattr of no known kind", b"SCHILY.xattr.nonsense.x", b"x", True),
        ("an xattr of 1 MiB", b"SCHILY.xattr.user.x", b"x" * (1 << 20), True),
        ("a capability that is none", b"SCHILY.xattr.security.capability", b"x", True),
        ("an ACL as an xattr", b"SCHILY.xattr.system.posix_acl_access", b"\2\0\0\0", True),
        ("an ACL that is none", b"SCHILY.acl.access", b"nonsense", False),
        ("an ACL without end", b"SCHILY.acl.access", b"u:," * (1 << 20), False),
        ("an ACL the kernel refuses", b"SCHILY.acl.access", b"user:5:rwx", True),
        ("a user number of -1", b"uid", b"4294967295", False),
        ("a user number of 65 bits", b"uid", b"36893488147419103232", False),
        ("a time of 30 digits", b"mtime", b"9" * 30, False),
        ("a time that is none", b"mtime", b"nan", False),
        ("a time that ends the world", b"mtime", b"9223372036854775807", True),
    )
} | {
    "a time beyond 64 bits in its field": Case(
        patched(encode_header(b"x", b"0", 0), 136, b"\xbf" + b"\xff" * 11), {"x": None}
    ),
    "a time beyond 64 bits of a directory": Case(
        patched(encode_header(b"d", b"5", 0), 136, b"\xbf" + b"\xff" * 11), {"d": None}
    ),
}

CORPUS: dict[str, Case] = {
    f"{group}: {name}": case
    for group, cases in (
        ("name", NAMES),
        ("symlink", SYMLINKS),
        ("hard link", HARD_LINKS),
        ("in the way", IN_THE_WAY),
        ("device", DEVICES),
        ("size", SIZES),
        ("header", HEADERS),
        ("type", TYPES),
        ("global", GLOBALS),
        ("attribute", ATTRIBUTES),
    )
    for name, case in cases.items()
}
