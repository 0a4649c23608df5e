"""Reading a stream: nothing read ahead, nothing lost, every break noticed."""

import random
from pathlib import Path

import pytest
from archive_support import image, make_tree, part, source_of

from appliance.archive.errors import ArchiveUsageError, DamagedArchiveError, TruncatedArchiveError
from appliance.archive.frame import END_OF_ARCHIVE
from appliance.archive.member import Member
from appliance.archive.reader import RECORDS_BYTES_MAX, MemberReader
from appliance.archive.ustar import encode_header


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An image of a tree with everything in it."""
    root = tmp_path_factory.mktemp("reader") / "tree"
    make_tree(root)
    return image(root)


@pytest.mark.parametrize("piece", [1, 511, 4096, 1 << 20])
def test_members_copied_raw_are_the_stream(whole: bytes, piece: int) -> None:
    """Headers and data handed on member by member are the image itself, however its bytes come in."""
    data = whole if piece > 1 else whole[-300_000:][whole[-300_000:].find(b"./GlobalHead") :]
    reader = MemberReader(source_of(data, piece))
    out = bytearray()
    for item in reader:
        if isinstance(item, Member):
            assert item.offset == len(out)
            reader.copy(item, out.extend)
        else:
            out += item.raw
    assert bytes(out) + END_OF_ARCHIVE == data
    assert reader.offset == len(data)


def test_skipped_and_read_data_keep_the_framing(whole: bytes) -> None:
    """However much of a member's data is taken, the next member is found."""
    names = [m.name for m in MemberReader(source_of(whole)) if isinstance(m, Member)]
    chance = random.Random(1)
    reader = MemberReader(source_of(whole, 5000))
    found = []
    for member in reader:
        if isinstance(member, Member):
            found.append(member.name)
            for _, view in zip(range(chance.randrange(4)), reader.data(), strict=False):
                assert len(view)
    assert found == names


def test_nothing_is_asked_for_before_it_is_needed(tmp_path: Path) -> None:
    """A reader that has a whole member asks for no byte more: there may be none until it requests them."""
    (tmp_path / "f").write_bytes(b"x" * 100)
    data, _ = part(tmp_path, start=b"f")
    data = data[: data.index(b"./GlobalHead")]
    source = source_of(data)

    def strict(view: memoryview) -> int:
        got = source(view)
        assert got, "read ahead: on a data connection this waits for ever"
        return got

    reader = MemberReader(strict)
    member = reader.next()
    assert isinstance(member, Member)
    assert b"".join(bytes(view) for view in reader.data()) == b"x" * 100
    reader.skip()
    reader.jump(1 << 30)
    assert reader.offset == 1 << 30


def test_advancing_drops_what_lies_between(whole: bytes) -> None:
    """Also the rest of a member, and no byte beyond: the member there is the next one."""
    starts = [item.offset for item in MemberReader(source_of(whole))]
    reader = MemberReader(source_of(whole))
    first = reader.next()
    assert first is not None
    reader.advance(starts[-1])
    assert (reader.offset, reader.data_left) == (starts[-1], 0)
    last = reader.next()
    assert last is not None
    assert last.offset == starts[-1]


def test_a_jump_with_bytes_left_is_refused(whole: bytes) -> None:
    """The next range may only begin when the one before is used up."""
    reader = MemberReader(source_of(whole))
    reader.next()
    with pytest.raises(ArchiveUsageError):
        reader.jump(0)


@pytest.mark.parametrize("keep", [0, 1, 512, 3000, 40_000, 2_000_000])
def test_a_truncated_stream_is_noticed(whole: bytes, keep: int) -> None:
    """An end anywhere but after the end-of-archive is damage."""
    with pytest.raises(TruncatedArchiveError):
        list(MemberReader(source_of(whole[:keep])))


def test_a_missing_or_halved_end_of_archive_is_noticed(whole: bytes) -> None:
    """Both zero blocks must be there."""
    for lost in (512, 1024):
        with pytest.raises(TruncatedArchiveError):
            list(MemberReader(source_of(whole[:-lost])))


def test_a_flipped_bit_in_any_header_is_noticed(whole: bytes) -> None:
    """A header block that changed is not read as something else; the error says where."""
    for bit in range(0, 512 * 8, 37):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        if bit // 8 in range(148, 156) or bit // 8 >= 500:
            continue  # in the checksum's own spelling, and behind the last field, changes may mean nothing
        with pytest.raises(DamagedArchiveError) as caught:
            list(MemberReader(source_of(bytes(data))))
        assert caught.value.offset == 0


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(encode_header(b"x", b"x", RECORDS_BYTES_MAX + 1), id="an endless extended header"),
        pytest.param(encode_header(b"L", b"L", 1 << 30), id="an endless name"),
        pytest.param(encode_header(b"x", b"x", 0) * 2, id="two extended headers"),
        pytest.param(
            encode_header(b"x", b"x", 0) + encode_header(b"g", b"g", 0), id="global within a member"
        ),
        pytest.param(encode_header(b"x", b"x", 0) + END_OF_ARCHIVE, id="an extended header of nothing"),
        pytest.param(bytes(512) + encode_header(b"f", b"0", 0), id="a lone zero block"),
        pytest.param(encode_header(b"f", b"S", 0), id="old GNU sparse"),
        pytest.param(b"garbage " * 64, id="garbage"),
    ],
)
def test_broken_framing_is_refused(data: bytes) -> None:
    """Headers that are endless, doubled or out of place end the reading, within bounded memory."""
    with pytest.raises(DamagedArchiveError):
        list(MemberReader(source_of(data + END_OF_ARCHIVE)))


def test_drain_reads_to_the_end(whole: bytes) -> None:
    """What follows the end-of-archive (record padding) is read and counted."""
    reader = MemberReader(source_of(whole + bytes(9999), 4000))
    for _ in reader:
        pass
    assert reader.drain() == 9999
