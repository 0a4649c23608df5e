"""Reading an image as it streams by: headers are parsed, data is left alone.

Two users: the connection server hands each member, whole and raw, to feeds by its name; the extractor
restores them.  Both get views into one buffer, so nothing is copied that need not be.

The reader never waits for more bytes than the next header or the data asked for: on a restore the data
connection delivers only what was requested, and reading ahead would hang.
"""

import re
from collections.abc import Callable, Iterator

from appliance.archive.errors import ArchiveUsageError, DamagedArchiveError, TruncatedArchiveError
from appliance.archive.formats import Checksums, Sums
from appliance.archive.kinds import DUMPDIR_FLAG, KIND_OF_FLAG, Kind
from appliance.archive.member import GlobalHeader, Member
from appliance.archive.pax import RECORDS_BYTES_MAX, header_origin, is_intact, parse_integer, parse_records
from appliance.archive.stage import Sink
from appliance.archive.ustar import (
    BLOCK,
    LINK,
    MAGIC,
    NAME,
    PREFIX,
    SIZE,
    TYPE,
    ZERO_BLOCK,
    padding,
    parse_header,
    parse_number,
)

__all__ = ["BUFFER_BYTES", "GLOBAL_BYTES_MAX", "LONG_NAME_BYTES_MAX", "MemberReader"]

# As the writer's: per-call costs vanish beside copying it.
BUFFER_BYTES = 1024 * 1024

# Our own global headers hold 512 KiB; bsdtar's limit for others' is 1 MiB.
GLOBAL_BYTES_MAX = 1024 * 1024

# 256 times PATH_MAX: trees can be deeper than a path, but a name is kept in memory.
LONG_NAME_BYTES_MAX = 1024 * 1024

# An extended header, a body of one block, and the header that they are for.
_QUICK_BYTES = 3 * BLOCK

_SIZE_MAX = 2**63 - BLOCK
_BODY_LIMITS = {
    b"x": RECORDS_BYTES_MAX,
    b"g": GLOBAL_BYTES_MAX,
    b"L": LONG_NAME_BYTES_MAX,
    b"K": LONG_NAME_BYTES_MAX,
}

# How the names of our own `x` and `g` headers begin.
OUR_NAMES = (b"./PaxHeaders/spanreel-", b"./GlobalHead/spanreel-")

_NAME_BYTES = 100  # of a header's name field
_DATA_KINDS = (Kind.FILE, Kind.UNKNOWN)


def _text(field: bytes) -> bytes:
    """Return a field up to its first NUL."""
    return field.split(b"\0", 1)[0]


class MemberReader:
    """Splits a stream into members.

    `readinto(view)` fills (a part of) a view and returns how many bytes, 0 at the end, as
    `socket.recv_into` and `io.RawIOBase.readinto` do.  `offset` is where in the image the first byte stands.

    Iterate, or call `next`; then, before the next call, take a member's data by `data`, `copy` or `skip`
    (what is not taken is skipped).  Views are valid until the next call of any method.  Every method
    raises `DamagedArchiveError` if the stream ends in the middle or is malformed; `resync` finds what comes
    after the damage.  With `checking`, `checksums` may be asked for: as format `version` has them, or as all
    formats do until the user, who knows what the headers say, sets that.
    """

    def __init__(
        self, readinto: Callable[[memoryview], int | None], offset: int = 0, *, checking: bool = False
    ) -> None:
        self.version: int | None = None
        self._readinto = readinto
        self._checking = checking
        self._sum: Sums | None = None
        self._mark = -1  # where in the buffer the bytes begin that the checksum lacks; -1: none is made
        self._has_member = False
        self._view = memoryview(bytearray(BUFFER_BYTES))
        self._low = 0
        self._high = 0
        self._base = offset  # of the buffer's first byte
        self._data_left = 0  # with padding
        self._body_left = 0  # without
        self._ended = False

    @property
    def offset(self) -> int:
        """The offset in the image of the next byte."""
        return self._base + self._low

    @property
    def is_checking(self) -> bool:
        """Whether `checksums` may be asked for."""
        return self._checking

    @property
    def data_left(self) -> int:
        """Bytes of the present member's data, with padding, that were not taken; 0 within headers."""
        return self._data_left

    def __iter__(self) -> Iterator[Member | GlobalHeader]:
        """Yield members and global headers up to the end-of-archive."""
        while (item := self.next()) is not None:
            yield item

    def next(self) -> Member | GlobalHeader | None:
        """Return the next member or global header, None at the end-of-archive.

        A stream that ends without one is damaged.
        """
        self.skip()
        if self._ended:
            return None
        if self._checking:
            self._mark, self._sum, self._has_member = self._low, None, False
        offset = self.offset
        quick = self._quick(offset)
        if quick is not None:
            return quick
        raw: list[bytes] = []
        seen: dict[bytes, bytes] = {}
        while True:
            at = self.offset
            block = self._take(BLOCK)
            if block == ZERO_BLOCK:
                self._end(bool(seen), at)
                return None
            fields = parse_header(block, at)
            flag = fields[TYPE]
            limit = _BODY_LIMITS.get(flag)
            if limit is None:
                # Two pieces of each header, its block and its body; those of the `x` header come first.
                long_headers = b"".join(raw[2:])
                raw.append(block)
                return self._begin(offset, b"".join(raw), long_headers, fields, seen)
            body, whole = self._body(fields, limit, at)
            if flag == b"g":
                if seen:
                    raise DamagedArchiveError("a global header within a member's headers", at)
                return GlobalHeader(parse_records(body, at), block + whole, at)
            if flag in seen:
                raise DamagedArchiveError(f"two {flag.decode()} headers for one member", at)
            seen[flag] = body
            raw += (block, whole)

    def _quick(self, offset: int) -> Member | None:
        """Return the next member if it is as most of ours are: an `x` header of one block, and all is here.

        None for anything else, be it damaged or only longer: `next` looks at each block by itself.
        """
        low = self._low
        if self._high - low < _QUICK_BYTES:
            return None
        raw = bytes(self._view[low : low + _QUICK_BYTES])
        try:
            extended = parse_header(raw[:BLOCK], offset)
            size = parse_number(extended[SIZE], offset)
            if extended[TYPE] != b"x" or not 0 < size <= BLOCK:
                return None
            fields = parse_header(raw[2 * BLOCK :], offset)
        except DamagedArchiveError:
            return None
        if fields[TYPE] in _BODY_LIMITS:
            return None
        self._low = low + _QUICK_BYTES
        return self._begin(offset, raw, b"", fields, {b"x": raw[BLOCK : BLOCK + size]})

    def take_run(self, take: Callable[[memoryview, int, int], int]) -> memoryview:
        """Have `take(buffer, low, high)` take what is at hand, from the next header on; return what it took.

        It returns where the last of the members that it took ends.  There are no `checksums` of them.
        """
        self.skip()
        if self._ended or self._low == self._high:
            return self._view[:0]
        self._stop_sum()
        low = self._low
        self._low = take(self._view, low, self._high)
        return self._view[low : self._low]

    def data(self) -> Iterator[memoryview]:
        """Yield what is left of the member's body, without its padding."""
        while self._body_left:
            view = self._chunk(self._body_left)
            self._body_left -= len(view)
            self._data_left -= len(view)
            yield view

    def read_block(self) -> bytes:
        """Return the next 512 bytes of the member's body: the map of a sparse file is read so."""
        if self._body_left < BLOCK:
            raise DamagedArchiveError("a member ends within its map", self.offset)
        self._body_left -= BLOCK
        self._data_left -= BLOCK
        return self._take(BLOCK)

    def copy(self, member: Member, sink: Sink) -> int:
        """Send `member`, the one returned last, to `sink` as it stands; return how many bytes."""
        if self._data_left != member.data_length:
            raise ArchiveUsageError("some of the member's data is taken already")
        sink(member.raw)
        while self._data_left:
            view = self._chunk(self._data_left)
            self._data_left -= len(view)
            sink(view)
        self._body_left = 0
        return len(member.raw) + member.data_length

    def skip(self) -> None:
        """Pass over what is left of the member's data."""
        while self._data_left:
            self._data_left -= len(self._chunk(self._data_left))
        self._body_left = 0

    def checksums(self) -> Checksums:
        """Pass over what is left of the member returned last; return the checksums of all its bytes."""
        self.skip()
        if not self._has_member:
            raise ArchiveUsageError("this reader makes no checksums, or returned no member yet")
        self._add_to_sum()
        assert self._sum is not None
        return self._sum.made()

    def _add_to_sum(self) -> None:
        """Have the checksum take what it lacks; of a small member that is all of it, in one call."""
        piece = self._view[self._mark : self._low]
        if self._sum is None:
            self._sum = Sums(self.version, piece)
        else:
            self._sum.update(piece)
        self._mark = self._low

    def _stop_sum(self) -> None:
        """What comes next is no member as it was written."""
        self._mark, self._has_member = -1, False

    def resync(self, job: bytes | None) -> bool:
        """Find the next header of ours after damage, for `next` to return; false if there is none.

        Only a header whose name holds the offset at which it stands, and `job` if that is known, is taken:
        files contain archives, too.  On an archive of another program, or on a feed, there is none.
        """
        self._data_left = self._body_left = 0
        self._ended = False
        self._stop_sum()
        while self._available(BLOCK):
            block = self._view[self._low : self._low + BLOCK]
            if block[: len(OUR_NAMES[0])] in OUR_NAMES and self._is_header(bytes(block), job):
                return True
            self._low += BLOCK
        return False

    def _is_header(self, block: bytes, job: bytes | None) -> bool:
        """Whether a block is a header of ours at its own place."""
        origin = header_origin(block[:_NAME_BYTES].rstrip(b"\0"))
        if origin is None or origin[1] != self.offset or job not in (None, origin[0]):
            return False
        try:
            parse_header(block, self.offset)
        except DamagedArchiveError:
            return False
        return True

    def _available(self, count: int) -> bool:
        """Whether `count` bytes are in the buffer, or come in; a rest that is shorter is dropped."""
        while self._high - self._low < count:
            if not self._fill():
                self._low = self._high
                return False
        return True

    def drain(self) -> int:
        """Read and drop everything up to the end of the stream (a sender must not see it closed early)."""
        self._stop_sum()
        dropped = self._high - self._low
        self._low = self._high
        while self._fill():
            dropped += self._high - self._low
            self._low = self._high
        return dropped

    def advance(self, offset: int) -> None:
        """Drop everything before `offset`, also what is left of the present member.

        All of it must be on its way: it is received.
        """
        self._data_left = self._body_left = 0
        self._stop_sum()
        while self.offset < offset:
            self._chunk(offset - self.offset)

    def jump(self, offset: int) -> None:
        """State that the next byte to come stands at `offset`: the range read before is used up.

        Raises `ArchiveUsageError` if some of that range is still here.
        """
        self.skip()
        if self._low != self._high:
            raise ArchiveUsageError(f"{self._high - self._low} bytes of the range before are not read yet")
        self._base = offset - self._low
        self._ended = False

    def _fill(self) -> bool:
        """Read what there is room for; false at the end of the stream."""
        is_full = self._high == BUFFER_BYTES
        if is_full or self._low == self._high:
            if self._mark >= 0:
                self._add_to_sum()
                self._mark = 0
            rest = self._high - self._low
            if rest:
                self._view[:rest] = bytes(self._view[self._low : self._high])
            self._base += self._low
            self._low, self._high = 0, rest
        got = self._readinto(self._view[self._high :])
        self._high += got or 0
        return bool(got)

    def _chunk(self, count: int) -> memoryview:
        """Take up to `count` bytes of a member's data, at least one."""
        if self._low == self._high and not self._fill():
            raise TruncatedArchiveError("the stream ends within a member", self.offset)
        low = self._low
        self._low = min(self._high, low + count)
        return self._view[low : self._low]

    def _take(self, count: int) -> bytes:
        """Take exactly `count` bytes."""
        low = self._low
        if self._high - low >= count:
            self._low = low + count
            return bytes(self._view[low : self._low])
        pieces = []
        while count:
            if self._low == self._high and not self._fill():
                raise TruncatedArchiveError("the stream ends without an end-of-archive", self.offset)
            piece = bytes(self._view[self._low : min(self._high, self._low + count)])
            self._low += len(piece)
            count -= len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    def _end(self, within: bool, at: int) -> None:
        """Check the end-of-archive, of whose two zero blocks one is taken."""
        if within:
            raise DamagedArchiveError("the archive ends after an extended header", at)
        if self._take(BLOCK) != ZERO_BLOCK:
            raise DamagedArchiveError("a lone zero block between members", at)
        self._ended = True

    def _body(self, fields: tuple[bytes, ...], limit: int, at: int) -> tuple[bytes, bytes]:
        """Take the body of an extended header; return it without and with its padding."""
        size = parse_number(fields[SIZE], at)
        if not 0 <= size <= limit:
            raise DamagedArchiveError(f"an extended header of {size} bytes (at most {limit})", at)
        whole = self._take(size + padding(size))
        return whole[:size], whole

    def _begin(
        self,
        offset: int,
        raw: bytes,
        long_headers: bytes,
        fields: tuple[bytes, ...],
        seen: dict[bytes, bytes],
    ) -> Member:
        """Return the member whose header blocks are `raw`; see first that they are undamaged."""
        if b"x" in seen and not is_intact(seen[b"x"], long_headers):
            raise DamagedArchiveError("a member's records do not match their checksum", offset)
        self._has_member = self._checking
        return self._member(offset, raw, fields, seen)

    def _member(self, offset: int, raw: bytes, fields: tuple[bytes, ...], seen: dict[bytes, bytes]) -> Member:
        """Build a member and get ready for its data."""
        records = parse_records(seen[b"x"], offset) if b"x" in seen else {}
        name = records.get(b"path")
        if name is None:
            name = _text(seen[b"L"] if b"L" in seen else fields[NAME])
            # GNU tar's own format keeps times where POSIX has the prefix; its magic is "ustar  ".
            prefix = _text(fields[PREFIX]) if fields[MAGIC] == b"ustar\0" and b"L" not in seen else b""
            name = prefix + b"/" + name if prefix else name
        link = records.get(b"linkpath")
        if link is None:
            link = _text(seen[b"K"] if b"K" in seen else fields[LINK])
        flag = fields[TYPE]
        if flag == b"S":
            raise DamagedArchiveError("a sparse file in GNU's old format, which is not read here", offset)
        kind = KIND_OF_FLAG.get(flag, Kind.UNKNOWN)
        if kind is Kind.FILE and name.endswith(b"/"):  # how tars before POSIX wrote directories
            kind = Kind.DIRECTORY
        stored = 0
        if kind in _DATA_KINDS or flag == DUMPDIR_FLAG:
            sized = records.get(b"size")
            stored = parse_number(fields[SIZE], offset) if sized is None else parse_integer(sized, offset)
            if not 0 <= stored <= _SIZE_MAX:
                raise DamagedArchiveError(f"a member of {stored} bytes", offset)
        size = stored
        if b"GNU.sparse.map" in records or b"GNU.sparse.size" in records:
            kind = Kind.UNKNOWN  # formats 0.0 and 0.1: what is stored is not the file
        if b"GNU.sparse.major" in records:
            name, size = _sparse(records, name, offset)
        if max(len(name), len(link)) > LONG_NAME_BYTES_MAX:
            raise DamagedArchiveError(f"a name of more than {LONG_NAME_BYTES_MAX} bytes", offset)
        self._body_left = stored
        self._data_left = stored + padding(stored)
        return Member(_plain(name), link, kind, size, stored, self._data_left, offset, raw, records, fields)


def _sparse(records: dict[bytes, bytes], name: bytes, offset: int) -> tuple[bytes, int]:
    """Return the true name and size of a sparse member; GNU tar keeps its name in a record of its own."""
    version = records[b"GNU.sparse.major"], records.get(b"GNU.sparse.minor")
    size = records.get(b"GNU.sparse.realsize")
    if version != (b"1", b"0") or size is None:
        raise DamagedArchiveError("a sparse file in a format that is not read here", offset)
    real_size = parse_integer(size, offset)
    if real_size > _SIZE_MAX:
        raise DamagedArchiveError(f"a sparse file of {real_size} bytes", offset)
    return records.get(b"GNU.sparse.name", name), real_size


_HERE = re.compile(rb"(?:\./+)*+")


def _plain(name: bytes) -> bytes:
    """Return a member's name without leading "./", leading and trailing slashes."""
    if name.startswith(b"./"):
        name = name[_HERE.match(name).end() :]  # type: ignore[union-attr]  # it matches an empty string, too
    name = name.strip(b"/")
    return b"" if name == b"." else name
