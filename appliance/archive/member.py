"""One member as a reader sees it: what routing needs at hand, the rest decoded when asked for."""

import contextlib
import functools
from typing import NamedTuple

from appliance.archive.acl import acl_from_text
from appliance.archive.errors import DamagedArchiveError
from appliance.archive.kinds import DUMPDIR_FLAG, Kind
from appliance.archive.pax import decode_keyword, header_origin, parse_integer, parse_time
from appliance.archive.ustar import DEVICE_MAJOR, DEVICE_MINOR, GID, MODE, MTIME, TYPE, UID, parse_number

__all__ = ["GlobalHeader", "Member"]

_XATTR = b"SCHILY.xattr."
_NAME_BYTES = 100  # of the first header's name field
_MODE_BITS = 0o7777
_NANOSECONDS = 1_000_000_000
_ID_MAX = 0xFFFFFFFE  # -1 means "leave it" to chown(2)
_TIME_NS_MAX = 2**63 * _NANOSECONDS


@functools.lru_cache(256)
def _identity(mode: bytes, uid: bytes, gid: bytes) -> tuple[int, int, int]:
    """Decode mode, user and group number of a header.  Raises `DamagedArchiveError`, at no true place."""
    numbers = parse_number(mode, 0) & _MODE_BITS, parse_number(uid, 0), parse_number(gid, 0)
    if not (0 <= numbers[1] <= _ID_MAX and 0 <= numbers[2] <= _ID_MAX):
        raise DamagedArchiveError("a user or group number is out of range", 0)
    return numbers


class GlobalHeader(NamedTuple):
    """A `g` header: its records, its blocks as they stand in the stream, and where they stand."""

    records: dict[bytes, bytes]
    raw: bytes
    offset: int


class Member(NamedTuple):
    """A member, without its data.

    `name` has no leading or trailing slash ("./" is kept off as well: the root is empty) but may hold
    ``..``; `link` is the link name as it stands; `size` the bytes the file has when restored; `stored` the
    bytes of its body in the archive, followed by zeros up to `data_length`; `raw` all its header blocks,
    which begin at `offset` in the image; `records` its pax records; `fields` the fields of its ustar block.
    The properties raise `DamagedArchiveError` if what they decode is malformed.
    """

    name: bytes
    link: bytes
    kind: Kind
    size: int
    stored: int
    data_length: int
    offset: int
    raw: bytes
    records: dict[bytes, bytes]
    fields: tuple[bytes, ...]

    @property
    def is_sparse(self) -> bool:
        """Whether the body begins with a map (GNU.sparse 1.0)."""
        return b"GNU.sparse.major" in self.records

    @property
    def is_dumpdir(self) -> bool:
        """Whether the body is a directory's list (dumpdir.py)."""
        return self.fields[TYPE] == DUMPDIR_FLAG

    @property
    def image_offset(self) -> int | None:
        """Where the member stood in the image it was written for, None in an archive of another program.

        On a feed, which has only some of the members, this differs from `offset`.
        """
        origin = header_origin(self.raw[:_NAME_BYTES].rstrip(b"\0"))
        return origin[1] if origin else None

    @property
    def mode(self) -> int:
        """The permission bits, with set-user-id, set-group-id and sticky."""
        return parse_number(self.fields[MODE], self.offset) & _MODE_BITS

    def _number(self, keyword: bytes, field: int) -> int:
        """Return a user or group number."""
        value = self.records.get(keyword)
        number = (
            parse_number(self.fields[field], self.offset)
            if value is None
            else parse_integer(value, self.offset)
        )
        if not 0 <= number <= _ID_MAX:
            raise DamagedArchiveError(f"{keyword.decode()} {number} is out of range", self.offset)
        return number

    @property
    def uid(self) -> int:
        """The owner's number."""
        return self._number(b"uid", UID)

    @property
    def gid(self) -> int:
        """The group's number."""
        return self._number(b"gid", GID)

    @property
    def mtime_ns(self) -> int:
        """The time of last modification, in nanoseconds since the epoch."""
        value = self.records.get(b"mtime")
        if value is None:
            time_ns = parse_number(self.fields[MTIME], self.offset) * _NANOSECONDS
        else:
            time_ns = parse_time(value, self.offset)
        if abs(time_ns) >= _TIME_NS_MAX:
            raise DamagedArchiveError("mtime is out of range", self.offset)
        return time_ns

    @property
    def identity(self) -> tuple[int, int, int]:
        """Mode, user and group number; most files of a tree have those of the one before."""
        if b"uid" not in self.records and b"gid" not in self.records:
            with contextlib.suppress(DamagedArchiveError):  # told below, with the right place
                return _identity(*self.fields[MODE : GID + 1])
        return self.mode, self.uid, self.gid

    @property
    def device(self) -> tuple[int, int]:
        """The major and minor number of a device."""
        fields = self.fields
        return parse_number(fields[DEVICE_MAJOR], self.offset), parse_number(
            fields[DEVICE_MINOR], self.offset
        )

    @property
    def xattrs(self) -> list[tuple[bytes, bytes]]:
        """The extended attributes, as name and value."""
        skip = len(_XATTR)
        return [
            (decode_keyword(key[skip:]), value)
            for key, value in self.records.items()
            if key.startswith(_XATTR)
        ]

    @property
    def acl_access(self) -> bytes | None:
        """The access ACL in the kernel's form."""
        text = self.records.get(b"SCHILY.acl.access")
        return None if text is None else acl_from_text(text, self.offset)

    @property
    def acl_default(self) -> bytes | None:
        """A directory's default ACL in the kernel's form."""
        text = self.records.get(b"SCHILY.acl.default")
        return None if text is None else acl_from_text(text, self.offset)
