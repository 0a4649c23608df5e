"""Checking an image: whatever byte is hit, the file it belongs to is named, and no other."""

import json
import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from archive_support import image, make_tree, source_of

from appliance.archive.dumpdir import Dumpdir
from appliance.archive.frame import END_OF_ARCHIVE, PartSummary, comment, global_header, trailer
from appliance.archive.index import IndexEntry, parse_index
from appliance.archive.member import GlobalHeader, Member
from appliance.archive.reader import MemberReader
from appliance.archive.ustar import BLOCK
from appliance.archive.verify import Examined, Verifier


@dataclass
class Findings:
    """An observer that keeps what it is told."""

    whole: list[bytes] = field(default_factory=list)
    damaged: list[bytes] = field(default_factory=list)
    unlisted_names: list[bytes] = field(default_factory=list)
    problems: list[tuple[bytes, str]] = field(default_factory=list)

    def entry(self, entry: IndexEntry, is_whole: bool) -> None:
        (self.whole if is_whole else self.damaged).append(entry.path)

    def directory(self, path: bytes, dumpdir: Dumpdir, /) -> None:
        """Not looked at."""

    def unlisted(self, member: Member) -> None:
        self.unlisted_names.append(b"/" + member.name)

    def problem(self, path: bytes, text: str) -> None:
        self.problems.append((path, text))


def examine(data: bytes, piece: int = 1 << 20) -> tuple[Examined, Findings]:
    """Examine an image."""
    findings = Findings()
    return Verifier(source_of(data, piece), findings).run(), findings


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An image of a tree with everything in it, and enough small files for more than one index."""
    root = tmp_path_factory.mktemp("verify") / "tree"
    make_tree(root)
    for number in range(4000):
        (root / f"small file {number} with a name that takes some room in the index").touch()
    return image(root)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An image of a tree with everything in it."""
    root = tmp_path_factory.mktemp("verify") / "tree"
    make_tree(root)
    return image(root)


def layout_of(whole: bytes) -> list[tuple[int, int, bytes | None]]:
    """Start, end and path of everything in an image; None: what stands between the files."""
    found: list[tuple[int, int, bytes | None]] = []
    reader = MemberReader(source_of(whole))
    for item in reader:
        reader.skip()
        start = item.offset
        found.append((start, reader.offset, b"/" + item.name if isinstance(item, Member) else None))
    return [*found, (len(whole) - len(END_OF_ARCHIVE), len(whole), None)]


@pytest.fixture(scope="module")
def layout(whole: bytes) -> list[tuple[int, int, bytes | None]]:
    """What is where in the large image."""
    return layout_of(whole)


def flipped(data: bytes, at: int, bit: int) -> bytes:
    """The image with one bit changed."""
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


def test_an_undamaged_image_has_no_problem(whole: bytes, layout: list[tuple[int, int, bytes | None]]) -> None:
    """Every member is found in an index, with its checksum; counts and lengths agree."""
    for piece in (700, 1 << 20):
        result, findings = examine(whole, piece)
        assert (findings.problems, result.problems, result.damaged, result.unchecked) == ([], 0, 0, 0)
        assert findings.whole == [path for _, _, path in layout if path is not None]
        assert (result.members, result.complete, result.bytes) == (len(findings.whole), True, len(whole))
    assert len([1 for _, _, path in layout if path is None]) == 5  # header, two indexes, trailer, end


def test_a_flipped_bit_names_the_file_it_is_in(small: bytes) -> None:
    """Headers, records, long names, data, maps, padding: wherever a bit flips, its file is named, alone."""
    chance = random.Random(20261125)
    files = [each for each in layout_of(small) if each[2] is not None]
    names = {path for _, _, path in files}
    for start, end, path in files:
        # Of the large ones their headers, and their last block, as well as their data.
        places = {start + chance.randrange(end - start), start + chance.randrange(min(end - start, 2048))}
        for at in places | {end - 1 - chance.randrange(BLOCK)}:
            _, findings = examine(flipped(small, at, chance.randrange(8)))
            assert {named for named, _ in findings.problems} == {path}, (at - start, findings.problems)
            assert set(findings.whole) == names - {path}


def test_a_flipped_bit_between_the_files_costs_none_of_them(
    whole: bytes, layout: list[tuple[int, int, bytes | None]]
) -> None:
    """Image header, index, list of parts, end: the damage is told, and every file is whole or unchecked."""
    chance = random.Random(5)
    for start, end, _ in [each for each in layout if each[2] is None]:
        for _ in range(3):
            result, findings = examine(flipped(whole, start + chance.randrange(end - start), 3))
            assert result.problems
            assert result.damaged == 0
            assert findings.damaged == []
            assert result.members + result.unchecked == sum(path is not None for _, _, path in layout)


def test_a_lost_record_costs_the_files_in_it(
    whole: bytes, layout: list[tuple[int, int, bytes | None]]
) -> None:
    """64 KiB that cannot be read: the files in them are named, and no others."""
    size = 64 << 10
    for at in range(size, len(whole) - 4 * size, 31 * size):
        _, findings = examine(whole[:at] + b"\xff" * size + whole[at + size :])
        hit = {path for start, end, path in layout if path and start < at + size and end > at}
        between = any(path is None and start < at + size and end > at for start, end, path in layout)
        if not between:
            assert {path for path, _ in findings.problems} == hit
        assert hit.isdisjoint(findings.whole)


@pytest.mark.parametrize("keep", [0, 100, 700, 5000, 900_000, -BLOCK, -70_000])
def test_a_cut_image_is_not_complete(whole: bytes, keep: int) -> None:
    """Wherever the stream ends too early, that is told, and nothing before the cut is called damaged."""
    result, findings = examine(whole[:keep])
    assert not result.complete
    assert result.problems
    assert result.damaged <= 1  # the file that is cut
    assert len(findings.whole) == result.members


def test_an_image_without_its_index_is_read_and_told(whole: bytes) -> None:
    """Every file is named where the index is gone; what cannot be checked is not called whole."""
    out, reader = bytearray(), MemberReader(source_of(whole))
    for item in reader:
        if isinstance(item, Member):
            reader.copy(item, out.extend)
        elif parse_index(item.records, 0) is None:
            out += item.raw
    result, findings = examine(bytes(out) + END_OF_ARCHIVE)
    assert result.members == 0
    assert result.unchecked == len(findings.unlisted_names) > 4000
    assert any("index is lost" in text for _, text in findings.problems)


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        ({"start": 0, "count": 2**70}, b""),
        ({"start": -(2**70), "count": 1}, b"1 1 00 0 1 1 1 1 1 1 1 /x\n"),
        ({"start": 512, "count": -1}, b"\n" * 9999),
        ({"start": 0, "count": 1}, b"0 99999999999999999999999999 " + b"0" * 32 + b" 0 1 1 1 1 1 1 1 /x\n"),
        ({"start": 0, "count": 3}, (b"0 1 " + b"0" * 32 + b" 0 1 1 7 1 1 1 1 /a\\xzz\n") * 3),
        ({"start": "x", "count": []}, b""),
        ({}, b""),
    ],
)
def test_an_index_that_lies_is_told(fields: dict[str, object], body: bytes) -> None:
    """Huge counts, places that are none, lines that are no lines: problems, never an error of ours."""
    head = global_header("job1", b"/")
    lie = comment("files", "job1", len(head), fields, body)
    tail = trailer("job1", [PartSummary("fs1", b"/", len(head), len(lie), 1)], len(head) + len(lie))
    result, _ = examine(head + lie + tail + END_OF_ARCHIVE)
    assert result.complete
    assert result.problems
    assert result.members == 0


def test_a_part_list_that_lies_is_told(tmp_path: Path) -> None:
    """Parts that overlap, or hold other files than were seen, are problems."""
    (tmp_path / "a").write_bytes(b"x")
    data = image(tmp_path)
    at = data.index(b'"kind":"index"')
    at = data.rindex(b"./GlobalHead", 0, at)
    for part in (
        PartSummary("fs1", b"/", 1024, at - 1024, 7),
        PartSummary("fs1", b"/", 0, 2**63, 2),
        PartSummary("fs1", b"/", -5, -(2**80), -1),
    ):
        result, findings = examine(data[:at] + trailer("job1", [part], at) + END_OF_ARCHIVE)
        assert result.complete
        assert findings.whole == [b"/", b"/a"]
        assert result.problems


def test_an_archive_within_a_file_is_not_taken_for_the_image(tmp_path: Path) -> None:
    """After damage, headers of an image that was saved as a file are passed over."""
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "secret").write_bytes(b"x" * 5000)
    saved = image(inner)
    outer = tmp_path / "outer"
    outer.mkdir()
    (outer / "a tape.tar").write_bytes(saved)
    (outer / "behind").write_bytes(b"b")
    data = image(outer)
    at = data.index(b"a tape.tar")
    result, findings = examine(flipped(data, at, 2))
    assert [path for path, _ in findings.problems] == [b"/a tape.tar"]
    assert findings.whole == [b"/", b"/behind"]
    assert result.damaged == 1


def test_a_comment_is_what_people_can_read(whole: bytes) -> None:
    """The index is text: JSON in its first line, then a line a file, its checksum at the end."""
    for item in MemberReader(source_of(whole)):
        if isinstance(item, GlobalHeader) and parse_index(item.records, 0):
            first, *lines, last, end = item.records[b"comment"].split(b"\n")
            assert json.loads(first)["count"] == len(lines)
            assert last.startswith(b"checksum ")
            assert end == b""
            assert len(item.raw) < 512 * 1024 + 2 * BLOCK
