"""The encodings: numbers, names, records, ACLs, sparse maps, JSON comments."""

import contextlib
import os

import pytest
from archive_support import ACL_ACCESS, ACL_DEFAULT, source_of
from hypothesis import given
from hypothesis import strategies as st

from appliance.archive import pax, ustar
from appliance.archive.acl import acl_from_text, acl_to_text
from appliance.archive.encode import MemberEncoder, check_job
from appliance.archive.errors import ArchiveUsageError, DamagedArchiveError
from appliance.archive.formats import FIRST_FORMAT, FORMAT
from appliance.archive.frame import (
    COMMENT_BYTES_MAX,
    END_OF_ARCHIVE,
    TRAILER_BYTES_MIN,
    ImageHeader,
    PartSummary,
    global_header,
    parse_global_header,
    parse_trailer,
    trailer,
)
from appliance.archive.member import GlobalHeader, Member
from appliance.archive.reader import MemberReader
from appliance.archive.sparse import encode_map, read_map

NAMES = st.binary(min_size=1, max_size=400).filter(
    lambda n: b"\0" not in n and n.strip(b"/") == n and not n.startswith(b"./") and n != b"."
)


@given(
    st.lists(
        st.tuples(st.binary(min_size=1).filter(lambda k: b"=" not in k), st.binary()),
        unique_by=lambda p: p[0],
    )
)
def test_records_come_back(pairs: list[tuple[bytes, bytes]]) -> None:
    """Any keyword and any bytes survive, and each length counts itself."""
    body = b"".join(pax.record(*pair) for pair in pairs)
    assert pax.parse_records(body, 0) == dict(pairs)


@pytest.mark.parametrize("length", [*range(90, 104), *range(985, 1005)])
def test_record_lengths_around_a_power_of_ten(length: int) -> None:
    """The length field is right where its own digits carry over."""
    encoded = pax.record(b"k", b"v" * length)
    assert int(encoded.split(b" ")[0]) == len(encoded)


@given(st.binary().filter(lambda n: b"\0" not in n))
def test_attribute_names_come_back(name: bytes) -> None:
    """Names with `=` and `%` survive, and no `=` is left to end the keyword early."""
    encoded = pax.encode_keyword(name)
    assert b"=" not in encoded
    assert pax.decode_keyword(encoded) == name


@given(st.integers(-(2**63), 2**63))
def test_times_are_exact(time_ns: int) -> None:
    """No nanosecond is lost, before 1970 or after."""
    assert pax.parse_time(pax.encode_time(time_ns), 0) == time_ns


@given(st.binary(max_size=600))
def test_garbage_records_are_refused_or_read(body: bytes) -> None:
    """Whatever the bytes, the only error is ours."""
    with contextlib.suppress(DamagedArchiveError):
        pax.parse_records(body, 0)


@given(NAMES, NAMES, st.integers(-(2**62), 2**62), st.integers(0, 2**32 - 2), st.integers(0, 0o7777))
def test_member_headers_come_back(name: bytes, link: bytes, time_ns: int, uid: int, mode: int) -> None:
    """Names of any bytes and length, times, numbers and modes survive one header and its reading."""
    status = os.stat_result((0o120000 | mode, 1, 1, 1, uid, uid, 0, 0, 0, 0), {"st_mtime_ns": time_ns})
    headers = MemberEncoder("job").encode(512, name, b"2", status, link=link)
    member = MemberReader(source_of(headers + END_OF_ARCHIVE)).next()
    assert isinstance(member, Member)
    assert (member.name, member.link, member.raw) == (name, link, headers)
    assert (member.mtime_ns, member.uid, member.gid, member.mode) == (time_ns, uid, uid, mode)
    assert member.image_offset == 512


@pytest.mark.parametrize("size", [2**33 - 1, 2**33, 2**33 + 1, 2**43])
def test_sizes_beyond_the_octal_field(size: int) -> None:
    """What eleven octal digits cannot say, 8 GiB and more, comes back from a record."""
    status = os.stat_result((0o100644, 1, 1, 1, 0, 0, 0, 0, 0, 0), {"st_mtime_ns": 5})
    headers = MemberEncoder("job").encode(512, b"f", b"0", status, size=size)
    member = MemberReader(source_of(headers)).next()
    assert isinstance(member, Member)
    assert (member.size, member.stored, member.data_length) == (size, size, size + -size % 512)
    assert (b"size" in member.records) == (size >= 2**33)


@given(st.binary(min_size=512, max_size=512))
def test_a_garbage_block_is_refused(block: bytes) -> None:
    """Only a block with a right checksum is a header; anything else is named damaged, with its offset."""
    with pytest.raises(DamagedArchiveError) as caught:
        ustar.parse_header(block, 4096)
    assert caught.value.offset == 4096


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"0000644\0", 0o644),
        (b"   644 \0", 0o644),
        (bytes(8), 0),
        (b"\x80" + bytes(6) + b"\x05", 5),
        (b"\xff" * 8, -1),
        (b"\x80\0\0\0" + (1 << 40).to_bytes(8, "big"), 1 << 40),
    ],
)
def test_numbers_in_all_forms(field: bytes, value: int) -> None:
    """Octal and GNU's base-256, positive and negative, are read."""
    assert ustar.parse_number(field, 0) == value


@pytest.mark.parametrize("field", [b"00009\0\0\0", b"0x10\0\0\0\0", b"-1\0\0\0\0\0\0", b"1_0\0\0\0\0\0"])
def test_numbers_that_are_none(field: bytes) -> None:
    """What Python would take for a number but tar would not is refused."""
    with pytest.raises(DamagedArchiveError):
        ustar.parse_number(field, 0)


def test_checksum_is_exact_for_the_largest_sums() -> None:
    """The trick with Adler-32 gives the true sum even where all bytes are 255."""
    header = ustar.encode_header(b"\xff" * 100, b"0", 0, link=b"\xff" * 100, prefix=b"\xff" * 155)
    stored = int(header[148:154], 8)
    assert stored == sum(header[:148]) + sum(header[156:]) + 8 * 32
    ustar.parse_header(header, 0)


@pytest.mark.parametrize("binary", [ACL_ACCESS, ACL_DEFAULT])
def test_acls_come_back(binary: bytes) -> None:
    """The kernel's form survives the text that GNU tar and bsdtar read."""
    text = acl_to_text(binary)
    assert acl_from_text(text, 0) == binary
    assert acl_from_text(b"\n".join(reversed(text.split(b","))), 0) == binary


def test_acl_text_is_numeric() -> None:
    """Names are never needed: ids stand as numbers, entries in acl(5)'s short form."""
    assert acl_to_text(ACL_ACCESS) == b"user::rw-,user:12345:r--,group::r--,mask::rw-,other::---"


def test_acl_of_star_takes_the_number_in_the_fourth_field() -> None:
    """What star and bsdtar append as a fourth field is the id."""
    assert acl_from_text(b"user:joe:r--:12345", 0) == acl_from_text(b"user:12345:r--", 0)


@pytest.mark.parametrize(
    "text", [b"user", b"user:joe:r--", b"user:1:rwz", b"user:99999999999:r--", b"king::rwx", b"mask:5:rwx"]
)
def test_acl_text_that_is_none(text: bytes) -> None:
    """Unknown words, names and oversized ids are refused."""
    with pytest.raises(DamagedArchiveError):
        acl_from_text(text, 0)


@pytest.mark.parametrize("extents", [[], [(0, 512)], [(512, 1024), (1 << 40, 88)]])
def test_sparse_maps_come_back(extents: list[tuple[int, int]]) -> None:
    """A map read back has the same stretches, and at most an empty one at the end."""
    size = (1 << 40) + 88
    encoded = encode_map(extents, size)
    blocks = iter([encoded[i : i + 512] for i in range(0, len(encoded), 512)])
    found = read_map(lambda: next(blocks), size, len(encoded) + sum(n for _, n in extents), 0)
    assert [e for e in found if e[1]] == extents


@pytest.mark.parametrize(
    "text",
    [
        b"2\n0\n10\n5\n10\n",  # they overlap
        b"1\n0\n2000\n",  # beyond the file
        b"1\n0\n900\n",  # more than is stored
        b"99999999\n",
        b"x\n",
        b"1" * 600,
    ],
)
def test_sparse_maps_that_lie(text: bytes) -> None:
    """A map that overlaps, exceeds the file or its data, or never ends, is refused."""
    blocks = iter([text.ljust(1024, b"0")[i : i + 512] for i in (0, 512)])
    with pytest.raises(DamagedArchiveError):
        read_map(lambda: next(blocks), 1000, 800, 0)


@pytest.mark.parametrize("root", [b"/", b"/projects", "/ü".encode(), b"/\xff\\x41"])
@pytest.mark.parametrize("version", [FIRST_FORMAT, FORMAT])
def test_the_global_header_comes_back(root: bytes, version: int) -> None:
    """Format, job and backup root, of any bytes, are read from the first header of an image."""
    header = MemberReader(source_of(global_header("job-1", root, version=version))).next()
    assert isinstance(header, GlobalHeader)
    assert parse_global_header(header.records) == ImageHeader(version, "job-1", root)
    assert parse_trailer(header.records) is None


@pytest.mark.parametrize("count", [0, 3, 9000])
def test_the_trailer_comes_back_in_bounded_comments(count: int) -> None:
    """All parts are listed; no comment exceeds its bound; the whole has what a first read asks for."""
    parts = [PartSummary(f"fs{n}", b"/p/\xff%d" % n, n * 512, n, n) for n in range(count)]
    encoded = trailer("job1", parts, 512)
    assert len(encoded) >= TRAILER_BYTES_MIN
    found: list[PartSummary] = []
    for item in MemberReader(source_of(encoded + END_OF_ARCHIVE)):
        assert isinstance(item, GlobalHeader)
        assert len(item.raw) <= COMMENT_BYTES_MAX
        found += parse_trailer(item.records) or []
    assert found == parts


@pytest.mark.parametrize("comment", [b"", b"hello", b"[1]", b'{"format":"other"}', b"[" * 100000])
def test_comments_of_others_are_passed_over(comment: bytes) -> None:
    """A global comment that is not ours is no error."""
    assert parse_global_header({b"comment": comment}) is None


@pytest.mark.parametrize(
    "comment",
    [
        b'{"format":"spanreel","version":2,"kind":"image"}',
        b'{"format":"spanreel","version":1,"kind":"image","job":"j","root_base64":"?"}',
        b'{"format":"spanreel","version":1,"kind":"image"}',
    ],
)
def test_comments_of_ours_must_be_right(comment: bytes) -> None:
    """A version not known, or a field missing, is damage and not silence."""
    with pytest.raises(DamagedArchiveError):
        parse_global_header({b"comment": comment})


@pytest.mark.parametrize("job", ["", "a b", "a/b", "ü", "x" * 57])
def test_job_names_that_do_not_fit_a_header_name(job: str) -> None:
    """A job that could not be found again in header names is refused before anything is written."""
    with pytest.raises(ArchiveUsageError):
        check_job(job)


@given(st.binary(max_size=150), st.integers(0, 2**62), st.binary(max_size=1200))
def test_an_extended_header_is_a_plain_one(job: bytes, offset: int, records: bytes) -> None:
    """What is kept from one header to the next changes none of its bytes."""
    job = b"j" + job.hex()[:50].encode()
    header = pax.extended_header(job, offset, records)
    name = b"./PaxHeaders/spanreel-%b-%d" % (job, offset)
    assert header[: ustar.BLOCK] == ustar.encode_header(name, b"x", len(records))
    assert header[ustar.BLOCK :] == records + bytes(ustar.padding(len(records)))
    ustar.parse_header(header[: ustar.BLOCK], 0)
