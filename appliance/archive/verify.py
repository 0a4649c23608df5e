"""Checking an image from its first byte to its last, whatever is damaged on the way.

Members are read as they come, and compared with the index that follows them; after damage the reader goes on
at the next header of the same image.  So a flipped bit costs the member it is in, a lost record the members
in it, and what is lost is known by its path: from the index, which is also what makes rebuilding a catalogue
possible.  Memory is bounded: an index follows every few thousand members.
"""

import contextlib
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple, Protocol

from appliance.archive.dumpdir import Dumpdir
from appliance.archive.errors import DamagedArchiveError, TruncatedArchiveError
from appliance.archive.follow import read_dumpdir
from appliance.archive.formats import Checksums
from appliance.archive.frame import ImageHeader, PartSummary, is_exact, parse_global_header, parse_trailer
from appliance.archive.index import Index, IndexEntry, parse_index
from appliance.archive.kinds import Kind
from appliance.archive.member import GlobalHeader, Member
from appliance.archive.pax import header_origin
from appliance.archive.reader import MemberReader

__all__ = ["UNCHECKED_BYTES_MAX", "Examined", "Verifier", "VerifyObserver"]

# Members that wait for their index: twice what one can speak of, and a bound for hostile images.
UNCHECKED_BYTES_MAX = 32 * 1024 * 1024

# Indexes and parts that are counted: those of some three thousand million files.  Likewise a bound.
COUNTED_MAX = 1_000_000

_WAITING_BYTES = 2000  # what a waiting member takes besides its name
_KEPT = (b"mtime", b"uid", b"gid", b"size", b"GNU.sparse.realsize")
_NAME_BYTES = 100  # of a header's name field


class VerifyObserver(Protocol):
    """Told as the image goes by.  Paths are global."""

    def entry(self, entry: IndexEntry, is_whole: bool, /) -> None:
        """A line of an index, and whether the member it speaks of is in the image as it was saved."""

    def unlisted(self, member: Member, /) -> None:
        """A member whose index is lost: its headers can be read, its data cannot be checked."""

    def directory(self, path: bytes, dumpdir: Dumpdir, /) -> None:
        """The list of a directory in an incremental image; damage to it shows later, by its checksum."""

    def problem(self, path: bytes, text: str, /) -> None:
        """Damage.  An empty path: of what stands between the files."""


@dataclass
class Examined:
    """What an image came to.

    `members` whole ones, `damaged` those that are not, `unchecked` those whose index is lost; `problems` all
    that was told.  `header`, `parts`: what the image says about itself, as far as it can be read.
    `complete`: it has its end-of-archive.  `bytes` up to there.
    """

    members: int = 0
    damaged: int = 0
    unchecked: int = 0
    problems: int = 0
    bytes: int = 0
    complete: bool = False
    header: ImageHeader | None = None
    parts: list[PartSummary] = field(default_factory=list)


class _Waiting(NamedTuple):
    """A member that was read, and waits for its index."""

    member: Member
    length: int
    checksums: Checksums


class _Range(NamedTuple):
    """What one index spoke of."""

    start: int
    total: int


class Verifier:
    """Examines one image; one use.

    `readinto` as for `MemberReader`.  `result` is up to date at any time.
    """

    def __init__(
        self, readinto: Callable[[memoryview], int | None], observer: VerifyObserver, job: str | None = None
    ) -> None:
        """`job`: the name that the image's headers bear; None takes it from the first that is read."""
        self.result = Examined()
        self._reader = MemberReader(readinto, checking=True)
        self._observer = observer
        self._job = job.encode() if job else None
        self._waiting: dict[int, _Waiting] = {}
        self._waiting_bytes = 0
        self._ranges: list[_Range] = []
        self._trailer_at: int | None = None
        self._breaks: list[tuple[int, str]] = []  # offset and what was found there

    def run(self) -> Examined:
        """Read the whole image.  Raises what `readinto` raises."""
        reader, more = self._reader, True
        while more:
            try:
                more = self._step()
            except TruncatedArchiveError as error:
                self._broken(error)
                more = False
            except DamagedArchiveError as error:
                self._broken(error)
                more = reader.resync(self._job)
        self.result.bytes = reader.offset
        self._drop_waiting(reader.offset)
        self._tell_breaks(reader.offset + 1)
        self._check_parts()
        return self.result

    def _step(self) -> bool:
        """Read one member or header; false at the end-of-archive."""
        reader = self._reader
        item = reader.next()
        if item is None:
            self.result.complete = True
            return False
        if isinstance(item, GlobalHeader):
            self._header(item)
        else:
            self._member(item)
        return True

    def _problem(self, path: bytes, text: str) -> None:
        self.result.problems += 1
        self._observer.problem(path, text)

    def _broken(self, error: DamagedArchiveError) -> None:
        """The framing is lost; what that costs is known when the next index comes."""
        if len(self._breaks) < COUNTED_MAX:
            self._breaks.append((error.offset, error.what))

    def _tell_breaks(self, before: int) -> None:
        """Tell of the breaks before an offset that no index explains."""
        for offset, what in self._breaks:
            if offset < before:
                self._problem(b"", f"{what} (offset {offset} of the image)")
        self._breaks = [each for each in self._breaks if each[0] >= before]

    def _member(self, member: Member) -> None:
        path = b"/" + member.name
        if member.is_dumpdir:
            with contextlib.suppress(DamagedArchiveError):
                self._observer.directory(path, read_dumpdir(self._reader, member))
        try:
            checksums = self._reader.checksums()
        except TruncatedArchiveError:
            self.result.damaged += 1
            self._problem(path, f"is cut off (offset {member.offset} of the image)")
            raise
        if self._job is None:
            origin = header_origin(member.raw[:_NAME_BYTES].rstrip(b"\0"))
            self._job = origin[0] if origin else None
        # What else it has may be large, and is not looked at again.
        records = {key: member.records[key] for key in _KEPT if key in member.records}
        kept = member._replace(raw=b"", link=b"", records=records)
        self._waiting[member.offset] = _Waiting(kept, self._reader.offset - member.offset, checksums)
        self._waiting_bytes += _WAITING_BYTES + len(member.name)
        if self._waiting_bytes > UNCHECKED_BYTES_MAX:
            self._drop_waiting(self._reader.offset)

    def _drop_waiting(self, before: int) -> None:
        """Give up checking the members that stand before an offset: their index did not come."""
        lost = [offset for offset in self._waiting if offset < before]
        if not lost:
            return
        first = b"/" + self._waiting[lost[0]].member.name
        self._problem(
            first, f"this and what follows, {len(lost)} in all, cannot be checked: their index is lost"
        )
        self.result.unchecked += len(lost)
        for offset in lost:
            member = self._waiting.pop(offset).member
            self._waiting_bytes -= _WAITING_BYTES + len(member.name)
            self._observer.unlisted(member)

    def _header(self, header: GlobalHeader) -> None:
        """Check a `g` header, and what it says."""
        exact = is_exact(header.raw, header.records, header.offset)
        index = parse_index(header.records, header.offset)
        if index is not None:
            self._index(index, header, exact)
            return
        image = parse_global_header(header.records, header.offset)
        if image is not None:
            if self.result.header is None:
                self._reader.version = image.version
            self.result.header = image
            self._job = self._job or image.job.encode("ascii", "replace")
        parts = parse_trailer(header.records, header.offset)
        if parts is not None:
            self._trailer_at = header.offset if self._trailer_at is None else self._trailer_at
            self.result.parts += parts[: COUNTED_MAX - len(self.result.parts)]
        if not exact:
            what = "the list of parts" if parts is not None else "a header between the members"
            self._problem(b"", f"{what} is damaged (offset {header.offset} of the image)")

    def _index(self, index: Index, header: GlobalHeader, exact: bool) -> None:
        """Compare what an index says with what was read."""
        if len(self._ranges) < COUNTED_MAX:
            self._ranges.append(_Range(index.start, index.total))
        self._drop_waiting(index.start)
        self._tell_breaks(index.start)
        sound = exact and index.sound
        if not sound:
            self._problem(b"", f"the index of the files before it is damaged (offset {header.offset})")
        elif _is_gapless(index, header.offset):
            # All that is lost is in the list: each file says so itself.
            self._breaks.clear()
        else:
            self._problem(b"", f"the index at offset {header.offset} does not tell of all that is before it")
        self._tell_breaks(header.offset)
        uncompared = sum(not self._compare(entry, sound, index.version) for entry in index.entries)
        if uncompared:
            text = f"the checksums of {uncompared} files before offset {header.offset} were not compared"
            self._problem(b"", f"{text}: their part is of another format than the image")
        if sound:
            self._reader.version = index.version
        rest = sorted(self._waiting.items())
        self._waiting.clear()
        self._waiting_bytes = 0
        for _, waiting in rest:
            self.result.unchecked += 1
            self._observer.unlisted(waiting.member)
            why = "its line in the index is damaged" if not sound else "it is not in the index"
            self._problem(b"/" + waiting.member.name, f"cannot be checked: {why}")

    def _compare(self, entry: IndexEntry, sound: bool, version: int) -> bool:
        """Compare one line with the member it speaks of; False if that has no checksum of the format."""
        waiting = self._waiting.get(entry.offset)
        made = None if waiting is None else waiting.checksums.get(version)
        if waiting is not None and made is None:
            self._waiting.pop(entry.offset)
            self.result.unchecked += 1
            self._observer.unlisted(waiting.member)
            return False
        agrees = waiting is not None and made == entry.checksum and waiting.length == entry.length
        if not agrees and not sound:
            return True  # the line may be the one that is damaged: its member stays, and cannot be checked
        self._waiting.pop(entry.offset, None)
        path = entry.path
        if not path and waiting is not None:
            path = b"/" + waiting.member.name
            entry = entry._replace(path=path)
        self._observer.entry(entry, agrees)
        if agrees:
            self.result.members += 1
            return True
        self.result.damaged += 1
        what = "is damaged: its checksum differs" if waiting is not None else "is lost: it cannot be read"
        self._problem(path, f"{what} (offset {entry.offset} of the image)")
        return True

    def _check_parts(self) -> None:
        """Compare the list of parts with the indexes that went by."""
        if self._trailer_at is None:
            self._problem(b"", "the list of parts is missing: the image is not complete")
            return
        ranges = sorted(self._ranges)
        starts = [each.start for each in ranges]
        counted = list(accumulate((each.total for each in ranges), initial=0))
        end = self.result.parts[0].offset if self.result.parts else self._trailer_at
        for part in self.result.parts:
            if part.offset != end:
                self._problem(part.path, f"the list of parts has a gap before this part, at offset {end}")
            end = part.offset + part.bytes
            listed = counted[bisect_left(starts, end)] - counted[bisect_left(starts, part.offset)]
            if listed != part.files:
                self._problem(
                    part.path, f"the list of parts counts {part.files} files here, the indexes {listed}"
                )
        if end != self._trailer_at:
            self._problem(b"", f"the list of parts ends at offset {end}, the parts at {self._trailer_at}")


def _is_gapless(index: Index, end: int) -> bool:
    """Whether the members of an index fill all from its start to its own place."""
    at = index.start
    for entry in index.entries:
        if entry.offset != at or entry.kind is Kind.UNKNOWN:
            return False
        at += entry.length
    return at == end
