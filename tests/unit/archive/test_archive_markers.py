"""Marks of users: CACHEDIR.TAG and the nodump flag; and flags that are told of."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from archive_support import Recorder, part
from flags_support import APPEND_ONLY, IMMUTABLE, NODUMP, add_flags, flagged

from appliance.archive import protected
from appliance.archive.markers import Markers

SIGNATURE = b"Signature: 8a477f597d28d172789f06886806bc55"
CACHES = Markers(caches=True)
NO_DUMP = Markers(nodump=True)


def saved(root: Path, markers: Markers, **fields: object) -> tuple[list[bytes], Recorder]:
    """The paths in a part, and what was told."""
    seen = Recorder()
    part(root, seen, markers=markers, **fields)
    return [entry.path for entry in seen.entries], seen


def make_caches(root: Path) -> None:
    """A cache with something in it, and directories that only look like one."""
    for name in ("cache", "short", "symlink", "directory", "fifo", "plain"):
        (root / name / "below").mkdir(parents=True)
        (root / name / "file").write_bytes(b"x")
    (root / "cache" / "CACHEDIR.TAG").write_bytes(SIGNATURE + b"\n# made by a test\n")
    (root / "short" / "CACHEDIR.TAG").write_bytes(SIGNATURE[:-1])
    (root / "symlink" / "CACHEDIR.TAG").symlink_to("../cache/CACHEDIR.TAG")
    (root / "directory" / "CACHEDIR.TAG").mkdir()
    os.mkfifo(root / "fifo" / "CACHEDIR.TAG")


def test_caches_are_left_out_but_for_their_tag(tmp_path: Path) -> None:
    """Only an ordinary file with the whole signature makes a cache; one line says how many there were."""
    make_caches(tmp_path)
    paths, seen = saved(tmp_path, CACHES)
    everything, silent = saved(tmp_path, Markers())
    assert set(everything) - set(paths) == {b"/cache/file", b"/cache/below"}
    text = "left out as asked: 1 cache by CACHEDIR.TAG"
    assert (seen.notes, seen.problems) == ([(b"/", text)], [])
    assert silent.notes == []
    listed = {name for _, _, names in seen.listings for name, _ in names}
    assert listed == {path.rpartition(b"/")[2] for path in paths if path != b"/"}


def test_caches_are_those_of_gnu_tar(tmp_path: Path) -> None:
    """The same names are left out as by tar --exclude-caches."""
    if shutil.which("tar") is None:
        pytest.skip("tar is not installed")
    make_caches(tmp_path)
    (tmp_path / "symlink" / "CACHEDIR.TAG").unlink()  # tar follows it, against the specification
    (tmp_path / "fifo" / "CACHEDIR.TAG").unlink()  # tar waits for a writer
    (tmp_path / "CACHEDIR.TAG").touch()
    command = ["tar", "-cf", "-", "--exclude-caches", "."]
    archive = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout
    listing = subprocess.run(["tar", "-tf", "-"], input=archive, capture_output=True, check=True).stdout
    theirs = {b"/" + line[2:].rstrip(b"/") for line in listing.splitlines()}
    assert set(saved(tmp_path, CACHES)[0]) == theirs


def test_the_top_of_a_part_may_be_a_cache(tmp_path: Path) -> None:
    """As with GNU tar, the tag holds wherever the directory stands; junctions below are others' business."""
    (tmp_path / "CACHEDIR.TAG").write_bytes(SIGNATURE)
    (tmp_path / "f").touch()
    (tmp_path / "j").mkdir()
    fields = {"skip": frozenset([b"/j"]), "nodes": {b"/": 2, b"/j": 3}, "node_base": 4}
    paths, seen = saved(tmp_path, CACHES, **fields)
    assert paths == [b"/", b"/CACHEDIR.TAG"]
    assert seen.listings == [(2, 2, [(b"CACHEDIR.TAG", 4), (b"j", 3)])]


def test_files_with_the_nodump_flag_are_left_out(tmp_path: Path) -> None:
    """So are directories with all below them; without the option they are saved; one line counts them."""
    (tmp_path / "d" / "deep").mkdir(parents=True)
    for name in ("d/f", "kept", "flagged", "d/deep/x"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "symlink").symlink_to("flagged")
    add_flags(tmp_path / "d", NODUMP)
    add_flags(tmp_path / "flagged", NODUMP)
    paths, seen = saved(tmp_path, NO_DUMP)
    assert paths == [b"/", b"/kept", b"/symlink"]
    text = "left out as asked: 2 names by the nodump flag"
    assert (seen.notes, seen.problems) == ([(b"/", text)], [])
    assert len(saved(tmp_path, Markers())[0]) == 8


def test_what_a_part_begins_at_is_saved_whatever_its_flag(tmp_path: Path) -> None:
    """It was asked for: a directory, or a single file."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").touch()
    add_flags(tmp_path / "d", NODUMP)
    assert saved(tmp_path, NO_DUMP, start=b"d")[0] == [b"/d", b"/d/f"]
    add_flags(tmp_path / "d" / "f", NODUMP)
    assert saved(tmp_path, NO_DUMP, start=b"d/f")[0] == [b"/d/f"]


def test_protected_files_are_saved_and_named(tmp_path: Path) -> None:
    """Immutable and append-only files are in the part; a note for each says that the flag is not."""
    for name in ("a", "i", "plain"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "z linked").hardlink_to(tmp_path / "i")
    (tmp_path / "d").mkdir()
    with (
        flagged(tmp_path / "a", APPEND_ONLY),
        flagged(tmp_path / "i", IMMUTABLE | APPEND_ONLY),
        flagged(tmp_path / "d", IMMUTABLE),
    ):
        paths, seen = saved(tmp_path, Markers())
    assert paths == [b"/", b"/a", b"/i", b"/plain", b"/z linked", b"/d"]
    assert seen.problems == []
    assert seen.notes == [
        (b"/a", "is append-only; a restore will not make it so"),
        (b"/i", "is immutable and append-only; a restore will not make it so"),
        (b"/d", "is immutable; a restore will not make it so"),
    ]


def test_many_protected_files_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A vault of millions does not fill the log."""
    monkeypatch.setattr(protected, "NAMED_MAX", 1)
    (tmp_path / "1").touch()
    (tmp_path / "2").touch()
    with flagged(tmp_path / "1", IMMUTABLE), flagged(tmp_path / "2", IMMUTABLE):
        seen = saved(tmp_path, Markers())[1]
    assert [path for path, _ in seen.notes] == [b"/1", b"/"]
    assert seen.notes[1][1] == "1 more files are immutable or append-only"
