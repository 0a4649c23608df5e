"""Everything that Linux can put into a tree, on its file systems, by root and a plain user, there and back.

What came back is judged by the harness's manifests, which share nothing with the archive code; what GNU tar
and bsdtar may differ in, or say, is the table of docs/tape-format.md and nothing else.
"""

import base64
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import limits_tree
import pytest
from archive_support import IS_ROOT, Recorder, extract, image

from harness.compare import Difference, compare
from harness.guest import manifest as guest_manifest
from harness.manifest import Manifest
from tests.apart import NOBODY, SkippedError, apart, become, enter_namespace, mount, reachable

ROOT = Path(__file__).resolve().parents[3]
UTF8 = os.environ | {"LC_ALL": "C.UTF-8"}
PROGRAMS = {
    "GNU tar": ["tar", "-xpf", "-", "--acls", "--xattrs", "--xattrs-include=*", "--numeric-owner"],
    "bsdtar": ["bsdtar", "-xpf", "-", "--acls", "--xattrs", "--numeric-owner"],
}


@dataclass(frozen=True)
class Limit:
    """A row of the table: what a program says of it, and where and in which field it makes a difference."""

    program: str
    what: str
    says: str | None = None
    path: str | None = None
    fields: frozenset[str] = frozenset()
    at_hand: bool = True  # in the tree of everything; the others have a test of their own

    def explains(self, difference: Difference) -> bool:
        """Whether a difference is because of this."""
        return difference.path == self.path and difference.field in self.fields

    def expects(self, line: str) -> bool:
        """Whether a line is said because of this."""
        return self.says is not None and re.search(self.says, line) is not None


LIMITS = (
    Limit("GNU tar", "times before 1970", r"^tar: times/negative\S*: implausibly old time stamp"),
    Limit("GNU tar", "times in the future", r"^tar: times/beyond\S*: time stamp .* in the future$"),
    Limit("GNU tar", "names beyond PATH_MAX", at_hand=False),
    Limit("GNU tar", "as a plain user: extended attributes of what its mode makes read-only", at_hand=False),
    Limit("bsdtar", "mtime of the top directory `./`", path="/", fields=frozenset({"mtime_ns"})),
    Limit(
        "bsdtar",
        "`=` in the name of an extended attribute",
        path="/xattrs/file",
        fields=frozenset({"xattrs"}),
    ),
    Limit(
        "bsdtar",
        "negative fractions of a second",
        path="/times/negative-fraction",
        fields=frozenset({"mtime_ns"}),
    ),
    Limit("bsdtar", "pax headers over 1 MiB", at_hand=False),
    Limit(
        "bsdtar",
        "beyond PATH_MAX: hard links, owners of directories, times of symbolic links",
        at_hand=False,
    ),
)


class Result(NamedTuple):
    """What one program made of an image: exit code, lines, differences."""

    code: int
    said: list[str]
    differences: list[Difference]


class Trip(NamedTuple):
    """One tree of everything, there and back."""

    names: int
    left_out: dict[str, str]
    told: list[tuple[bytes, str]]
    ours: Result
    theirs: dict[str, Result]


def take(root: Path) -> Manifest:
    """All metadata and data of a tree."""
    entries = guest_manifest.main({"roots": [{"global": "/", "local": str(root), "skip": []}]})
    return {base64.b64decode(entry["path_base64"]): entry for entry in entries}


def by(command: list[str], data: bytes, where: Path, wanted: Manifest) -> Result:
    """Extract with a foreign program."""
    where.mkdir()
    done = subprocess.run(command, input=data, cwd=where, env=UTF8, capture_output=True, check=False)
    said = done.stderr.decode("utf-8", "backslashreplace").splitlines()
    return Result(done.returncode, said, list(compare(wanted, take(where)).differences))


def go(kind: str, user: int | None, folder: Path) -> Trip:
    """Make a file system and all that fits into it as `user`; save and restore it."""
    enter_namespace()
    root = mount(kind, folder)
    os.umask(0o022)
    if user is not None:
        os.chown(root, user, user)
        become(user)
    left_out = limits_tree.make(bytes(root / "in"))
    seen = Recorder()
    data = image(root / "in", seen)
    wanted = take(root / "in")
    result = extract(data, root / "out", observer=seen)
    ours = Result(result.skipped, [], list(compare(wanted, take(root / "out")).differences))
    theirs = {
        name: by(command, data, root / name, wanted)
        for name, command in PROGRAMS.items()
        if shutil.which(command[0])
    }
    return Trip(len(wanted), left_out, seen.problems + seen.notes, ours, theirs)


@pytest.fixture(scope="module", params=["ext4", "xfs", "btrfs"])
def kind(request: pytest.FixtureRequest) -> str:
    """A file system that file servers have."""
    return str(request.param)


@pytest.fixture(scope="module", params=[None, NOBODY], ids=["root", "plain user"])
def user(request: pytest.FixtureRequest) -> int | None:
    """Who saves and restores."""
    return None if request.param is None else int(request.param)


@pytest.fixture(scope="module")
def trip(kind: str, user: int | None) -> Trip:
    """A tree of everything on this file system by this user, there and back."""
    with reachable() as folder:
        made = apart(lambda: go(kind, user, folder))
    assert isinstance(made, Trip)
    return made


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory that other users can reach."""
    with reachable() as path:
        yield path


def test_the_tree_has_everything(trip: Trip, kind: str, user: int | None) -> None:
    """What was left out is what this user may not make, or this file system does not hold; nothing else."""
    allowed = set() if user is None else set(limits_tree.NEEDS_ROOT)
    if kind == "xfs":  # XFS_SYMLINK_MAXLEN is 1024
        allowed |= {"long_symbolic_link", "longest_symlink"}
    assert set(trip.left_out) == allowed
    assert trip.names > 1000


def test_everything_comes_back(trip: Trip) -> None:
    """By our own restore there is no difference, and not a word."""
    assert trip.ours == Result(0, [], [])
    assert trip.told == []


@pytest.mark.parametrize("program", PROGRAMS)
def test_everything_comes_back_by_others(trip: Trip, program: str) -> None:
    """By GNU tar and by bsdtar there are the differences and lines of the table, all of them, no others."""
    if program not in trip.theirs:
        pytest.skip(f"{program} is not installed")
    result = trip.theirs[program]
    limits = [limit for limit in LIMITS if limit.program == program and limit.at_hand]
    assert result.code == 0
    unexplained = [str(one) for one in result.differences if not any(li.explains(one) for li in limits)]
    unexpected = [line for line in result.said if not any(li.expects(line) for li in limits)]
    assert (unexplained, unexpected) == ([], [])
    for limit in limits:
        happened = any(map(limit.explains, result.differences)) or any(map(limit.expects, result.said))
        assert happened, f"{program} can do this by now: {limit.what}"


def test_the_table_is_in_the_documentation() -> None:
    """docs/tape-format.md lists what the tests found of these two programs, row by row."""
    text = (ROOT / "docs" / "tape-format.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (GNU tar|bsdtar) \| ([^|]+) \|", text, re.M)
    assert sorted(rows) == sorted((limit.program, limit.what) for limit in LIMITS)


def deep_manifest(root: Path) -> dict[bytes, tuple[object, ...]]:
    """Of names at any depth: by descriptors, where the manifest's paths would be too long."""
    found: dict[bytes, tuple[object, ...]] = {}
    start = len(bytes(root))
    for base, directories, files, descriptor in os.fwalk(bytes(root)):
        for name in [*directories, *files]:
            status = os.lstat(name, dir_fd=descriptor)
            where = f"/proc/self/fd/{descriptor}/{os.fsdecode(name)}"
            content: object = None
            if stat.S_ISREG(status.st_mode):
                with open(where, "rb") as file:
                    content = file.read()
            elif stat.S_ISLNK(status.st_mode):
                content = os.readlink(name, dir_fd=descriptor)
            attributes = {n: os.getxattr(where, n) for n in os.listxattr(where)} if content is None else None
            times = None if stat.S_ISLNK(status.st_mode) else status.st_mtime_ns
            found[base[start:] + b"/" + name] = (status.st_mode, status.st_nlink, times, content, attributes)
    return found


def make_deep(root: Path) -> None:
    """Thirty directories of 200 bytes, each with a file, a symbolic link, and a name of the topmost file."""
    root.mkdir()
    (root / "top").write_bytes(b"top")
    current = os.open(root, os.O_DIRECTORY)
    top = current
    for level in range(30):
        name = (b"%03d" % level) * 66
        os.mkdir(name, dir_fd=current)
        current = os.open(name, os.O_DIRECTORY, dir_fd=current)
        with os.fdopen(os.open(b"file", os.O_CREAT | os.O_WRONLY, dir_fd=current), "wb") as file:
            file.write(b"x" * level)
        os.symlink(b"target %d" % level, b"symlink", dir_fd=current)
        os.link(b"top", b"link", src_dir_fd=top, dst_dir_fd=current)
        os.utime(current, ns=(level, level + 7))


def test_names_beyond_path_max(tmp_path: Path) -> None:
    """They come back by our restore, links, times and all.  GNU tar stops at PATH_MAX, and names each.

    bsdtar goes on, but for hard links, which it names, and some attributes.
    """
    make_deep(tmp_path / "in")
    seen = Recorder()
    data = image(tmp_path / "in", seen)
    assert extract(data, tmp_path / "out", observer=seen).problems == []
    assert seen.problems == []
    wanted = deep_manifest(tmp_path / "in")
    assert max(map(len, wanted)) > 5000
    assert deep_manifest(tmp_path / "out") == wanted
    for program, command in PROGRAMS.items():
        if shutil.which(command[0]) is None:
            continue
        where = tmp_path / program
        where.mkdir()
        done = subprocess.run(command, input=data, cwd=where, env=UTF8, capture_output=True, check=False)
        missing = wanted.keys() - deep_manifest(where).keys()
        beyond = {path for path in wanted if len(path) > os.pathconf("/", "PC_PATH_MAX") - 1}
        if program == "GNU tar":
            assert missing == beyond
            assert done.stderr.count(b"File name too long") == len(missing)
        else:
            assert missing == {path for path in beyond if path.endswith(b"/link")}
            lines = {line.partition(b": ")[0] for line in done.stderr.splitlines()}
            assert {path[1:] for path in missing} < lines


def test_more_attributes_than_bsdtar_takes(folder: Path) -> None:
    """More than 1 MiB of them on one inode come back by us and by GNU tar; bsdtar stops there."""

    def work() -> tuple[Result, dict[str, Result]]:
        enter_namespace()
        root = mount("xfs", folder)
        (root / "in").mkdir()
        for name in ("a", "b"):
            (root / "in" / name).write_bytes(b"x")
        for number in range(20):
            os.setxattr(root / "in" / "a", f"user.{number}", os.urandom(65536))
        data, wanted = image(root / "in"), take(root / "in")
        problems = [text for _, text in extract(data, root / "out").problems]
        ours = Result(0, problems, list(compare(wanted, take(root / "out")).differences))
        return ours, {
            name: by(command, data, root / name, wanted)
            for name, command in PROGRAMS.items()
            if shutil.which(command[0])
        }

    ours, theirs = apart(work)
    assert ours == Result(0, [], [])
    if "GNU tar" in theirs:
        assert theirs["GNU tar"] == Result(0, [], [])
    if "bsdtar" in theirs:
        assert "bsdtar: Special header too large" in theirs["bsdtar"].said
        assert [one.path for one in theirs["bsdtar"].differences if one.field == "name"] == ["/a", "/b"]


def test_attributes_of_read_only_files_as_a_plain_user(folder: Path) -> None:
    """They come back by our restore and by bsdtar.  GNU tar loses them, and what is in the file."""

    def work() -> tuple[Result, dict[str, Result]]:
        (folder / "in" / "d").mkdir(parents=True)
        (folder / "in" / "f").write_bytes(b"x")
        for name, mode in (("d", 0o555), ("f", 0o444)):
            try:
                os.setxattr(folder / "in" / name, "user.x", b"y")
            except OSError as error:
                raise SkippedError(f"no attributes here: {error.strerror}") from error
            (folder / "in" / name).chmod(mode)
        os.utime(folder / "in", ns=(1, 1_500_000_000_000_000_000))
        data, wanted = image(folder / "in"), take(folder / "in")
        problems = [text for _, text in extract(data, folder / "out").problems]
        ours = Result(0, problems, list(compare(wanted, take(folder / "out")).differences))
        return ours, {
            name: by(command, data, folder / name, wanted)
            for name, command in PROGRAMS.items()
            if shutil.which(command[0])
        }

    ours, theirs = apart(work, user=NOBODY if IS_ROOT else None)
    assert ours == Result(0, [], [])
    if "GNU tar" in theirs:
        lost = {(one.path, one.field) for one in theirs["GNU tar"].differences}
        assert {("/d", "xattrs"), ("/f", "xattrs"), ("/f", "sha256")} <= lost
    if "bsdtar" in theirs:
        assert [(one.path, one.field) for one in theirs["bsdtar"].differences] == [("/", "mtime_ns")]
