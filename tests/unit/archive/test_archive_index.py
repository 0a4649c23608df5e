"""The index of a part: text that holds any name, in comments of bounded size."""

import random

import pytest

from appliance.archive.formats import FORMAT
from appliance.archive.frame import COMMENT_BYTES_MAX
from appliance.archive.index import Index, IndexEntry, IndexWriter, escape, parse_index, unescape
from appliance.archive.kinds import Kind
from appliance.archive.lost import lost_headers, parse_lost
from appliance.archive.member import GlobalHeader
from appliance.archive.reader import MemberReader
from appliance.archive.stage import Stage

NO_INDEX = Index(0, 0, False, b"", FORMAT)


def headers(data: bytes) -> list[GlobalHeader]:
    """The `g` headers in a stream that holds nothing else."""
    position = 0

    def readinto(view: memoryview) -> int:
        nonlocal position
        piece = data[position : position + len(view)]
        view[: len(piece)] = piece
        position += len(piece)
        return len(piece)

    return [item for item in MemberReader(readinto) if isinstance(item, GlobalHeader)]


def entry(number: int, path: bytes) -> IndexEntry:
    """An entry with a number of its own in every field."""
    return IndexEntry(
        number, number + 1, bytes([number % 256]) * 16, Kind.FILE, 4, 5, 0o640, 6, 7, 8, -1_500_000_001, path
    )


def written(*entries: IndexEntry) -> bytes:
    """What a writer makes of entries."""
    out = bytearray()
    stage = Stage(out.extend)
    index = IndexWriter("job1", stage, FORMAT)
    for each in entries:
        index.add(*each)
    index.flush()
    stage.flush()
    return bytes(out) + bytes(1024)


def test_any_name_comes_back() -> None:
    """Bytes that are no text, line ends, blanks, backslashes and what looks like an escape survive."""
    chance = random.Random(3)
    names = [b"/" + bytes(chance.choices(b"\\x0af \n\0\x7f\xff\xc3\xa9-", k=12)) for _ in range(500)]
    names += ["/ü €".encode(), b"/\\x41", b"/ ", b"/-", b"/"]
    for name in names:
        assert unescape(escape(name)) == name
        assert b"\n" not in escape(name)
        escape(name).decode()
    (header,) = headers(written(*(entry(n, name) for n, name in enumerate(names))))
    index = parse_index(header.records, 0)
    assert index is not None
    assert index.sound
    assert index.entries == [entry(n, name) for n, name in enumerate(names)]


@pytest.mark.parametrize("length", [20, 4000, 60_000, 70_000, 900_000])
def test_comments_stay_within_their_bound(length: int) -> None:
    """Whatever the length of names, a comment is one that bsdtar takes, and a name too long is left out."""
    entries = [entry(n, b"/" + b"\xff" * length) for n in range(3_000_000 // (length + 100))]
    found = headers(written(*entries))
    assert max(len(header.raw) for header in found) <= COMMENT_BYTES_MAX
    back = [each for header in found for each in (parse_index(header.records, 0) or NO_INDEX).entries]
    wanted = [each if 4 * length < 64 * 1024 else each._replace(path=b"") for each in entries]
    assert back == wanted


def test_lost_names_come_back() -> None:
    """What a feed is told of lost files holds any name, in comments of bounded size."""
    names = [b"/\n\xff" + b"n" * 4000 + b"%d" % number for number in range(300)]
    found = headers(b"".join(lost_headers("job1", names)) + bytes(1024))
    assert len(found) > 1
    assert [name for header in found for name in parse_lost(header.records, 0) or ()] == names
    assert parse_lost(headers(b"".join(lost_headers("job1", ())) + bytes(1024))[0].records, 0) == []
    assert parse_lost(headers(written(entry(0, b"/")))[0].records, 0) is None
