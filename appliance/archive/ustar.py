"""The 512-byte ustar header block, encoded and decoded from one layout.

Source: POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format" for the
base-256 numbers and the `L` and `K` headers.
"""

import functools
import struct
import zlib

from appliance.archive.errors import DamagedArchiveError

__all__ = [
    "BLOCK",
    "CHECKSUM",
    "CHECKSUM_END",
    "CHECKSUM_START",
    "DEVICE_MAJOR",
    "DEVICE_MINOR",
    "GID",
    "GNU_MAGIC",
    "LINK",
    "MAGIC",
    "MODE",
    "MTIME",
    "NAME",
    "NAME_BYTES",
    "OCTAL_ID_MAX",
    "OCTAL_SIZE_MAX",
    "POSIX_MAGIC",
    "PREFIX",
    "SIZE",
    "TYPE",
    "UID",
    "ZERO_BLOCK",
    "encode_header",
    "long_header",
    "padding",
    "parse_header",
    "parse_number",
    "split_name",
]

BLOCK = 512  # every header and every body is a multiple of this (POSIX: "logical record")
ZERO_BLOCK = bytes(BLOCK)

# The layout, in order; the constants below index what `parse_header` returns.
_BACK = struct.Struct("c100s6s2s32s32s8s8s155s12x")
_LAYOUT = struct.Struct("100s8s8s8s12s12s8s" + _BACK.format)
NAME, MODE, UID, GID, SIZE, MTIME, CHECKSUM, TYPE, LINK, MAGIC = range(10)
_VERSION, _UNAME, _GNAME, DEVICE_MAJOR, DEVICE_MINOR, PREFIX = range(10, 16)

NAME_BYTES = 100
_PREFIX_BYTES = 155
_HALF = 256

POSIX_MAGIC = b"ustar\x0000"  # with the version
GNU_MAGIC = b"ustar  \0"  # what GNU tar asks of a `D` header; there is no prefix then

# Where a block has its checksum: six octal digits, a NUL and a space.
CHECKSUM_START = 148
CHECKSUM_END = 156

OCTAL_ID_MAX = 0o7777777  # seven octal digits and a NUL: user, group, device numbers
OCTAL_SIZE_MAX = 0o77777777777  # eleven: sizes and times


def _byte_sum(block: bytes) -> int:
    """Return the sum of a block's 512 bytes.

    Adler-32's low half is 1 + the sum modulo 65521; 256 bytes sum to 65280 at most, so two halves
    give the exact sum at C speed.
    """
    adler = zlib.adler32
    return (adler(block[:_HALF]) & 0xFFFF) + (adler(block[_HALF:]) & 0xFFFF) - 2


def padding(size: int) -> int:
    """Return how many zero bytes follow a body of `size` bytes."""
    return -size % BLOCK


def encode_header(
    name: bytes,
    flag: bytes,
    size: int,
    *,
    mode: int = 0o644,
    owner: tuple[bytes, bytes, bytes, bytes] = (b"0000000", b"0000000", b"", b""),
    mtime: int = 0,
    link: bytes = b"",
    prefix: bytes = b"",
    device: tuple[int, int] = (0, 0),
    magic: bytes = POSIX_MAGIC,
) -> bytes:
    """Return one header block.

    `owner` is (uid, gid, user name, group name), the numbers already octal: callers cache them, one
    tuple per user.  `size` and `mtime` must fit their fields (`OCTAL_SIZE_MAX`); names are cut to theirs.
    """
    uid, gid, user, group = owner
    name = name[:NAME_BYTES].ljust(NAME_BYTES, b"\0")
    front = b"%b%07o\0%b\0%b\0%011o\0%011o\0" % (name, mode, uid, gid, size, mtime)
    back, total = _back(flag, link, user, group, device, prefix, magic)
    # The sum of the front's 148 bytes stays below Adler-32's modulus (see `_byte_sum`).
    return b"%b%06o\0 %b" % (front, (zlib.adler32(front) & 0xFFFF) - 1 + total, back)


@functools.lru_cache(1024)
def _back(
    flag: bytes,
    link: bytes,
    user: bytes,
    group: bytes,
    device: tuple[int, int],
    prefix: bytes,
    magic: bytes,
) -> tuple[bytes, int]:
    """Return what follows a header's checksum, and its share of it: most files of a directory have the same.

    The share holds the eight spaces that stand for the checksum itself (POSIX).
    """
    fields = (flag, link, magic[:6], magic[6:], user, group, b"%07o" % device[0], b"%07o" % device[1], prefix)
    back = _BACK.pack(*fields)
    return back, sum(back) + 8 * 0x20


def long_header(flag: bytes, name: bytes) -> bytes:
    """Return a GNU `L` (name) or `K` (link name) header with its body: for names no other form takes."""
    size = len(name) + 1
    return encode_header(b"././@LongLink", flag, size) + name + bytes(1 + padding(size))


def split_name(name: bytes) -> tuple[bytes, bytes] | None:
    """Split `name` into the ustar fields (prefix, name), or return None where it does not fit."""
    if len(name) <= NAME_BYTES:
        return b"", name
    cut = name.find(b"/", len(name) - NAME_BYTES - 1)
    if 0 < cut <= _PREFIX_BYTES and cut < len(name) - 1:
        return name[:cut], name[cut + 1 :]
    return None


def parse_number(field: bytes, offset: int) -> int:
    """Return the value of an octal or (GNU) base-256 number field.

    Raises `DamagedArchiveError` (at `offset`) for anything else.
    """
    digits = field.strip(b" \0")
    if digits.isdigit():
        try:
            return int(digits, 8)
        except ValueError:
            raise DamagedArchiveError(f"a number field holds {digits!r}", offset) from None
    if field[0] & 0x80:
        value = int.from_bytes(field, "big")
        bits = 8 * len(field)
        # 0x80 marks a positive, 0xff a negative number in two's complement.
        return value - (1 << bits) if field[0] == 0xFF else value - (1 << (bits - 1))
    if digits:
        raise DamagedArchiveError(f"a number field holds {digits!r}", offset)
    return 0


def parse_header(block: bytes, offset: int) -> tuple[bytes, ...]:
    """Return the raw fields of a header block, after checking its checksum.

    Raises `DamagedArchiveError` (at `offset`) if the block is no header.
    """
    fields: tuple[bytes, ...] = _LAYOUT.unpack(block)
    stored = fields[CHECKSUM]
    # POSIX: the checksum is taken with its own field as eight spaces.
    if parse_number(stored, offset) != _byte_sum(block) - sum(stored) + 8 * 0x20:
        raise DamagedArchiveError("a header was expected, its checksum does not match", offset)
    return fields
