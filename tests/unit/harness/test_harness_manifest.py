"""Seed, manifest and comparison: each change that a restore could make is seen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import guest
from harness.compare import OWNER_FIELDS, compare, move, without
from harness.manifest import Manifest, parse

ROOT = os.geteuid() == 0


def script(name: str, argument: object) -> bytes:
    """Run a guest script as on a node: through standard input, in isolated mode."""
    argv = [sys.executable, "-I", "-", json.dumps(argument)]
    return subprocess.run(argv, input=guest.source(name), stdout=subprocess.PIPE, check=True).stdout


def describe(folder: Path, top: str = "/p") -> Manifest:
    """The manifest of one folder."""
    return parse(script("manifest", {"roots": [{"global": top, "local": str(folder), "skip": []}]}))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A nasty corner."""
    folder = tmp_path_factory.mktemp("seed")
    script("seed_nasty", {"number": 1, "folder": str(folder / "nasty")})
    return folder


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> Path:
    """A copy of it that may be changed."""
    target = tmp_path / "copy"
    subprocess.run(["cp", "-a", "--sparse=auto", "-T", original, target], check=True)
    return target


def test_seed_is_repeatable(original: Path, tmp_path: Path) -> None:
    """The same seed number makes the same names, data and attributes; only times of making differ."""
    script("seed_nasty", {"number": 1, "folder": str(tmp_path / "nasty")})
    ignore = {"mtime_ns"}
    assert compare(describe(original), describe(tmp_path), ignore=ignore).equal


def test_seed_has_what_backups_lose(original: Path) -> None:
    """The nasty corner holds every kind of thing it promises, or this test would prove nothing."""
    manifest = describe(original)
    entries = list(manifest.values())
    assert {"file", "directory", "symlink", "fifo"} <= {entry["type"] for entry in entries}
    assert any(len(path.rpartition(b"/")[2]) == 255 for path in manifest)
    assert any(len(path) > 1000 for path in manifest)
    assert any(b"\n" in path for path in manifest)
    assert any(b"\xe4" in path and b"\xc3" not in path for path in manifest)
    assert any(entry.get("size", 0) > 8 << 30 for entry in entries)
    assert any(entry["mtime_ns"] < 0 for entry in entries)
    assert any(entry.get("links", [0, 0])[1] == 4 for entry in entries)
    names = {name for entry in entries for name in entry.get("xattrs", {})}
    assert {"user.binary", "system.posix_acl_access", "system.posix_acl_default"} <= names
    if ROOT:
        assert {"char", "block"} <= {entry["type"] for entry in entries}
        assert {"security.capability", "trusted.spanreel"} <= names
        assert any(entry["uid"] > 1 << 21 for entry in entries)


def test_faithful_copy_is_equal(original: Path, copy: Path) -> None:
    """A copy that keeps everything compares equal: the comparison does not cry wolf."""
    comparison = compare(describe(original), describe(copy))
    assert comparison.equal, comparison.shown()


def flip_byte(folder: Path) -> None:
    """One bit of the last byte."""
    path = folder / "nasty/sizes/262145"
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(262144)
        byte = file.read(1)[0]
        file.seek(262144)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def flip_byte_beyond_8_gib(folder: Path) -> None:
    """One bit behind 8 GiB."""
    path = folder / "nasty/sparse/huge"
    before = path.stat()
    with path.open("r+b") as file:
        file.seek((8 << 30) + (256 << 20) + 5)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def fill_hole(folder: Path) -> None:
    """Write zeros into a hole."""
    path = folder / "nasty/sparse/middle"
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(1 << 20)
        file.write(bytes(4096))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def break_link(folder: Path) -> None:
    """Replace a link by a copy."""
    path = folder / "nasty/links/z/fourth"
    parent = (folder / "nasty/links/z").stat()
    before, data = path.stat(), path.read_bytes()
    path.unlink()
    path.write_bytes(data)
    path.chmod(before.st_mode & 0o7777)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.utime(path.parent, ns=(parent.st_atime_ns, parent.st_mtime_ns))


def retarget(folder: Path) -> None:
    """Point a symbolic link elsewhere."""
    path = folder / "nasty/symlinks/self-3"
    before, parent = path.lstat(), path.parent.stat()
    path.unlink()
    path.symlink_to("elsewhere")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns), follow_symlinks=False)
    os.utime(path.parent, ns=(parent.st_atime_ns, parent.st_mtime_ns))


def remove(folder: Path) -> None:
    """Remove a directory."""
    path = folder / "nasty/empty/directory/in/directory"
    parent = path.parent.stat()
    path.rmdir()
    os.utime(path.parent, ns=(parent.st_atime_ns, parent.st_mtime_ns))


def add(folder: Path) -> None:
    """Add a file."""
    path = folder / "nasty/empty/file2"
    parent = path.parent.stat()
    path.write_bytes(b"")
    os.utime(path.parent, ns=(parent.st_atime_ns, parent.st_mtime_ns))


def nanosecond(folder: Path) -> None:
    """Set a time back by a nanosecond."""
    path = folder / "nasty/times/999999999"
    when = path.stat().st_mtime_ns
    os.utime(path, ns=(when, when - 1))


def link_time(folder: Path) -> None:
    """Change the time of a symbolic link."""
    os.utime(folder / "nasty/times/link", ns=(1, 1), follow_symlinks=False)


TWINS: list[tuple[Callable[[Path], None], str]] = [
    (flip_byte, "sha256"),
    (flip_byte_beyond_8_gib, "sha256"),
    (fill_hole, "extents"),
    (break_link, "links"),
    (retarget, "target"),
    (remove, "name"),
    (add, "name"),
    (nanosecond, "mtime_ns"),
    (link_time, "mtime_ns"),
    (lambda top: os.setxattr(top / "nasty/xattrs/file", "user.binary", b"\x00\xff\n=\r"), "xattrs"),
    (lambda top: os.removexattr(top / "nasty/xattrs/file", "user.empty"), "xattrs"),
    (lambda top: os.removexattr(top / "nasty/acl-directory", "system.posix_acl_default"), "xattrs"),
    (lambda top: (top / "nasty/modes/4755").chmod(0o755), "mode"),
    (lambda top: os.truncate(top / "nasty/sparse/only-a-hole", (4 << 20) + 1), "size"),
]
if ROOT:
    TWINS += [
        (lambda top: os.removexattr(top / "nasty/capable", "security.capability"), "xattrs"),
        (lambda top: os.chown(top / "nasty/empty/file", 1, 0), "uid"),
        (lambda top: os.chown(top / "nasty/times/link", 0, 1, follow_symlinks=False), "gid"),
    ]


@pytest.mark.parametrize(("change", "field"), TWINS)
def test_each_change_is_seen(original: Path, copy: Path, change: Callable[[Path], None], field: str) -> None:
    """A copy with one thing changed differs in exactly that field (twin of the equal copy)."""
    change(copy)
    comparison = compare(describe(original), describe(copy))
    fields = {item.field for item in comparison.differences}
    assert field in fields, comparison.shown()
    assert fields <= {field, "links", "sha256", "extents", "size", "mtime_ns"}


def test_empty_trees_are_not_equal() -> None:
    """Nothing restored and nothing expected is no success."""
    assert not compare({}, {}).equal


def test_owners_are_left_out_only_when_asked(original: Path) -> None:
    """Without root owners are not compared; everything else still is."""
    manifest = describe(original)
    other = {path: entry | {"uid": entry["uid"] + 1} for path, entry in manifest.items()}
    assert not compare(manifest, other).equal
    assert compare(manifest, other, ignore=OWNER_FIELDS).equal


def test_moved_tree_compares_with_its_original(original: Path) -> None:
    """A tree restored below another path is equal once moved back, link groups included."""
    restored = describe(original, "/restored/p")
    assert compare(describe(original), move(restored, b"/restored", b"")).equal
    assert not compare(describe(original), restored).equal


def test_part_of_a_link_group_counts_only_itself(original: Path) -> None:
    """Restoring one directory of a link group is right when the links within it are."""
    inside = move(describe(original), b"/p/nasty/links/a", b"/q")
    assert inside[b"/q/first"]["links"][1] == 3
    assert "links" not in move(describe(original), b"/p/nasty/links/z/fourth", b"/q")[b"/q"]


def test_without_leaves_out_whole_components(original: Path) -> None:
    """Leaving out /p/a does not leave out /p/ab."""
    manifest: Manifest = {b"/p/a": {}, b"/p/a/x": {}, b"/p/ab": {}}
    assert set(without(manifest, b"/p/a")) == {b"/p/ab"}


def test_skipped_paths_are_left_to_their_owner(original: Path) -> None:
    """A part below a directory of another owner is described by its own owner only."""
    root = {"global": "/p", "local": str(original), "skip": ["/p/nasty/links"]}
    manifest = parse(script("manifest", {"roots": [root]}))
    assert b"/p/nasty/names" in manifest
    assert not any(path.startswith(b"/p/nasty/links") for path in manifest)


def test_wipe_leaves_roots_and_kept_paths(copy: Path) -> None:
    """Wiping deletes everything but the root itself and mount points of other parts."""
    (copy / "nasty/keep/below").mkdir(parents=True)
    argument = {"roots": [{"local": str(copy), "keep": [str(copy / "nasty/keep")]}]}
    assert json.loads(script("wipe", argument))["removed"] > 50
    assert [str(path.relative_to(copy)) for path in sorted(copy.rglob("*"))] == [
        "nasty",
        "nasty/keep",
        "nasty/keep/below",
    ]


def test_real_seed_is_bounded_and_repeatable(tmp_path: Path) -> None:
    """The copy of /usr stays near its budget, and twice the same number gives the same tree."""
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        root = {"name": "/p", "local": str(tmp_path / name), "bytes": 2_000_000, "small_files": 600}
        argument = {"number": 1, "sources": ["/usr/share/doc", "/usr/bin"], "roots": [root]}
        made.append(json.loads(script("seed_real", argument)))
    assert made[0] == made[1]
    assert 1_800_000 < made[0]["bytes"] < 12_000_000
    comparison = compare(describe(tmp_path / "one"), describe(tmp_path / "two"), ignore={"mtime_ns"})
    assert comparison.equal, comparison.shown()
    assert len(list((tmp_path / "one/small").rglob("f*"))) == 600
