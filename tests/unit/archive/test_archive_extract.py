"""Restoring: where things go, what is there already, and archives that mean harm."""

import errno
import os
from pathlib import Path

import pytest
from archive_support import (
    ACL_DEFAULT,
    IS_ROOT,
    Recorder,
    directory,
    extract,
    image,
    manifest,
    part,
    source_of,
    try_xattr,
)
from flags_support import IMMUTABLE, flagged
from hostile_corpus import member

from appliance.archive.errors import TruncatedArchiveError
from appliance.archive.extract import Extractor
from appliance.archive.frame import END_OF_ARCHIVE, global_header
from appliance.archive.outcome import Existing, ExtractOptions
from appliance.archive.pax import record
from appliance.archive.reader import MemberReader
from appliance.archive.targets import Target


@pytest.fixture
def around(tmp_path: Path) -> Path:
    """A directory with a target in it, and things outside the target that must not change."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"secret")
    (tmp_path / "target").mkdir()
    return tmp_path


def outside(around: Path) -> dict[bytes, tuple[object, ...]]:
    """All there is to know of what is outside, the parent's names included."""
    return manifest(around / "outside") | {b"names": tuple(sorted(os.listdir(around)))}  # noqa: PTH208


def test_an_absolute_name_lands_beneath_the_target(around: Path) -> None:
    """A leading slash means nothing."""
    extract(member(b"/outside/x", b"0", b"data") + END_OF_ARCHIVE, around / "target")
    assert (around / "target" / "outside" / "x").read_bytes() == b"data"


BROKEN = {
    "uid": record(b"uid", b"99999999999"),
    "uid of -1": record(b"uid", b"4294967295"),
    "mtime": record(b"mtime", b"1e9"),
    "mtime too large": record(b"mtime", b"99999999999999999999"),
    "acl": record(b"SCHILY.acl.access", b"user:joe:rwx"),
    "sparse map": record(b"GNU.sparse.major", b"1")
    + record(b"GNU.sparse.minor", b"0")
    + record(b"GNU.sparse.realsize", b"10"),
    "component too long": record(b"path", b"n" * 300),
}


@pytest.mark.parametrize("records", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_member_costs_only_itself(around: Path, records: bytes) -> None:
    """Numbers, times, ACLs and maps that lie are a problem of their member; nothing half-made is left."""
    seen = Recorder()
    data = member(b"bad", b"0", b"x" * 600, b"", records) + member(b"good", b"0", b"fine") + END_OF_ARCHIVE
    result = extract(data, around / "target", observer=seen)
    assert result.problem_count == len(seen.problems) == 1
    assert result.sources[0].problems == 1
    assert os.listdir(around / "target") == ["good"]  # noqa: PTH208


@pytest.mark.skipif(not IS_ROOT, reason="needs root to make a device")
def test_an_existing_fifo_or_device_is_never_written_to(around: Path) -> None:
    """What is in a file's way is removed, not opened: a FIFO would hang, a device would be overwritten."""
    os.mkfifo(around / "target" / "fifo")
    os.mknod(around / "target" / "device", 0o20666, os.makedev(1, 3))
    extract(member(b"fifo", b"0", b"a") + member(b"device", b"0", b"b") + END_OF_ARCHIVE, around / "target")
    assert (around / "target" / "fifo").read_bytes() == b"a"
    assert (around / "target" / "device").read_bytes() == b"b"


def test_devices_can_be_refused(around: Path) -> None:
    """An image from a stranger need not make devices."""
    options = ExtractOptions(devices=False)
    result = extract(member(b"d", b"3") + END_OF_ARCHIVE, around / "target", options=options)
    assert (result.skipped, os.listdir(around / "target")) == (1, [])  # noqa: PTH208


@pytest.mark.parametrize(
    ("existing", "old_wins", "new_wins"),
    [(Existing.OVERWRITE, b"new", b"new"), (Existing.KEEP, b"old", b"old"), (Existing.NEWER, b"old", b"new")],
)
def test_what_is_there_already(around: Path, existing: Existing, old_wins: bytes, new_wins: bytes) -> None:
    """Files are replaced, kept, or replaced where the archive's are newer; other names of them stay."""
    target = around / "target"
    for name, time in (("younger", 2_000_000_000), ("older", 500_000_000)):
        (target / name).write_bytes(b"old")
        (around / f"other name of {name}").hardlink_to(target / name)
        os.utime(target / name, (time, time))
    data = member(b"younger", b"0", b"new") + member(b"older", b"0", b"new") + END_OF_ARCHIVE
    result = extract(data, target, options=ExtractOptions(existing))
    assert (target / "younger").read_bytes() == old_wins
    assert (target / "older").read_bytes() == new_wins
    assert (around / "other name of older").read_bytes() == b"old"
    assert result.kept == [old_wins, new_wins].count(b"old")
    assert result.problems == []


def test_kept_directories_keep_their_attributes(around: Path) -> None:
    """With `keep`, a directory that is there is filled but not changed; a symbolic link is not entered."""
    target = around / "target"
    (target / "d").mkdir(mode=0o750)
    (target / "l").symlink_to("../outside")
    data = (
        member(b"d/", b"5") + member(b"d/f", b"0", b"f") + member(b"l/secret", b"0", b"evil") + END_OF_ARCHIVE
    )
    before = outside(around)
    result = extract(data, target, options=ExtractOptions(Existing.KEEP))
    assert (target / "d").stat().st_mode & 0o777 == 0o750
    assert (target / "d" / "f").read_bytes() == b"f"
    assert (target / "l").is_symlink()
    assert [path for path, _ in result.problems] == [b"/l/secret"]
    assert outside(around) == before


def test_a_link_that_cannot_be_made_costs_nothing(around: Path) -> None:
    """What has the name of a hard link stays if the link's file is not there, or is itself."""
    (around / "target" / "l").write_bytes(b"old")
    data = member(b"l", b"1", link=b"missing") + member(b"l", b"1", link=b"./l") + END_OF_ARCHIVE
    result = extract(data, around / "target")
    assert result.problem_count == 2
    assert (around / "target" / "l").read_bytes() == b"old"


def test_an_immutable_file_in_the_way_is_told_as_what_it_is(around: Path) -> None:
    """It stays, and the words are those of the refusal."""
    (around / "target" / "f").write_bytes(b"old")
    (around / "target" / "d").mkdir()
    with flagged(around / "target" / "f", IMMUTABLE), flagged(around / "target" / "d", IMMUTABLE):
        data = member(b"f", b"0", b"new") + member(b"d/g", b"0", b"new") + END_OF_ARCHIVE
        result = extract(data, around / "target")
    told = "not restored: Operation not permitted"
    assert result.problems == [(b"/f", told), (b"/d/g", told)]
    assert (around / "target" / "f").read_bytes() == b"old"


def test_a_full_directory_in_a_files_way_stays(around: Path) -> None:
    """A tree is never removed for the sake of one file."""
    (around / "target" / "d" / "e").mkdir(parents=True)
    result = extract(member(b"d", b"0", b"x") + END_OF_ARCHIVE, around / "target")
    assert result.problem_count == 1
    assert (around / "target" / "d" / "e").is_dir()


def make_projects(root: Path) -> bytes:
    """An image of /projects with two directories, as a backup of that global path."""
    (root / "a").mkdir(parents=True)
    (root / "ab").mkdir()
    (root / "a" / "f").write_bytes(b"in a")
    (root / "a" / "g").hardlink_to(root / "a" / "f")
    (root / "ab" / "f").write_bytes(b"in ab")
    (root / "ab" / "far").hardlink_to(root / "a" / "f")
    head = global_header("job1", b"/projects")
    fields: dict[str, object] = {"member_prefix": b"/projects", "backup_root": b"/projects"}
    return head + part(root, stream_offset=len(head), **fields)[0] + END_OF_ARCHIVE


def test_targets_match_whole_components_and_the_longest_wins(tmp_path: Path) -> None:
    """Sources are relative to the image's own root; /a is not /ab; one source may go to two places."""
    data = make_projects(tmp_path / "in")
    result = extract(data, tmp_path / "out", [(b"/a", b"x/y"), (b"/a", b"copy"), (b"/a/f", b"single/name")])
    out = tmp_path / "out"
    found = sorted(str(p.relative_to(out)) for p in out.rglob("*") if not p.is_dir())
    assert found == ["copy/g", "single/name", "x/y/g"]
    assert (out / "single" / "name").read_bytes() == b"in a"
    assert result.sources[2].members == 1
    assert [s.members for s in result.sources[:2]] == [2, 2]
    assert not (out / "ab").exists()


def test_one_source_to_two_places(tmp_path: Path) -> None:
    """Data that comes by once is written to each of its places, links within each included."""
    data = make_projects(tmp_path / "in")
    result = extract(data, tmp_path / "out", [(b"/a", b"one"), (b"/a", b"two")])
    assert result.problems == []
    assert manifest(tmp_path / "out" / "one") == manifest(tmp_path / "out" / "two")
    assert (tmp_path / "out" / "two" / "g").samefile(tmp_path / "out" / "two" / "f")
    assert not (tmp_path / "out" / "two" / "g").samefile(tmp_path / "out" / "one" / "f")


def test_a_name_whose_data_is_elsewhere_is_told_and_can_be_had(tmp_path: Path) -> None:
    """A link to what is not restored is a problem that names it; its fh_info as target brings the data."""
    seen = Recorder()
    data = make_projects(tmp_path / "in")
    result = extract(data, tmp_path / "lost", [(b"/ab", b"")])
    assert result.lost_links == [b"/ab/far"]
    assert result.problem_count == 1
    head = len(global_header("job1", b"/projects"))
    part(tmp_path / "in", seen, stream_offset=head, member_prefix=b"/projects", backup_root=b"/projects")
    offset = next(e.offset for e in seen.entries if e.path == b"/ab/far")
    (tmp_path / "had").mkdir()
    with directory(tmp_path / "had") as root:
        target = Target(b"/ab/far", root, b"far", image_offset=offset)
        result = Extractor(MemberReader(source_of(data)), [target], Recorder()).run()
    assert (result.problems, result.files) == ([], 1)
    assert (tmp_path / "had" / "far").read_bytes() == b"in a"


def test_odd_spellings_of_a_name_are_one_name(around: Path) -> None:
    """Dots, doubled and trailing slashes do not make another place, nor a problem."""
    names = (b"./a/./b", b"a//b", b"/a/b")
    data = b"".join(member(name, b"0", name) for name in names) + member(b"a/.", b"5") + END_OF_ARCHIVE
    result = extract(data, around / "target", [(b"//a/.", b"./here/")])
    assert result.problems == []
    assert (around / "target" / "here" / "b").read_bytes() == b"/a/b"
    assert (around / "target" / "here").stat().st_mtime == 1_000_000_000


def test_symbolic_links_on_the_way_to_a_target_are_refused(around: Path) -> None:
    """The path of a target belongs to whoever named it: nothing on it is followed or replaced."""
    (around / "target" / "way").symlink_to("../outside")
    before = outside(around)
    result = extract(member(b"f", b"0", b"x") + END_OF_ARCHIVE, around / "target", [(b"/", b"way/in")])
    assert result.problem_count == 1
    assert (around / "target" / "way").is_symlink()
    assert outside(around) == before


def test_default_acls_of_the_target_are_not_handed_down(around: Path) -> None:
    """What is restored has the ACLs it had, not those of the directory it comes to."""
    if not try_xattr(around / "target", "system.posix_acl_default", ACL_DEFAULT):
        pytest.skip("no ACLs on this file system")
    extract(member(b"f", b"0", b"x") + member(b"d", b"5") + END_OF_ARCHIVE, around / "target")
    assert os.listxattr(around / "target" / "f") == []
    assert os.listxattr(around / "target" / "d") == []


def test_a_full_disk_is_told_and_the_rest_goes_on(around: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No space for one file: it is removed, named with a clear text, and what fits is restored."""
    true_pwrite = os.pwrite

    def pwrite(descriptor: int, data: memoryview, position: int) -> int:
        if position + len(data) > 1000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return true_pwrite(descriptor, data, position)

    monkeypatch.setattr(os, "pwrite", pwrite)
    data = member(b"big", b"0", b"x" * 5000) + member(b"small", b"0", b"s") + END_OF_ARCHIVE
    result = extract(data, around / "target")
    assert result.problems == [(b"/big", "not restored: no space left on the target")]
    assert os.listdir(around / "target") == ["small"]  # noqa: PTH208


def test_a_truncated_stream_leaves_no_half_file(tmp_path: Path) -> None:
    """What came whole stays, directories get their attributes, the file that was cut off is gone."""
    source = tmp_path / "in"
    (source / "d").mkdir(parents=True, mode=0o711)
    (source / "a").write_bytes(b"whole")
    (source / "d" / "b").write_bytes(b"b" * 3_000_000)
    os.utime(source / "d", (5, 5))
    with pytest.raises(TruncatedArchiveError):
        extract(image(source)[:-1_000_000], tmp_path / "out")
    assert (tmp_path / "out" / "a").read_bytes() == b"whole"
    assert not (tmp_path / "out" / "d" / "b").exists()
    assert (tmp_path / "out" / "d").stat().st_mtime == 5


def test_many_directories_do_not_stay_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a bound the waiting attributes go to a file, and still arrive."""
    monkeypatch.setattr("appliance.archive.later._MEMORY_BYTES", 100)
    for number in range(30):
        (tmp_path / "in" / f"{number}" / "x").mkdir(parents=True, mode=0o750)
        os.utime(tmp_path / "in" / f"{number}", (number, number))
    extract(image(tmp_path / "in"), tmp_path / "out")
    assert manifest(tmp_path / "out") == manifest(tmp_path / "in")


def test_no_descriptor_is_left_open_after_a_restore(tmp_path: Path) -> None:
    """Whether a restore ends well or not, descriptors do not leak."""
    data = make_projects(tmp_path / "in")
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    extract(data, tmp_path / "out")
    with pytest.raises(TruncatedArchiveError):
        extract(data[:-512], tmp_path / "out")
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_many_targets_need_few_descriptors(tmp_path: Path) -> None:
    """An nlist may be longer than a process may have files open."""
    names = [b"d%04d/f" % number for number in range(3000)]
    data = b"".join(member(name, b"0", b"x") for name in names) + END_OF_ARCHIVE
    most = 0

    class Counting(Recorder):
        def restored(self, path: bytes, /) -> None:
            nonlocal most
            most = max(most, len(os.listdir("/proc/self/fd")))  # noqa: PTH208

    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with directory(tmp_path) as root:
        targets = [Target(b"/" + name, root, b"to/" + name, entry=n) for n, name in enumerate(names)]
        result = Extractor(MemberReader(source_of(data)), targets, Counting()).run()
    assert (result.problems, result.files) == ([], 3000)
    assert most < before + 100
    assert all(source.members == 1 for source in result.sources)
