"""Trees that move while they are read: the stream stays valid, what changed is named, the rest is saved."""

import contextlib
import os
import random
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from archive_support import Problems, Recorder, directory, extract, make_socket, part, source_of

from appliance.archive import writer
from appliance.archive.frame import END_OF_ARCHIVE, PartSummary, global_header, trailer
from appliance.archive.part import Entry, PartRequest, PartResult
from appliance.archive.verify import Verifier
from appliance.archive.writer import write_part
from tests.apart import NOBODY, SkippedError, apart, bind, enter_namespace, mount, reachable

MIB = 1 << 20


@pytest.fixture(autouse=True)
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file is read and told by itself, in Python: a test does something between two of them."""
    monkeypatch.setenv("SPANREEL_QUICK", "0")


class During(Recorder):
    """An observer that does something to the tree once, when a name has gone by."""

    def __init__(self, name: bytes, action: Callable[[], object]) -> None:
        super().__init__()
        self._name = name
        self._action: Callable[[], object] | None = action

    def entry(self, entry: Entry) -> None:
        super().entry(entry)
        if entry.name == self._name and self._action is not None:
            action, self._action = self._action, None
            action()


def save(
    root: Path, seen: Recorder, on_piece: Callable[[int], object] = lambda _: None, start: bytes = b""
) -> bytes:
    """An archive of a part that is valid to everybody.  `on_piece(number)` runs as pieces of it leave."""
    out = bytearray(global_header("job1", b"/"))
    pieces = 0

    def sink(data: bytes | memoryview) -> None:
        nonlocal pieces
        out.extend(data)
        pieces += 1
        on_piece(pieces)

    with directory(root) as descriptor:
        head = len(out)
        request = PartRequest(descriptor, b"/", "job1", start, stream_offset=head)
        result = write_part(request, sink, seen, lambda: False)
    assert result.problems == len(seen.problems)
    summary = PartSummary("fs1", b"/", head, result.bytes, result.files)
    archive = bytes(out) + trailer("job1", [summary], len(out)) + END_OF_ARCHIVE
    check(archive, result)
    return archive


def check(archive: bytes, result: PartResult) -> None:
    """All checksums are right, and GNU tar reads every member without a word."""
    silent = Problems()
    examined = Verifier(source_of(archive), silent, "job1").run()
    assert silent.problems == []
    assert (examined.members, examined.damaged, examined.complete) == (result.files, 0, True)
    if shutil.which("tar") is not None:
        done = subprocess.run(["tar", "-tf", "-"], input=archive, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
        assert len(done.stdout.splitlines()) >= result.files


def fill(path: Path) -> None:
    """A file of three pieces."""
    path.write_bytes(b"a" * (3 * MIB))


def append(path: Path) -> None:
    """Let a file grow."""
    with path.open("ab") as file:
        file.write(b"b" * MIB)


def overwrite(path: Path) -> None:
    """Change a file in place."""
    with path.open("r+b") as file:
        file.write(b"b" * MIB)


def cut(path: Path) -> None:
    """Let a file shrink."""
    os.truncate(path, MIB + 100)


def empty(path: Path) -> None:
    """Let a file shrink to nothing."""
    os.truncate(path, 0)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory that other users can reach."""
    with reachable() as path:
        yield path


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (append, "changed while it was read"),
        (overwrite, "changed while it was read"),
        (cut, r"shrank while it was read; \d+ bytes are saved as zeros"),
        (empty, r"shrank while it was read; \d+ bytes are saved as zeros"),
        (Path.unlink, None),
        (lambda path: path.rename(path.with_name("elsewhere")), None),
    ],
)
def test_a_file_that_changes_in_the_middle(
    tmp_path: Path, change: Callable[[Path], object], told: str | None
) -> None:
    """Exactly the announced bytes are in the stream; a file whose name goes is all there still, and saved."""
    (tmp_path / "in").mkdir()
    fill(tmp_path / "in" / "file")
    (tmp_path / "in" / "z").write_bytes(b"z")
    seen = Recorder()
    archive = save(
        tmp_path / "in", seen, lambda number: change(tmp_path / "in" / "file") if number == 1 else 0
    )
    if told is None:
        assert seen.problems == []
    else:
        assert [path for path, _ in seen.problems] == [b"/file"]
        assert re.fullmatch(told, seen.problems[0][1])
    extract(archive, tmp_path / "out")
    assert (tmp_path / "out" / "file").stat().st_size == 3 * MIB
    assert (tmp_path / "out" / "z").read_bytes() == b"z"


def test_a_sparse_file_that_shrinks_within_a_hole(tmp_path: Path) -> None:
    """No data is missing then, and it is told all the same."""
    file = tmp_path / "file"
    file.write_bytes(b"a" * 5000)
    os.truncate(file, 8 * MIB)
    seen = During(b"file", lambda: os.truncate(file, 4 * MIB))
    save(tmp_path, seen)
    assert seen.problems == [(b"/file", "changed while it was read")]


def test_a_sparse_file_whose_hole_is_filled(tmp_path: Path) -> None:
    """What was a hole when the file was opened stays one, and the change is told."""
    (tmp_path / "in").mkdir()
    file = tmp_path / "in" / "file"
    file.write_bytes(b"a" * 5000)
    os.truncate(file, 8 * MIB)

    def change() -> None:
        with file.open("r+b") as stream:
            stream.seek(4 * MIB)
            stream.write(b"late")

    seen = During(b"file", change)
    archive = save(tmp_path / "in", seen)
    assert seen.problems == [(b"/file", "changed while it was read")]
    extract(archive, tmp_path / "out")
    assert (tmp_path / "out" / "file").stat().st_blocks * 512 < MIB


def make_kind(path: Path, kind: str) -> None:
    """Something of a kind, with something in it if that is possible."""
    if kind == "file":
        path.write_bytes(b"data")
    elif kind == "directory":
        path.mkdir()
        (path / "below").write_bytes(b"below")
    elif kind == "symlink":
        path.symlink_to("/etc")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        make_socket(path)


KINDS = ("file", "directory", "symlink", "fifo", "socket", "nothing")


@pytest.mark.parametrize("after", KINDS)
@pytest.mark.parametrize("before", KINDS[:-1])
def test_a_name_that_becomes_something_else(tmp_path: Path, before: str, after: str) -> None:
    """It is saved as what it is, or named; nothing hangs, nothing is followed, and the rest is saved."""
    make_kind(tmp_path / "m", before)
    (tmp_path / "a").write_bytes(b"first")
    (tmp_path / "z").mkdir()
    (tmp_path / "z" / "last").write_bytes(b"last")

    def change() -> None:
        (shutil.rmtree if before == "directory" else os.unlink)(tmp_path / "m")
        make_kind(tmp_path / "m", after)

    seen = During(b"a", change)
    save(tmp_path, seen)
    paths = [entry.path for entry in seen.entries]
    assert {b"/a", b"/z", b"/z/last"} <= set(paths)
    assert not any(path.startswith(b"/m/") for path in paths) or before == after
    assert not any(b"passwd" in path for path in paths)
    told = [path for path, _ in seen.problems + seen.notes]
    assert (b"/m" in paths) != (b"/m" in told)
    if before == after:
        assert seen.problems == []
    if after == "nothing":
        assert seen.problems == [(b"/m", "vanished before it was read")]


def test_the_words_for_what_became_something_else(tmp_path: Path) -> None:
    """Not those of the system call, which speaks of symbolic links and directories."""
    for before, after in (("file", "symlink"), ("directory", "file"), ("directory", "symlink")):
        root = tmp_path / f"{before} {after}"
        root.mkdir()
        make_kind(root / "m", before)
        (root / "a").write_bytes(b"first")

        def change(path: Path = root / "m", before: str = before, after: str = after) -> None:
            (shutil.rmtree if before == "directory" else os.unlink)(path)
            make_kind(path, after)

        seen = During(b"a", change)
        part(root, seen)
        assert seen.problems == [(b"/m", "changed its type while it was read; not saved")]


def test_a_file_that_opens_and_cannot_be_read(tmp_path: Path) -> None:
    """A real one of the kernel's: its size is announced, zeros are saved, and the log says what was said."""
    root = Path("/sys/class/net/lo")
    if not (root / "speed").exists():
        pytest.skip("no loopback device in /sys")
    seen = Recorder()
    data = save(root, seen, start=b"speed")
    assert seen.problems == [(b"/speed", "cannot be read: Invalid argument; 4096 bytes are saved as zeros")]
    extract(data, tmp_path / "out")
    assert (tmp_path / "out" / "speed").read_bytes() == bytes(4096)


def test_what_a_plain_user_may_not_read_is_named(folder: Path) -> None:
    """Each file and directory, once; what lies beside them is saved."""
    root = folder / "in"
    for name in ("closed", "unlistable", "open"):
        (root / name).mkdir(parents=True)
        (root / name / "f").write_bytes(b"x")
    (root / "secret").write_bytes(b"x")
    (root / "secret").chmod(0)
    (root / "open" / "f").chmod(0o604)
    (root / "closed").chmod(0)
    (root / "unlistable").chmod(0o711)
    root.chmod(0o755)

    def work() -> tuple[list[bytes], list[tuple[bytes, str]]]:
        seen = Recorder()
        save(root, seen)
        return [entry.path for entry in seen.entries], seen.problems

    saved, told = apart(work, user=NOBODY)
    assert saved == [b"/", b"/open", b"/open/f"]
    assert told == [
        (path, "not saved: Permission denied") for path in (b"/secret", b"/closed", b"/unlistable")
    ]


def test_directories_that_move_or_go_while_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those above were closed and are not found again: what is left of them is named, the rest is saved."""
    monkeypatch.setattr(writer, "OPEN_DIRECTORIES_MAX", 2)
    deep = tmp_path / "in" / "a" / "b" / "c" / "d" / "e"
    deep.mkdir(parents=True)
    (deep / "f").write_bytes(b"x")
    for above in (deep.parent, deep.parents[1], deep.parents[2]):
        (above / "z later").mkdir()
    (tmp_path / "in" / "z last").mkdir()
    (tmp_path / "other").mkdir()

    def change() -> None:
        (tmp_path / "in" / "a" / "b" / "c").rename(tmp_path / "other" / "c")
        (tmp_path / "in" / "a" / "b").rename(tmp_path / "other" / "b")

    seen = During(b"f", change)
    save(tmp_path / "in", seen)
    paths = [entry.path for entry in seen.entries]
    assert paths[-1] == b"/z last"
    assert b"/a/b/c/d/e/f" in paths
    assert [text for _, text in seen.problems] == ["moved while it was read; the rest of it is skipped"]


CHANGES: list[Callable[[Path, random.Random], object]] = [
    lambda path, _: path.unlink(),
    lambda path, _: os.truncate(path, 10),
    lambda path, _: append(path),
    lambda path, chance: path.rename(path.with_name(f"renamed {chance.randrange(1000)}")),
    lambda path, _: (path.unlink(), path.symlink_to("/etc/passwd")),
    lambda path, _: (path.unlink(), path.mkdir()),
    lambda path, _: (path.unlink(), os.mkfifo(path)),
    lambda path, _: shutil.rmtree(path.parent),
    lambda path, chance: path.parent.rename(path.parent.with_name(f"moved {chance.randrange(1000)}")),
    lambda path, _: path.chmod(0),
    lambda path, _: path.with_name("new one").write_bytes(b"new"),
    lambda path, _: path.with_name("linked").hardlink_to(path),
]


@pytest.mark.parametrize("seed", range(20))
def test_any_storm_of_changes_leaves_a_valid_stream(tmp_path: Path, seed: int) -> None:
    """Files that nobody touched are in it unchanged, whatever happens around them."""
    chance = random.Random(seed)
    root = tmp_path / "in"
    for number in range(12):
        (root / f"{number}" / "below").mkdir(parents=True)
        for name in ("x", "y", "below/z"):
            (root / f"{number}" / name).write_bytes(bytes([number]) * chance.choice([0, 5, 700, 300_000]))
    quiet = {root / f"{number}" for number in range(0, 12, 2)}
    targets = [path for path in root.rglob("*") if path.is_file() and not quiet & {*path.parents}]

    class Storm(Recorder):
        def entry(self, entry: Entry) -> None:
            super().entry(entry)
            there = [path for path in targets if path.is_file() and not path.is_symlink()]
            if there and chance.random() < 0.6:
                with contextlib.suppress(OSError):  # a change that cannot be made twice
                    chance.choice(CHANGES)(chance.choice(there), chance)

    seen = Storm()
    archive = save(root, seen)
    extract(archive, tmp_path / "out")
    for directory_ in quiet:
        for path in directory_.rglob("*"):
            copy = tmp_path / "out" / path.relative_to(root)
            assert copy.is_dir() if path.is_dir() else copy.read_bytes() == path.read_bytes()
    assert not any(
        path.startswith(tuple(os.fsencode(f"/{q.name}/") for q in quiet)) for path, _ in seen.problems
    )


def test_mount_points_of_every_kind_are_not_crossed(tmp_path: Path) -> None:
    """Another file system, a directory bound from elsewhere or from the very same tree: named, left out."""

    def work() -> tuple[list[bytes], list[tuple[bytes, str]]]:
        enter_namespace()
        root = tmp_path / "in"
        for name in ("mounted", "here", "elsewhere", "junction", "plain"):
            (root / name).mkdir(parents=True)
            (root / name / "f").write_bytes(b"x")
        (root / "bound").mkdir()
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "g").write_bytes(b"x")
        bind(mount("tmpfs", tmp_path), root / "mounted")
        bind(root / "plain", root / "bound")
        bind(tmp_path / "other", root / "elsewhere")
        bind(tmp_path / "other", root / "junction")
        bind(root, root / "here")
        seen = Recorder()
        part(root, seen, skip=frozenset([b"/junction"]))
        return [entry.path for entry in seen.entries], seen.problems

    saved, told = apart(work)
    below = [b"/bound", b"/elsewhere", b"/here", b"/mounted"]
    assert saved == [b"/", *below, b"/plain", b"/plain/f"]
    assert told == [(path, "a mount point or subvolume; what is in it is not saved") for path in below]


def test_a_subvolume_is_named(tmp_path: Path) -> None:
    """One of btrfs looks like a directory, is another file system to snapshots, and is treated so."""

    def work() -> tuple[list[bytes], list[tuple[bytes, str]]]:
        enter_namespace()
        root = mount("btrfs", tmp_path)
        (root / "in").mkdir()
        command = ["btrfs", "subvolume", "create", str(root / "in" / "sub")]
        made = subprocess.run(command, capture_output=True, check=False)
        if made.returncode:
            raise SkippedError("no subvolumes here")
        (root / "in" / "sub" / "f").write_bytes(b"x")
        seen = Recorder()
        part(root / "in", seen)
        return [entry.path for entry in seen.entries], seen.problems

    saved, told = apart(work)
    assert saved == [b"/", b"/sub"]
    assert told == [(b"/sub", "a mount point or subvolume; what is in it is not saved")]


def test_the_start_may_be_a_mount_point(tmp_path: Path) -> None:
    """It was asked for; what is mounted there is what it is."""

    def work() -> list[bytes]:
        enter_namespace()
        (tmp_path / "in" / "d").mkdir(parents=True)
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "f").write_bytes(b"x")
        bind(tmp_path / "other", tmp_path / "in" / "d")
        seen = Recorder()
        part(tmp_path / "in", seen, start=b"d")
        return [entry.path for entry in seen.entries]

    assert apart(work) == [b"/d", b"/d/f"]
