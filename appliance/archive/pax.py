r"""pax extended header records: ``"%d %s=%s\n" % (length, keyword, value)``.

Source: POSIX.1-2017, pax, "pax Extended Header".  Values are bytes here: SCHILY.xattr values are binary.
"""

import functools
import re
import zlib

from appliance.archive.errors import DamagedArchiveError
from appliance.archive.ustar import CHECKSUM_END, CHECKSUM_START, encode_header, padding

__all__ = [
    "RECORDS_BYTES_MAX",
    "RECORDS_MAX",
    "decode_keyword",
    "encode_keyword",
    "encode_time",
    "extended_header",
    "global_record",
    "guarded",
    "header_origin",
    "is_intact",
    "parse_integer",
    "parse_records",
    "parse_time",
    "record",
    "time_record",
]

# An ext4 or XFS inode can carry more than 1 MiB of attributes, in values of at most 64 KiB each; this
# leaves room for a hundred of the largest, and keeps a hostile header from filling the memory.
RECORDS_BYTES_MAX = 8 * 1024 * 1024

# Names of attributes take 64 KiB of an inode (xattr(7)) and seven bytes each; other records are few.
# So that a hostile header of the shortest records fills no hundred MiB as a dictionary.
RECORDS_MAX = 16 * 1024

_NANOSECONDS = 1_000_000_000
_FRACTION_DIGITS = 9
_DIGITS_MAX = 20  # a 64-bit number has at most 20 decimal digits


def record(keyword: bytes, value: bytes) -> bytes:
    """Return one record; its length field counts itself."""
    return b"%d %b=%b\n" % (_length(len(keyword) + len(value) + 3), keyword, value)


def _length(rest: int) -> int:
    """Return the length of a record whose length field is not counted in `rest`."""
    if 9 <= rest < 98:
        return rest + 2
    length = rest + len(b"%d" % rest)
    # The length's own digits may carry over, as 99 -> 101.
    return length if len(b"%d" % length) + rest == length else length + 1


def parse_records(body: bytes, offset: int) -> dict[bytes, bytes]:
    """Return the records of an extended header; the last one of a keyword wins, as POSIX says.

    Raises `DamagedArchiveError` (at `offset`) on a record that breaks the form, and on too many.
    """
    records: dict[bytes, bytes] = {}
    position = 0
    while position < len(body):
        blank = body.find(b" ", position, position + _DIGITS_MAX)
        digits = body[position:blank] if blank > 0 else b""
        end = position + int(digits) if digits.isdigit() else 0
        keyword, equals, value = body[blank + 1 : end - 1].partition(b"=")
        if not position < blank < end <= len(body) or body[end - 1] != 0x0A or not equals:
            raise DamagedArchiveError("a pax record is malformed", offset)
        records[keyword] = value
        if len(records) > RECORDS_MAX:
            raise DamagedArchiveError("too many pax records", offset)
        position = end
    return records


_GUARD = b"crc32 "
_GUARD_BYTES = len(record(b"comment", _GUARD + b"00000000"))
_GUARD_START = b"%d comment=%b" % (_GUARD_BYTES, _GUARD)
_GUARD_FORM = b"%b" + _GUARD_START + b"%08x\n"


def guarded(records: bytes, long_headers: bytes = b"") -> bytes:
    """Return records with one more, a `comment` with their CRC-32 and that of the long names after them.

    The checksum of a member comes after it.  This one is there before anything is done with a name or a size
    in which a bit is flipped.  ustar blocks have a checksum of their own.
    """
    return _GUARD_FORM % (records, zlib.crc32(long_headers, zlib.crc32(records)))


def is_intact(records: bytes, long_headers: bytes) -> bool:
    """Whether a member's records, and the long names after them, are as `guarded` wrote them.

    Those that have no such record at their end are another program's, and taken as they are.
    """
    rest, own = records[:-_GUARD_BYTES], records[-_GUARD_BYTES:]
    if not own.startswith(_GUARD_START):
        return True
    return own[len(_GUARD_START) :] == b"%08x\n" % zlib.crc32(long_headers, zlib.crc32(rest))


def encode_keyword(name: bytes) -> bytes:
    """Escape `=` in an attribute's name so that GNU tar finds it again (src/xheader.c, xattr_decode_keyword).

    It writes every `%` as ``%25`` too; here only those that would be taken for an escape, because bsdtar
    knows none.
    """
    for escape in (b"%25", b"%3D"):
        name = name.replace(escape, b"%25" + escape[1:])
    return name.replace(b"=", b"%3D")


def decode_keyword(keyword: bytes) -> bytes:
    """Undo `encode_keyword`."""
    return keyword.replace(b"%3D", b"=").replace(b"%25", b"%")


def encode_time(time_ns: int) -> bytes:
    """Return nanoseconds since the epoch as pax seconds, exact, with a sign before 1970."""
    sign = b"-" if time_ns < 0 else b""
    seconds, fraction = divmod(abs(time_ns), _NANOSECONDS)
    return b"%b%d.%09d" % (sign, seconds, fraction) if fraction else b"%b%d" % (sign, seconds)


def time_record(time_ns: int) -> bytes:
    """Return the record of a time of last modification."""
    seconds, fraction = divmod(time_ns, _NANOSECONDS)
    if fraction and 1_000_000_000 <= seconds < 10_000_000_000:
        return b"30 mtime=%d.%09d\n" % (seconds, fraction)  # most of all: the years 2001 to 2286
    return record(b"mtime", encode_time(time_ns))


def parse_time(value: bytes, offset: int) -> int:
    """Return pax seconds as nanoseconds; digits beyond the ninth are dropped.

    Raises `DamagedArchiveError` (at `offset`) if `value` is no decimal number.
    """
    if (
        value[-10:-9] == b"."
        and (digits := value[:-10] + value[-9:]).isdigit()
        and len(digits) <= _DIGITS_MAX
    ):
        return int(digits)  # as nearly all are written
    negative = value.startswith(b"-")
    seconds, _, fraction = value[negative:].partition(b".")
    if not (seconds + fraction).isdigit() or len(seconds) > _DIGITS_MAX:
        raise DamagedArchiveError(f"a time holds {value[:40]!r}", offset)
    fraction = fraction[:_FRACTION_DIGITS].ljust(_FRACTION_DIGITS, b"0")
    time_ns = int(seconds or b"0") * _NANOSECONDS + int(fraction)
    return -time_ns if negative else time_ns


def parse_integer(value: bytes, offset: int) -> int:
    """Return a decimal value; raises `DamagedArchiveError` (at `offset`) if it is none or too long."""
    if not value.isdigit() or len(value) > _DIGITS_MAX:
        raise DamagedArchiveError(f"a number holds {value[:40]!r}", offset)
    return int(value)


_OUR_NAME = re.compile(rb"\./(?:PaxHeaders|GlobalHead)/spanreel-([A-Za-z0-9._-]+)-(\d{1,20})\Z")


def header_origin(name: bytes) -> tuple[bytes, int] | None:
    """Return the job and offset that the name of an `x` or `g` header of ours holds, None for another's."""
    match = _OUR_NAME.match(name)
    return (match[1], int(match[2])) if match else None


def extended_header(job: bytes, offset: int, records: bytes) -> bytes:
    """Return an `x` header with its body.

    Its name holds the job and the offset in the image at which it stands, so that a reader that lost
    its way can tell a header of this image from one inside a saved tar file.
    """
    size = len(records)
    digits = b"%d" % offset
    name, between, total, rest = _frame(job, len(digits), size)
    # Headers of one job whose bodies have one size differ in the offset and, by its digits, in the checksum.
    return b"%b%b%b%06o\0 %b%b" % (
        name,
        digits,
        between,
        total + sum(digits),
        rest,
        records.ljust(size + padding(size), b"\0"),
    )


@functools.lru_cache(256)
def _frame(job: bytes, digits: int, size: int) -> tuple[bytes, bytes, int, bytes]:
    """Return the block around an offset of so many digits: before, behind, checksum without it, the rest."""
    name = b"./PaxHeaders/spanreel-%b-" % job
    block = encode_header(name + bytes(digits), b"x", size)
    checksum = int(block[CHECKSUM_START : CHECKSUM_START + 6], 8)
    return name, block[len(name) + digits : CHECKSUM_START], checksum, block[CHECKSUM_END:]


def global_record(name: bytes, records: bytes) -> bytes:
    """Return a `g` header with its body."""
    return encode_header(name, b"g", len(records)) + records + bytes(padding(len(records)))
