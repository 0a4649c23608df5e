"""Trees with everything in them, images made of them, and an independent look at what came back."""

import contextlib
import errno
import os
import socket
import stat
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from appliance.archive.dumpdir import Dumpdir
from appliance.archive.extract import Extractor
from appliance.archive.formats import FORMAT
from appliance.archive.frame import END_OF_ARCHIVE, PartSummary, global_header, trailer
from appliance.archive.index import IndexEntry
from appliance.archive.member import Member
from appliance.archive.outcome import ExtractOptions, ExtractResult
from appliance.archive.part import Entry, Files, PartRequest, PartResult
from appliance.archive.reader import MemberReader
from appliance.archive.targets import Target
from appliance.archive.writer import write_part
from tests.unit.entry_support import entries

IS_ROOT = os.geteuid() == 0
OLD = 1_234_567_890_123_456_789
SPARSE_NAME = os.fsdecode(b"\xffholes" * 20)
CAPABILITY = struct.pack("<IIIII", 0x02000001, 0x400, 0, 0, 0)  # cap_net_bind_service=ep, revision 2
ACL_ACCESS = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *entry)
    for entry in [(1, 6, 2**32 - 1), (2, 4, 12345), (4, 4, 2**32 - 1), (16, 6, 2**32 - 1), (32, 0, 2**32 - 1)]
)
ACL_DEFAULT = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *entry)
    for entry in [(1, 7, 2**32 - 1), (4, 5, 2**32 - 1), (8, 7, 54321), (16, 7, 2**32 - 1), (32, 0, 2**32 - 1)]
)


@dataclass
class Recorder:
    """An observer of writers and extractors that keeps what it is told."""

    entries: list[Entry] = field(default_factory=list)
    problems: list[tuple[bytes, str]] = field(default_factory=list)
    notes: list[tuple[bytes, str]] = field(default_factory=list)
    done: list[bytes] = field(default_factory=list)
    listings: list[tuple[int, int, list[tuple[bytes, int]]]] = field(default_factory=list)

    def listing(self, node: int, parent: int, names: Iterable[tuple[bytes, int]]) -> None:
        self.listings.append((node, parent, list(names)))

    def entry(self, entry: Entry) -> None:
        self.entries.append(entry)

    def files(self, files: Files) -> None:
        """Keep many."""
        for entry in entries(files):
            self.entry(entry)

    def problem(self, path: bytes, text: str) -> None:
        self.problems.append((path, text))

    def note(self, path: bytes, text: str) -> None:
        self.notes.append((path, text))

    def restored(self, path: bytes) -> None:
        self.done.append(path)


class Problems:
    """An observer of a verification that keeps problems."""

    def __init__(self) -> None:
        self.problems: list[tuple[bytes, str]] = []

    def entry(self, entry: IndexEntry, is_whole: bool, /) -> None:
        """A line of an index."""

    def directory(self, path: bytes, dumpdir: Dumpdir, /) -> None:
        """Not looked at."""

    def unlisted(self, member: Member, /) -> None:
        """A member whose index is lost."""

    def problem(self, path: bytes, text: str, /) -> None:
        self.problems.append((path, text))


@contextlib.contextmanager
def directory(path: Path) -> Iterator[int]:
    """A descriptor of a directory, as owners hold one of a fileset."""
    descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def source_of(data: bytes, piece: int = 1 << 20) -> Callable[[memoryview], int]:
    """A `readinto` that delivers `data` at most `piece` bytes at a time, as a socket may."""
    position = 0

    def readinto(view: memoryview) -> int:
        nonlocal position
        chunk = data[position : position + min(len(view), piece)]
        view[: len(chunk)] = chunk
        position += len(chunk)
        return len(chunk)

    return readinto


def part(root: Path, observer: Recorder | None = None, **fields: object) -> tuple[bytes, PartResult]:
    """One part of an image, as bytes."""
    out = bytearray()
    defaults: dict[str, object] = {"member_prefix": b"/", "job": "job1"}
    with directory(root) as descriptor:
        request = PartRequest(root=descriptor, **(defaults | fields))  # type: ignore[arg-type]
        result = write_part(request, out.extend, observer or Recorder(), lambda: False)
    return bytes(out), result


def image(
    root: Path, observer: Recorder | None = None, version: int = FORMAT, part_version: int | None = None
) -> bytes:
    """A whole image of one part, which may be of another format than the image says."""
    head = global_header("job1", b"/", version=version)
    body, result = part(root, observer, stream_offset=len(head), version=part_version or version)
    summary = PartSummary("fs1", b"/", len(head), result.bytes, result.files)
    at = len(head) + len(body)
    return head + body + trailer("job1", [summary], at, version=version) + END_OF_ARCHIVE


def extract(
    data: bytes,
    root: Path,
    targets: Sequence[tuple[bytes, bytes]] = ((b"/", b""),),
    options: ExtractOptions | None = None,
    observer: Recorder | None = None,
) -> ExtractResult:
    """Restore an image beneath `root`."""
    root.mkdir(exist_ok=True)
    with directory(root) as descriptor:
        places = [Target(source, descriptor, path) for source, path in targets]
        return Extractor(MemberReader(source_of(data)), places, observer or Recorder(), options).run()


def _xattrs(path: bytes) -> dict[str, bytes]:
    return {
        name: os.getxattr(path, name, follow_symlinks=False)
        for name in os.listxattr(path, follow_symlinks=False)
    }


def manifest(root: Path, *, directory_times: bool = True) -> dict[bytes, tuple[object, ...]]:
    """All there is to know of each name beneath `root`, made without the archive code."""
    found: dict[bytes, tuple[object, ...]] = {}
    groups: dict[int, bytes] = {}
    top = os.fsencode(root)
    paths = [top]
    for base, directories, files in os.walk(top):
        paths += [os.path.join(base, name) for name in directories + files]  # noqa: PTH118
    for path in sorted(paths):
        status = os.lstat(path)
        relative = path[len(top) :]
        content: object = None
        holes: object = None
        if stat.S_ISREG(status.st_mode):
            with open(path, "rb") as file:
                content = file.read() if status.st_size < 1 << 24 else file.read(4096)
            holes = status.st_blocks * 512 < status.st_size, status.st_size
        elif stat.S_ISLNK(status.st_mode):
            content = os.readlink(path)  # noqa: PTH115  Path cannot hold bytes
        elif stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
            content = status.st_rdev
        time = status.st_mtime_ns if directory_times or not stat.S_ISDIR(status.st_mode) else 0
        group = None if stat.S_ISDIR(status.st_mode) else groups.setdefault(status.st_ino, relative)
        owner = status.st_uid, status.st_gid
        found[relative] = (oct(status.st_mode), owner, time, holes, content, group, _xattrs(path))
    return found


def try_xattr(path: Path, name: str, value: bytes) -> bool:
    """Set an attribute where this file system and user allow it."""
    try:
        os.setxattr(path, name, value, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.EPERM):
            raise
        return False
    return True


def make_names(root: bytes) -> None:
    """Names that do not fit, are no text, or look like something else."""
    names = [
        b"blank and\nnewline",
        b"\xff\xfenot utf-8",
        b"=%3D%",
        b"-rf",
        b"*?[x]",
        "ü€𝄞".encode(),
        b"l" * 255,
        b"\xe9" * 255,
        b"back\\slash",
    ]
    for name in names:
        with open(os.path.join(root, name), "wb") as file:  # noqa: PTH118
            file.write(name)
    for component in (b"d" * 200, b"\xfd" * 120):
        deep = os.path.join(root, component, component)  # noqa: PTH118
        os.makedirs(deep)  # noqa: PTH103
        with open(os.path.join(deep, b"f" * 99), "wb") as file:  # noqa: PTH118
            file.write(b"deep")
        os.link(os.path.join(deep, b"f" * 99), os.path.join(root, b"link to " + component[:9]))  # noqa: PTH118
        os.symlink(deep, os.path.join(root, b"symlink to " + component[:9]))  # noqa: PTH118, PTH211


def make_tree(root: Path, *, beyond_bsdtar: bool = True, beyond_tar: bool = True) -> None:
    """Everything Linux can put into a tree that this user may make.

    Without `beyond_bsdtar`, what bsdtar 3.6 cannot restore is left out: negative fractions of a second,
    and `=` in the name of an extended attribute.  Without `beyond_tar`, what GNU tar cannot as a plain user:
    attributes of a directory that is read-only.
    """
    root.mkdir()
    make_names(os.fsencode(root))
    (root / "empty").touch()
    (root / "empty directory").mkdir()
    for size in (1, 511, 512, 513, 1024 * 1024 - 700, 3 * 1024 * 1024 + 5):
        (root / f"size {size}").write_bytes(os.urandom(size))
    os.mkfifo(root / "fifo", 0o640)
    (root / "setuid").write_bytes(b"#!")
    (root / "setuid").chmod(0o4755)
    (root / "dangling").symlink_to("/nowhere/at all")
    (root / "linked").write_bytes(b"data")
    (root / "empty directory" / "again").hardlink_to(root / "linked")
    for name, stretches, size in (
        ("holes", [(0, 4096), (1 << 20, 5000)], 1 << 22),
        (SPARSE_NAME, [(8192, 10)], 1 << 20),
        ("hole first", [(1 << 20, 70)], (1 << 20) + 70),
        ("only a hole", [], 12345678),
        ("huge", [(9 << 30, 10)], (9 << 30) + 10),
    ):
        with (root / name).open("wb") as file:
            for start, length in stretches:
                os.pwrite(file.fileno(), os.urandom(length), start)
            file.truncate(size)
    try_xattr(root / "linked", "user.binary", bytes(range(256)))
    try_xattr(root / "linked", "user.a%b", b"")
    if beyond_bsdtar:
        try_xattr(root / "linked", "user.a=b%3D%25", b"")
    try_xattr(root / "empty directory", "user.on a directory", b"\n\0=")
    try_xattr(root / "setuid", "system.posix_acl_access", ACL_ACCESS)
    try_xattr(root / "empty directory", "system.posix_acl_default", ACL_DEFAULT)
    if IS_ROOT:
        make_privileged(root)
    for number, path in enumerate(sorted(root.rglob("*"), reverse=True)):
        os.utime(path, ns=(OLD, OLD + number), follow_symlinks=False)
    if beyond_bsdtar:
        os.utime(root / "empty", ns=(OLD, -1_500_000_001))
    (root / "empty directory").chmod(0o2551 if IS_ROOT or beyond_tar else 0o2751)
    os.utime(root / "empty directory", ns=(OLD, OLD))
    os.utime(root, ns=(OLD, OLD))


def make_privileged(root: Path) -> None:
    """What only root can make."""
    os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(root / "block", stat.S_IFBLK | 0o600, os.makedev(259, 1048575))
    (root / "big ids").write_bytes(b"x")
    os.chown(root / "big ids", 3_000_000_000, 2_097_152)
    os.lchown(root / "dangling", 1234, 2345)
    (root / "capable").write_bytes(b"x")
    os.chown(root / "capable", 1, 1)
    try_xattr(root / "capable", "security.capability", CAPABILITY)
    try_xattr(root / "capable", "trusted.secret", b"\0\xff")
    try_xattr(root / "dangling", "trusted.on a symlink", b"yes")


def make_socket(path: Path) -> None:
    """A socket, which no archive can hold."""
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket has at most 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    finally:
        os.chdir(here)
