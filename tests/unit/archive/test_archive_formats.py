"""Promises of the formats of an image: each is proved by its own checksums, and none is taken for damage."""

from __future__ import annotations

from pathlib import Path

import pytest
from archive_support import Problems, Recorder, directory, image, source_of

from appliance.archive.checksum import SHA256, XXH3, Algorithm
from appliance.archive.extract import Extractor
from appliance.archive.formats import FIRST_FORMAT, FORMAT, algorithm_of, is_known
from appliance.archive.frame import global_header, parse_global_header, stand_in_header
from appliance.archive.member import GlobalHeader
from appliance.archive.reader import MemberReader
from appliance.archive.targets import Target
from appliance.archive.verify import Examined, Verifier

FORMATS = [FIRST_FORMAT, FORMAT]
LARGE = b"0123456789abcdef" * 20_000
"""Too large for the compiled helper, and for one buffer of a feed."""


damaged_files = pytest.mark.parametrize(
    ("content", "path"), [(LARGE, b"/large"), (b"content 7 " * 40, b"/small/07")], ids=["large", "small"]
)
"""Files in which a bit is flipped: one that the compiled helper takes, and one that it does not."""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Small files, which a helper may take many at a time, and a large one."""
    root = tmp_path / "tree"
    (root / "small").mkdir(parents=True)
    for number in range(20):
        (root / "small" / f"{number:02}").write_bytes(b"content %d " % number * 40)
    (root / "large").write_bytes(LARGE)
    return root


def examine(data: bytes) -> tuple[Examined, list[tuple[bytes, str]]]:
    """Examine an image."""
    findings = Problems()
    return Verifier(source_of(data), findings).run(), findings.problems


def restore(data: bytes, root: Path) -> list[tuple[bytes, str]]:
    """Restore with checksums, as owners do; the problems."""
    root.mkdir()
    seen = Recorder()
    with directory(root) as descriptor:
        target = Target(b"/", descriptor, b"")
        Extractor(MemberReader(source_of(data), checking=True), [target], seen).run()
    return seen.problems


def flipped(data: bytes, content: bytes) -> bytes:
    """An image with one bit of a file's content another one."""
    at = data.index(content) + len(content) // 2
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize(
    ("algorithm", "data", "digits"),
    [
        (SHA256, b"", "e3b0c44298fc1c149afbf4c8996fb924"),
        (SHA256, b"abc", "ba7816bf8f01cfea414140de5dae2223"),
        (XXH3, b"", "99aa06d3014798d86001c324468d497f"),
        (XXH3, b"a", "a96faf705af16834e6c632b61e964e1f"),
    ],
)
def test_checksums_are_those_of_others(algorithm: Algorithm, data: bytes, digits: str) -> None:
    """As FIPS 180-4 and the xxHash project publish them, in one piece or in several."""
    assert algorithm.of(data).hex() == digits
    begun = algorithm.begin(data[:1])
    begun.update(memoryview(data)[1:])
    assert begun.digest()[:16].hex() == digits


def test_each_format_has_another_algorithm() -> None:
    """What a comment says of its format is anything at all, and only these are known."""
    assert algorithm_of(FIRST_FORMAT) is SHA256
    assert algorithm_of(FORMAT) is XXH3
    assert all(is_known(each) for each in FORMATS)
    assert not any(is_known(each) for each in (0, FORMAT + 1, "1", 1.0, None, True, []))


@pytest.mark.parametrize("version", FORMATS)
def test_an_image_of_each_format_is_proved_and_restored(tree: Path, tmp_path: Path, version: int) -> None:
    """Nothing is found wrong with a sound one; all files come back."""
    data = image(tree, version=version)
    examined, problems = examine(data)
    assert (examined.damaged, examined.unchecked, problems) == (0, 0, [])
    assert examined.header is not None
    assert examined.header.version == version
    assert restore(data, tmp_path / "out") == []
    assert (tmp_path / "out" / "large").read_bytes() == LARGE
    for path in (tree / "small").iterdir():
        assert (tmp_path / "out" / "small" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("version", FORMATS)
@damaged_files
def test_a_flipped_bit_is_found_in_each_format(
    tree: Path, tmp_path: Path, version: int, content: bytes, path: bytes
) -> None:
    """The file is named, by who examines and by who restores, and it alone."""
    data = flipped(image(tree, version=version), content)
    examined, problems = examine(data)
    assert examined.damaged == 1
    assert [each for each, _ in problems] == [path]
    assert restore(data, tmp_path / "out") == [(path, "restored, but damaged: its checksum differs")]


@pytest.mark.parametrize("version", FORMATS)
def test_a_part_of_another_format_is_no_damage(tree: Path, tmp_path: Path, version: int) -> None:
    """Nobody knew in time how its checksums are made: who examines it says so, a restore has no problem."""
    other = FORMAT if version == FIRST_FORMAT else FIRST_FORMAT
    data = image(tree, version=version, part_version=other)
    examined, problems = examine(data)
    assert (examined.damaged, examined.members, examined.unchecked) == (0, 0, 23)
    assert [text.partition(" before")[0] for _, text in problems] == ["the checksums of 23 files"]
    told = restore(data, tmp_path / "out")
    assert len(told) == 23
    assert {text for _, text in told} == {
        "restored, but not compared: its part is of another format than its image"
    }


@pytest.mark.parametrize("version", FORMATS)
@pytest.mark.parametrize("content", [LARGE, b"content 7 " * 40], ids=["large", "small"])
def test_an_image_without_its_header_is_checked_all_the_same(
    tree: Path, version: int, content: bytes
) -> None:
    """Until the first index tells its format, checksums are made as all formats have them."""
    data = image(tree, version=version)
    head = global_header("job1", b"/", version=version)
    lost = bytes([0xFF]) * len(head) + data[len(head) :]
    examined, _ = examine(lost)
    assert (examined.damaged, examined.unchecked) == (0, 0)
    assert examined.members == 23
    examined, problems = examine(flipped(lost, content))
    assert (examined.damaged, examined.unchecked) == (1, 0)
    assert "is damaged: its checksum differs" in problems[-1][1]


@pytest.mark.parametrize("version", FORMATS)
@damaged_files
def test_a_header_that_stands_in_says_nothing_of_the_format(
    tree: Path, tmp_path: Path, version: int, content: bytes, path: bytes
) -> None:
    """Every release reads it, and the image behind it is checked, whatever its format."""
    head, stand_in = global_header("job1", b"/", version=version), stand_in_header("job1", b"/")
    header = MemberReader(source_of(stand_in)).next()
    assert isinstance(header, GlobalHeader)
    parsed = parse_global_header(header.records)
    assert parsed is not None
    assert (parsed.version, parsed.is_stand_in, parsed.root) == (FIRST_FORMAT, True, b"/")
    sound = image(tree, version=version).replace(head, stand_in, 1)
    assert restore(sound, tmp_path / "sound") == []
    found = restore(flipped(sound, content), tmp_path / "out")
    assert found == [(path, "restored, but damaged: its checksum differs")]


def test_an_index_that_is_damaged_does_not_change_the_format(tmp_path: Path) -> None:
    """What comes behind it is compared as before, though it says that it is of another format."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(6000):
        (tree / f"a file {number:04} with a name that takes some room in the index").touch()
    (tree / "z").write_bytes(LARGE)
    data = image(tree)
    at = data.index(b'"version":2,"kind":"files"') + len(b'"version":')
    data = flipped(data[:at] + b"1" + data[at + 1 :], LARGE)
    examined, problems = examine(data)
    assert examined.damaged == 1
    assert (b"/z", "is damaged: its checksum differs") in [
        (path, text.partition(" (")[0]) for path, text in problems
    ]
    assert (b"/z", "restored, but damaged: its checksum differs") in restore(data, tmp_path / "out")
