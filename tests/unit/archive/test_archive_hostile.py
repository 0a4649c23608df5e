"""Archives that mean harm: nothing beside the target is changed, made, removed or read, and limits hold."""

import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from archive_support import IS_ROOT, Recorder, directory, manifest, source_of, try_xattr
from hostile_corpus import CORPUS, Case, device, member, patched

from appliance.archive.errors import DamagedArchiveError
from appliance.archive.extract import Extractor
from appliance.archive.frame import END_OF_ARCHIVE
from appliance.archive.kinds import kind_of_mode
from appliance.archive.outcome import Existing, ExtractOptions
from appliance.archive.pax import record
from appliance.archive.reader import MemberReader
from appliance.archive.targets import Target
from tests.apart import NOBODY, apart, reachable

INNOCENT = member(b"innocent", b"0", b"fine") + END_OF_ARCHIVE

# The reader's buffer, the longest headers it takes, decoded, and what Python needs for them.
MEMORY_BYTES_MAX = 64 * 1024 * 1024


def make_outside(around: Path) -> None:
    """Things beside the target, and the target.  Nobody has read them since they were made."""
    outside = around / "outside"
    (outside / "directory").mkdir(parents=True)
    (outside / "secret").write_bytes(b"secret")
    (outside / "secret").chmod(0o666)
    (outside / "linked").hardlink_to(outside / "secret")
    (outside / "symlink").symlink_to("secret")
    os.mkfifo(outside / "fifo", 0o666)
    try_xattr(outside / "secret", "user.canary", b"sings")
    outside.chmod(0o777)
    (around / "target").mkdir()


def look(around: Path) -> tuple[dict[bytes, tuple[object, ...]], list[str]]:
    """All there is to know of what is outside, the parent's own names included."""
    return manifest(around / "outside"), sorted(os.listdir(around))  # noqa: PTH208


def forget_reading(around: Path) -> None:
    """Set all times of access to before any other, so that reading changes them (mount(8), relatime)."""
    for path in (around / "outside", *(around / "outside").rglob("*")):
        os.utime(path, ns=(1, path.lstat().st_mtime_ns), follow_symlinks=False)


def reading_times(around: Path) -> dict[Path, int]:
    """When everything outside was read last."""
    paths = [around / "outside" / name for name in ("", "secret", "directory", "symlink", "fifo")]
    return {path: path.lstat().st_atime_ns for path in paths}


def restore(around: Path, data: bytes, options: ExtractOptions, *, at_root: bool) -> Recorder:
    """Restore to the target: the root itself, or a place beneath a root with the canary in it, too."""
    seen = Recorder()
    with directory(around / "target" if at_root else around) as root:
        target = Target(b"/", root, b"" if at_root else b"target")
        Extractor(MemberReader(source_of(data), checking=True), [target], seen, options).run()
    return seen


def found_at(path: Path) -> str | bytes | None:
    """What is at a name: content, or kind."""
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    kind = kind_of_mode(status.st_mode).value
    return path.read_bytes() if kind == "file" else kind


def attack(around: Path, case: Case, options: ExtractOptions, *, at_root: bool) -> None:
    """Restore a case twice, the second time with all of the first in the way, and look around."""
    make_outside(around)
    if case.prepare is not None:
        case.prepare(around / "target")
    before = look(around)
    for _ in range(2):
        forget_reading(around)
        read = reading_times(around)
        try:
            restore(around, case.members + INNOCENT, options, at_root=at_root)
            assert not case.broken, "the damage was not noticed"
        except DamagedArchiveError:
            assert case.broken, "one member's fault ended the restore"
        assert reading_times(around) == read
        assert look(around) == before
        if options == ExtractOptions():
            check(around / "target", case)


def check(target: Path, case: Case) -> None:
    """What must hold in the target itself."""
    for name, wanted in case.leaves.items():
        assert found_at(target / name) == wanted, name
    if not case.broken:
        assert (target / "innocent").read_bytes() == b"fine"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory that other users can reach."""
    with reachable() as path:
        yield path


@pytest.mark.parametrize("at_root", [True, False], ids=["whole fileset", "beneath it"])
@pytest.mark.parametrize("case", CORPUS.values(), ids=CORPUS.keys())
def test_nothing_beside_the_target_is_touched(tmp_path: Path, case: Case, at_root: bool) -> None:
    """Whatever an archive says, only the target changes; an innocent member behind it is restored."""
    if case.root_only and not IS_ROOT:
        pytest.skip("needs root to make devices")
    attack(tmp_path, case, ExtractOptions(), at_root=at_root)


@pytest.mark.parametrize(
    "options",
    [ExtractOptions(Existing.KEEP), ExtractOptions(Existing.NEWER), ExtractOptions(incremental=True)],
    ids=["keep", "newer", "incremental"],
)
def test_nor_under_other_policies(tmp_path: Path, options: ExtractOptions) -> None:
    """Keeping what is there does not follow it; following lists of directories does not leave the target."""
    for number, case in enumerate(CORPUS.values()):
        (tmp_path / str(number)).mkdir()
        attack(tmp_path / str(number), case, options, at_root=False)


def test_nor_by_a_user_without_rights(folder: Path) -> None:
    """The same holds for all of them where the product runs as a plain user."""

    def as_nobody() -> list[str]:
        done = []
        for number, (name, case) in enumerate(CORPUS.items()):
            if not case.root_only and case.prepare is None:
                (folder / str(number)).mkdir()
                attack(folder / str(number), case, ExtractOptions(), at_root=True)
                done.append(name)
        return done

    assert len(apart(as_nobody, user=NOBODY)) > 80


PRIVILEGED = {
    "security.capability": b"\x01\x00\x00\x02\x00\x04\x00\x00" + bytes(12),
    "security.ima": b"x",
    "trusted.overlay.redirect": b"/etc",
}


def test_attributes_that_need_a_right_are_told_without_it(folder: Path) -> None:
    """The file is restored, without them and without rights of another; each is named."""
    records = [record(b"SCHILY.xattr." + name.encode(), value) for name, value in PRIVILEGED.items()]
    records += [record(b"uid", b"0"), record(b"gid", b"0")]
    plain = member(b"f", b"0", b"x", b"", *records)
    header, body = plain[-1024:-512], plain[-512:]
    data = plain[:-1024] + patched(header, 100, b"0006755\0") + body + END_OF_ARCHIVE

    def as_nobody() -> tuple[list[str], list[str], int, int]:
        seen = Recorder()
        with directory(folder) as root:
            Extractor(MemberReader(source_of(data)), [Target(b"/", root, b"")], seen).run()
        status = (folder / "f").stat()
        attributes = [name for name in os.listxattr(folder / "f") if name in PRIVILEGED]
        return [text for _, text in seen.problems], attributes, status.st_uid, status.st_mode & 0o7777

    told, attributes, owner, mode = apart(as_nobody, user=NOBODY)
    assert [text.split(":")[0] for text in told] == [f"attribute {n} cannot be set" for n in PRIVILEGED]
    assert (attributes, owner, mode) == ([], NOBODY, 0o755)


def test_a_link_in_the_place_of_the_target_is_not_followed(tmp_path: Path) -> None:
    """The archive's own root may take the target's name, as a single file does; nothing goes through."""
    make_outside(tmp_path)
    (tmp_path / "target").rmdir()
    before = manifest(tmp_path / "outside")
    data = member(b".", b"2", link=b"outside") + member(b"secret", b"0", b"evil") + END_OF_ARCHIVE
    told = restore(tmp_path, data, ExtractOptions(), at_root=False).problems
    assert [path for path, _ in told] == [b"/secret"]
    assert (tmp_path / "target").readlink() == Path("outside")
    assert manifest(tmp_path / "outside") == before


@pytest.mark.parametrize(
    "name", [name for name in CORPUS if name.startswith(("header", "size", "name", "attr"))]
)
def test_memory_is_bounded(tmp_path: Path, name: str) -> None:
    """No header makes the reader keep more than its limits, however long it claims or happens to be."""
    data = CORPUS[name].members + INNOCENT
    make_outside(tmp_path)
    tracemalloc.start()
    try:
        restore(tmp_path, data, ExtractOptions(), at_root=True)
    except DamagedArchiveError:
        assert CORPUS[name].broken
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < MEMORY_BYTES_MAX


def test_devices_are_made_only_where_that_is_wanted(tmp_path: Path) -> None:
    """With `devices` off an archive full of them leaves nothing, and says how many."""
    if not IS_ROOT:
        pytest.skip("needs root to make devices")
    data = b"".join(device(b"d%d" % n, b"34"[n % 2 : n % 2 + 1], 1, n) for n in range(1000)) + END_OF_ARCHIVE
    make_outside(tmp_path)
    counts: list[Any] = []
    for devices in (False, True):
        with directory(tmp_path / "target") as root:
            extractor = Extractor(
                MemberReader(source_of(data)),
                [Target(b"/", root, b"")],
                Recorder(),
                ExtractOptions(devices=devices),
            )
            counts.append((extractor.run().skipped, len(os.listdir(tmp_path / "target"))))  # noqa: PTH208
    assert counts == [(1000, 0), (0, 1000)]


def test_an_endless_dumpdir_is_not_taken_apart(tmp_path: Path) -> None:
    """A list of more names than a directory may have costs its own length and is told."""
    data = CORPUS["type: a dumpdir of more names than a directory has"].members
    make_outside(tmp_path)
    tracemalloc.start()
    seen = restore(tmp_path, data + INNOCENT, ExtractOptions(incremental=True), at_root=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [path for path, _ in seen.problems] == [b"/d"]
    assert peak < MEMORY_BYTES_MAX
