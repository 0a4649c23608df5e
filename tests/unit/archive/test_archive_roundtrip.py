"""What goes into an image comes out of it, by us and by others."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from archive_support import IS_ROOT, SPARSE_NAME, Recorder, extract, image, make_tree, manifest, part

from appliance.archive.frame import END_OF_ARCHIVE, PartSummary, global_header, trailer
from tests.apart import NOBODY, apart, reachable

GNU_TAR = ["tar", "-xpf", "-", "--acls", "--xattrs", "--xattrs-include=*", "--numeric-owner"]
BSDTAR = ["bsdtar", "-xpf", "-", "--acls", "--xattrs", "--numeric-owner"]
UTF8 = os.environ | {"LC_ALL": "C.UTF-8"}


@pytest.fixture(params=["tmp", "/dev/shm"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A directory on the disk's file system and one on tmpfs: they differ in holes and attributes."""
    if request.param == "tmp":
        yield tmp_path
        return
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("no writable /dev/shm")
    path = Path("/dev/shm") / f"archive-{os.getpid()}"
    path.mkdir()
    yield path
    for read_only in path.glob("*/*/"):
        read_only.chmod(0o700)
    shutil.rmtree(path)


def run(command: list[str], data: bytes, where: Path, remark: bytes = b"") -> None:
    """Extract with a foreign program, which must not say a word but lines with `remark`."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    where.mkdir()
    done = subprocess.run(command, input=data, cwd=where, env=UTF8, capture_output=True, check=False)
    said = [line for line in done.stderr.splitlines() if not remark or remark not in line]
    assert (done.returncode, done.stdout, said) == (0, b"", [])


def test_everything_comes_back(place: Path) -> None:
    """Every attribute of every kind of file is restored, on two file systems, with nothing reported."""
    make_tree(place / "in")
    observer = Recorder()
    result = extract(image(place / "in", observer), place / "out")
    assert observer.problems == []
    assert result.problems == []
    assert manifest(place / "out") == manifest(place / "in")
    assert result.files == len(observer.entries) == len(manifest(place / "in"))


def test_gnu_tar_restores_our_image_without_a_word(place: Path) -> None:
    """GNU tar needs none of this product to restore everything, attributes included, and is silent.

    But for times before 1970, which it restores and always warns of.
    """
    make_tree(place / "in", beyond_tar=False)
    run(GNU_TAR, image(place / "in"), place / "out", b"implausibly old time stamp")
    assert manifest(place / "out") == manifest(place / "in")


def test_bsdtar_restores_our_image_without_a_word(place: Path) -> None:
    """So does bsdtar, but for what `make_tree` leaves out, and the time of ".", as with its own."""
    make_tree(place / "in", beyond_bsdtar=False, beyond_tar=False)
    run(BSDTAR, image(place / "in"), place / "out")
    found = manifest(place / "out")
    wanted = manifest(place / "in")
    assert found.pop(b"")[:2] == wanted.pop(b"")[:2]
    assert found == wanted


def test_foreign_tools_read_concatenated_parts(tmp_path: Path) -> None:
    """Parts made on different servers, put one after another, are one archive to everybody."""
    for name in ("a", "b"):
        make_tree(tmp_path / name, beyond_bsdtar=False, beyond_tar=False)
    whole = global_header("job1", b"/")
    parts = []
    for name in (b"a", b"b"):
        prefix = b"/projects/" + name
        body, result = part(
            tmp_path / name.decode(), member_prefix=prefix, backup_root=b"/projects", stream_offset=len(whole)
        )
        parts.append(PartSummary("fs", prefix, len(whole), result.bytes, result.files))
        whole += body
    whole += trailer("job1", parts, len(whole)) + END_OF_ARCHIVE
    for command in (GNU_TAR, BSDTAR):
        out = tmp_path / command[0]
        run(command, whole, out)
        for name in ("a", "b"):
            assert manifest(out / "projects" / name) == manifest(tmp_path / name)


@pytest.mark.parametrize(
    "command",
    [
        ["tar", "-cf", "-", "--format=pax", "--acls", "--xattrs", "--xattrs-include=*", "--sparse", "."],
        ["tar", "-cf", "-", "--format=gnu", "."],
        ["tar", "-cf", "-", "--format=ustar", "plain"],
        ["bsdtar", "-cf", "-", "--format=pax", "--acls", "--xattrs", "."],
    ],
)
def test_we_read_what_others_write(tmp_path: Path, command: list[str]) -> None:
    """Archives of GNU tar and bsdtar, in their usual formats, are restored with names, data and modes."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    tree = tmp_path / "in"
    make_tree(tree, beyond_bsdtar=False, beyond_tar=False)
    (tree / "huge").unlink()
    if command[0] == "bsdtar":  # it cuts the name of a sparse file off where that is no UTF-8
        (tree / SPARSE_NAME).unlink()
    (tree / "plain").mkdir()
    (tree / "plain" / ("p" * 90)).mkdir()
    (tree / "plain" / ("p" * 90) / ("f" * 90)).write_bytes(b"in the prefix field")
    data = subprocess.run(command, cwd=tree, env=UTF8, capture_output=True, check=True).stdout
    result = extract(data, tmp_path / "out")
    assert result.problems == []
    wanted = manifest(tree)
    found = manifest(tmp_path / "out")
    names = [n for n in wanted if n.startswith(b"/plain")] if command[-1] == "plain" else list(wanted)
    complete = "--sparse" in command
    for name in names:
        if complete and name:
            assert found[name] == wanted[name]
        elif name:
            mode, owner, _, _, content, group, _ = wanted[name]
            seen = found[name]
            assert (seen[0], seen[1], seen[4], seen[5]) == (mode, owner, content, group)


@pytest.mark.skipif(not IS_ROOT, reason="needs root to become somebody else")
def test_a_plain_user_restores_what_he_may() -> None:
    """Without privileges files come back as one's own; set-id bits and devices are left out and counted."""
    with reachable() as folder:
        make_tree(folder / "in")
        data = image(folder / "in")
        out = folder / "out"

        def work() -> tuple[int, set[str]]:
            result = extract(data, out)
            return result.skipped, {text.split(":")[0] for _, text in result.problems}

        skipped, told = apart(work, user=NOBODY)
        names = ("security.capability", "trusted.secret", "trusted.on a symlink")
        assert told == {f"attribute {name} cannot be set" for name in names}
        assert skipped > 2
        assert (out / "linked").read_bytes() == b"data"
        assert not (out / "null").exists()
        assert not (out / "setuid").stat().st_mode & 0o6000
