"""Writing parts: history, numbering, selection, and trees that move while they are read."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from archive_support import Recorder, directory, extract, image, make_socket, part, source_of, try_xattr

from appliance.archive import writer
from appliance.archive.errors import SinkError, StartNotFoundError, StoppedError
from appliance.archive.frame import END_OF_ARCHIVE
from appliance.archive.kinds import Kind
from appliance.archive.member import Member
from appliance.archive.part import Entry, PartRequest
from appliance.archive.reader import MemberReader
from appliance.archive.writer import write_directories, write_part


def members(data: bytes, offset: int = 0) -> list[Member]:
    """The members of a part."""
    return [m for m in MemberReader(source_of(data + END_OF_ARCHIVE), offset) if isinstance(m, Member)]


def make_small_tree(root: Path) -> None:
    """A few names in a known order."""
    (root / "b" / "c").mkdir(parents=True)
    (root / "b" / "c" / "x").write_bytes(b"x")
    (root / "a").write_bytes(b"a" * 600)
    (root / "z").hardlink_to(root / "a")
    (root / "junction").mkdir()
    (root / "junction" / "foreign").touch()


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file is read and told by itself, in Python: a test does something between two of them."""
    monkeypatch.setenv("SPANREEL_QUICK", "0")


class During(Recorder):
    """An observer that does something to the tree when a name has gone by."""

    def __init__(self, name: bytes, action: Callable[[], object]) -> None:
        super().__init__()
        self._name = name
        self._action = action

    def entry(self, entry: Entry) -> None:
        super().entry(entry)
        if entry.name == self._name:
            self._action()


def test_entries_say_where_and_what(tmp_path: Path) -> None:
    """History names are relative to the backup root, offsets are of the whole image, nodes one per inode."""
    make_small_tree(tmp_path)
    seen = Recorder()
    data, result = part(
        tmp_path,
        seen,
        member_prefix=b"/projects/p",
        backup_root=b"/projects",
        stream_offset=51200,
        node_base=100,
        parent_node=7,
        skip=frozenset([b"/projects/p/junction"]),
    )
    by_path = {entry.path: entry for entry in seen.entries}
    assert list(by_path) == [b"/p", b"/p/a", b"/p/z", b"/p/b", b"/p/b/c", b"/p/b/c/x"]
    assert [entry.name for entry in seen.entries] == [b"p", b"a", b"z", b"b", b"c", b"x"]
    assert by_path[b"/p"][2:4] == (100, 7)
    assert by_path[b"/p/a"].node == by_path[b"/p/z"].node
    assert by_path[b"/p/a"].offset == by_path[b"/p/z"].offset
    assert by_path[b"/p/b/c/x"].parent == by_path[b"/p/b/c"].node
    nodes = {entry.node for entry in seen.entries}
    assert len(nodes) == 5
    assert nodes <= set(range(100, 100 + result.nodes))
    assert (result.bytes, result.files, result.problems) == (len(data), 6, 0)
    found = {m.name: m for m in members(data, 51200)}
    assert found[b"projects/p/z"].kind is Kind.HARD_LINK
    assert found[b"projects/p/z"].link == b"projects/p/a"
    for member in found.values():
        assert member.image_offset == member.offset
        if member.kind is not Kind.HARD_LINK:
            assert by_path[b"/" + member.name.removeprefix(b"projects/")].offset == member.offset


def test_a_part_can_be_one_file_or_a_directory_below(tmp_path: Path) -> None:
    """`start` selects what is saved; names stay global, and the backup root itself is "/"."""
    make_small_tree(tmp_path)
    for start, root, names in (
        (b"b", b"/p/b", [b"/", b"/c", b"/c/x"]),
        (b"b/c/x", b"/p/b/c/x", [b"/"]),
    ):
        seen = Recorder()
        data, _ = part(tmp_path, seen, member_prefix=b"/p", start=start, backup_root=root)
        assert [entry.path for entry in seen.entries] == names
        assert members(data)[0].name == root[1:]
    assert members(part(tmp_path)[0])[0].name == b""


@pytest.mark.parametrize("start", [b"nothing", b"a/b", b"link/x", b"gone/x"])
def test_a_start_that_is_not_there_is_refused_first(tmp_path: Path, start: bytes) -> None:
    """Nothing is written for a path that does not exist or leads through a file or symbolic link."""
    make_small_tree(tmp_path)
    (tmp_path / "link").symlink_to("b/c")
    with pytest.raises(StartNotFoundError):
        part(tmp_path, start=start)


def test_excluded_names_are_left_out(tmp_path: Path) -> None:
    """EXCLUDE without a slash matches names, with one whole paths from the backup root."""
    make_small_tree(tmp_path)
    seen = Recorder()
    part(tmp_path, seen, member_prefix=b"/p", exclude=(b"junc*,/p/b/c*", b"z"))
    assert [entry.path for entry in seen.entries] == [b"/p", b"/p/a", b"/p/b"]


def test_directories_nobody_owns(tmp_path: Path) -> None:
    """The way to the junctions is written from attributes alone, parents numbered before children."""
    status = os.stat_result((0o40755, 0, 0, 2, 0, 0, 0, 0, 0, 0), {"st_mtime_ns": 5})
    seen = Recorder()
    out = bytearray()
    paths = [(b"/", status), (b"/a", status), (b"/a/b", status)]
    nodes = {b"/": 2, b"/a": 3, b"/a/b": 4, b"/a/b/junction": 5}
    result = write_directories(paths, out.extend, seen, job="j", stream_offset=512, nodes=nodes)
    assert [(e.path, e.node, e.parent) for e in seen.entries] == [
        (b"/", 2, 2),
        (b"/a", 3, 2),
        (b"/a/b", 4, 3),
    ]
    found = members(bytes(out), 512)
    assert [(m.name, m.mode, m.mtime_ns, m.uid) for m in found] == [
        (b"", 0o755, 5, 0),
        (b"a", 0o755, 5, 0),
        (b"a/b", 0o755, 5, 0),
    ]
    assert (result.bytes, result.files, result.nodes) == (len(out), 3, 0)
    assert seen.listings == [
        (2, 2, [(b"a", 3)]),
        (3, 2, [(b"b", 4)]),
        (4, 3, [(b"junction", 5)]),
    ]


@pytest.mark.usefixtures("one_by_one")
def test_a_file_that_shrinks_is_padded(tmp_path: Path) -> None:
    """The stream stays valid: the announced size follows, zeros in place of what is gone."""
    (tmp_path / "in").mkdir()
    file = tmp_path / "in" / "a"
    file.write_bytes(b"a" * 3_000_000)
    (tmp_path / "in" / "b").write_bytes(b"b")
    seen = During(b"a", lambda: os.truncate(file, 2_000_000))
    extract(image(tmp_path / "in", seen), tmp_path / "out")
    assert (tmp_path / "out" / "a").read_bytes() == b"a" * 2_000_000 + bytes(1_000_000)
    assert (tmp_path / "out" / "b").read_bytes() == b"b"
    assert seen.problems == [(b"/a", "shrank while it was read; 1000000 bytes are saved as zeros")]


@pytest.mark.usefixtures("one_by_one")
def test_a_file_that_grows_is_cut(tmp_path: Path) -> None:
    """What is appended meanwhile is not saved, and the change is told."""
    (tmp_path / "in").mkdir()
    file = tmp_path / "in" / "a"
    file.write_bytes(b"a" * 1000)
    seen = During(b"a", lambda: file.write_bytes(b"a" * 1000 + b"more"))
    extract(image(tmp_path / "in", seen), tmp_path / "out")
    assert (tmp_path / "out" / "a").read_bytes() == b"a" * 1000
    assert seen.problems == [(b"/a", "changed while it was read")]


@pytest.mark.usefixtures("one_by_one")
def test_names_that_vanish_or_change_are_told(tmp_path: Path) -> None:
    """A file gone since its directory was listed, and one that became a FIFO, do not end or hang the job."""
    for name in ("a", "b", "c", "d"):
        (tmp_path / name).write_bytes(b"1")
    (tmp_path / "e").mkdir()

    def change() -> None:
        (tmp_path / "b").unlink()
        (tmp_path / "c").unlink()
        os.mkfifo(tmp_path / "c")
        (tmp_path / "e").rmdir()

    seen = During(b"a", change)
    data, result = part(tmp_path, seen)
    assert [m.name for m in members(data)] == [b"", b"a", b"d"]
    assert [path for path, _ in seen.problems] == [b"/b", b"/c", b"/e"]
    assert result.problems == 3


def test_sockets_are_told_and_left_out(tmp_path: Path) -> None:
    """No archive holds a socket; the log says so, and the job is none with problems for it."""
    make_socket(tmp_path / "s")
    seen = Recorder()
    data, result = part(tmp_path, seen)
    assert (seen.notes, seen.problems, result.problems) == ([(b"/s", "a socket; not saved")], [], 0)
    assert len(members(data)) == 1


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="no /proc")
def test_mount_points_are_not_crossed() -> None:
    """What is mounted below is another file system: its directory is saved, its content is not, as told."""
    if os.lstat("/dev").st_dev == os.lstat("/dev/shm").st_dev:
        pytest.skip("/dev/shm is no mount point here")
    seen = Recorder()
    part(Path("/dev"), seen, files=(b"shm",))
    assert [entry.path for entry in seen.entries] == [b"/", b"/shm"]
    assert seen.problems == [(b"/shm", "a mount point or subvolume; what is in it is not saved")]


def test_deeper_than_descriptors_and_path_max(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tree deeper than PATH_MAX and than the open directories allowed is saved and restored whole."""
    monkeypatch.setattr(writer, "OPEN_DIRECTORIES_MAX", 5)
    (tmp_path / "in").mkdir()
    current = os.open(tmp_path / "in", os.O_DIRECTORY)
    for level in range(50):
        for name in (b"0 before", b"z after"):
            os.mkdir(name, dir_fd=current)
        os.mkdir(b"d" * 100, dir_fd=current)
        below = os.open(b"d" * 100, os.O_DIRECTORY, dir_fd=current)
        os.close(os.open(b"%d" % level, os.O_CREAT | os.O_WRONLY, dir_fd=below))
        os.close(current)
        current = below
    os.close(current)
    seen = Recorder()
    result = extract(image(tmp_path / "in", seen), tmp_path / "out")
    assert (seen.problems, result.problems) == ([], [])
    again = Recorder()
    image(tmp_path / "out", again)
    assert [e.path for e in again.entries] == [e.path for e in seen.entries]
    assert len(seen.entries) == 1 + 50 * 4


def test_more_than_a_reader_takes_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths and attributes beyond the reader's limits are left out and named; the rest is saved."""
    monkeypatch.setattr(writer, "PATH_BYTES_MAX", 2)
    monkeypatch.setattr(writer, "ATTRIBUTES_BYTES_MAX", 30)
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "f").touch()
    rich = try_xattr(tmp_path / "f", "user.long", b"x" * 30) and try_xattr(tmp_path, "user.long", b"x" * 30)
    seen = Recorder()
    data, _ = part(tmp_path, seen)
    assert [m.name for m in members(data)] == [b"", b"f", b"d"]
    assert [path for path, _ in seen.problems] == ([b"/", b"/f"] if rich else []) + [b"/d/e"]


def test_stop_ends_the_part(tmp_path: Path) -> None:
    """`stop` is obeyed within one member."""
    make_small_tree(tmp_path)
    seen = Recorder()
    with directory(tmp_path) as root, pytest.raises(StoppedError):
        write_part(PartRequest(root, b"/", "j"), bytearray().extend, seen, lambda: len(seen.entries) >= 2)
    assert len(seen.entries) == 2


def test_a_failing_sink_is_not_a_bad_file(tmp_path: Path) -> None:
    """A lost connection ends the part with the sink's own error; no file is blamed."""
    (tmp_path / "a").write_bytes(bytes(3_000_000))
    lost = ConnectionResetError("gone")

    def sink(_: object) -> None:
        raise lost

    seen = Recorder()
    with directory(tmp_path) as root, pytest.raises(SinkError) as caught:
        write_part(PartRequest(root, b"/", "j"), sink, seen, lambda: False)
    assert caught.value.error is lost
    assert seen.problems == []


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    """Whether a part ends well or not, descriptors do not leak."""
    make_small_tree(tmp_path)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    part(tmp_path)
    for stop_at in range(1, 8):
        seen = Recorder()
        with directory(tmp_path) as root, pytest.raises(StoppedError):
            write_part(
                PartRequest(root, b"/", "j"),
                bytearray().extend,
                seen,
                lambda: len(seen.entries) >= stop_at,  # noqa: B023
            )
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
