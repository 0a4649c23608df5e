"""The members of one part: offsets, links, and the data of files."""

import errno
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from appliance.archive.encode import MemberEncoder
from appliance.archive.formats import algorithm_of
from appliance.archive.index import IndexWriter, escape
from appliance.archive.kinds import DUMPDIR_FLAG, FLAG_OF_KIND, Kind
from appliance.archive.numbers import Numbers, Place
from appliance.archive.part import Entry, Files, Observer, PartResult, history_path
from appliance.archive.pax import record
from appliance.archive.quick import ORDINARY_BYTES, quick
from appliance.archive.sparse import EXTENTS_MAX, data_extents, encode_map, sparse_records
from appliance.archive.stage import Stage
from appliance.archive.ustar import BLOCK, padding

__all__ = ["Listed", "PartStream", "member_name"]


def member_name(path: bytes) -> bytes:
    """Return the member name of a global path: without the leading slash, of which tar warns."""
    return path[1:] or b"./"


# What can only have happened since the directory was listed: files are opened with O_NOFOLLOW, others with
# O_DIRECTORY.
_WORDS = {
    errno.ENOENT: "vanished before it was read",
    errno.ESTALE: "vanished before it was read",
    errno.ELOOP: "changed its type while it was read; not saved",
    errno.ENOTDIR: "changed its type while it was read; not saved",
}


class Listed(NamedTuple):
    """Names of a directory in their order, None for what is no regular file, and their numbers."""

    names: list[bytes | None]
    numbers: Sequence[int]


@dataclass
class _Linked:
    """An inode of several names: its member, how many names are still to come, whether its data is whole."""

    name: bytes
    node: int
    offset: int
    remaining: int
    is_whole: bool = True


class PartStream:
    """Adds members to a stage, and tells the observer.  Paths are global."""

    def __init__(
        self,
        encoder: MemberEncoder,
        stage: Stage,
        observer: Observer,
        backup_root: bytes,
        stream_offset: int,
        numbers: Numbers,
        version: int,
    ) -> None:
        self._encoder = encoder
        self._stage = stage
        self._observer = observer
        self._backup_root = backup_root
        self._start = stream_offset
        self._numbers = numbers
        self._index = IndexWriter(encoder.job, stage, version)
        self._checksum_of = algorithm_of(version).of
        self._quick = quick()
        self._files = 0
        self._problems = 0
        # Only inodes with names still to come are in here.
        self._linked: dict[tuple[int, int], _Linked] = {}

    def end(self) -> PartResult:
        """Write the rest of the part's index; return what the part came to."""
        self._index.flush()
        return PartResult(self._stage.offset - self._start, self._files, self._numbers.used, self._problems)

    @property
    def has_links(self) -> bool:
        """Whether any inode has more names than were written so far."""
        return bool(self._linked)

    def linked_node(self, device: int, inode: int) -> int | None:
        """Return the number of an inode that has more names than were written so far, None if unknown."""
        linked = self._linked.get((device, inode))
        return None if linked is None else linked.node

    def problem(self, path: bytes, text: str) -> None:
        """Report a problem of a global path."""
        self._problems += 1
        self._observer.problem(history_path(path, self._backup_root), text)

    def note(self, path: bytes, text: str) -> None:
        """Tell of a global path what is no problem."""
        self._observer.note(history_path(path, self._backup_root), text)

    def failed(self, path: bytes, error: OSError) -> None:
        """Report that something is left out because of `error`."""
        self.problem(path, _WORDS.get(error.errno or 0, f"not saved: {error.strerror}"))

    def add(
        self,
        path: bytes,
        kind: Kind,
        status: os.stat_result,
        place: Place,
        records: bytes = b"",
        link: bytes = b"",
        dumpdir: bytes | None = None,
    ) -> None:
        """Add a member without data; `dumpdir` is a directory's list of what it holds (dumpdir.py)."""
        name = member_name(path)
        if kind is Kind.DIRECTORY and name != b"./":
            name += b"/"
        offset = self._stage.offset
        flag, body = (FLAG_OF_KIND[kind], b"") if dumpdir is None else (DUMPDIR_FLAG, dumpdir)
        headers = self._encoder.encode(offset, name, flag, status, size=len(body), link=link, records=records)
        self._stage.begin_sum()
        self._stage.put(headers)
        self._stage.put(body)
        self._stage.put_zeros(padding(len(body)))
        node = self._enter(path, kind, status, place, offset)
        self._register(path, kind, status, node, offset, offset)

    def add_link(self, path: bytes, kind: Kind, status: os.stat_result, place: Place) -> bool | None:
        """Add a hard link to a member that is in the part, and return whether that has all of the data.

        None, and nothing is added, if there is no such member yet.
        """
        key = status.st_dev, status.st_ino
        linked = self._linked.get(key)
        if linked is None:
            return None
        offset = self._stage.offset
        headers = self._encoder.encode(
            offset, member_name(path), FLAG_OF_KIND[Kind.HARD_LINK], status, link=linked.name
        )
        self._stage.begin_sum()
        self._stage.put(headers)
        told = self._numbers.meet(place.number) or place.number == linked.node
        self._tell(path, kind, status, place, linked.node, linked.offset, told)
        self._register(path, kind, status, linked.node, offset, linked.offset)
        linked.remaining -= 1
        if not linked.remaining:
            del self._linked[key]
        return linked.is_whole

    def add_file(
        self, path: bytes, status: os.stat_result, place: Place, records: bytes, descriptor: int
    ) -> bool:
        """Add a regular file with its data; false if not all of it could be read.

        Exactly the announced bytes follow the header, whatever becomes of the file meanwhile.
        """
        stage = self._stage
        size = status.st_size
        offset = stage.offset
        extents = None
        sparse_map = b""
        stored = size
        if status.st_blocks * BLOCK < size:
            extents = data_extents(descriptor, size)
            if extents == [(0, size)]:
                extents = None
            else:
                sparse_map = encode_map(extents, size)
                stored = len(sparse_map) + sum(length for _, length in extents)
                records += b"".join(record(*pair) for pair in sparse_records(size))
        headers = self._encoder.encode(offset, path[1:], b"0", status, size=stored, records=records)
        stage.begin_sum()
        stage.put(headers)
        if sparse_map:
            stage.put(sparse_map)
        node = self._enter(path, Kind.FILE, status, place, offset)
        is_whole = self._data(path, descriptor, ((0, size),) if extents is None else extents)
        if stored % BLOCK:
            stage.put_zeros(padding(stored))
        self._register(path, Kind.FILE, status, node, offset, offset)
        if extents is not None and len(extents) > EXTENTS_MAX:
            self.problem(path, f"has more than {EXTENTS_MAX} holes; the rest are saved as zeros")
        if size and is_whole:
            after = os.fstat(descriptor)
            # It may also have shrunk, and lost nothing but a hole.
            if after.st_size != size or after.st_mtime_ns != status.st_mtime_ns:
                self.problem(path, "changed while it was read")
        linked = self._linked.get((status.st_dev, status.st_ino))
        if linked is not None:
            linked.is_whole = is_whole
        return is_whole

    def add_files(self, base: bytes, parent: int, directory: int, listed: Listed, first: int) -> Files | None:
        """Add files of a directory, from `first` on, as long as they are ordinary; None if none is.

        `base` is the directory's global path with a slash at its end, `parent` its number.  What is ordinary
        says quick.py.
        """
        quick, index, encoder = self._quick, self._index, self._encoder
        if quick is None:
            return None
        lines, rows, count = b"", b"", 0

        def write(buffer: memoryview, used: int, sent: int) -> int:
            nonlocal lines, rows, count
            place = buffer, used, ORDINARY_BYTES, sent
            headers = encoder.job_name, encoder.owners
            files = directory, base, listed.names, listed.numbers, first
            count, used, lines, rows = quick.save(
                *files, *place, *headers, index.room, self._checksum_of, escape
            )
            return used

        self._stage.put_by(ORDINARY_BYTES, write)
        if not count:
            return None
        end = first + count
        names = [name for name in listed.names[first:end] if name is not None]
        files = Files(history_path(base, self._backup_root), parent, names, listed.numbers[first:end], rows)
        self._files += count
        self._observer.files(files)
        index.add_lines(lines, count)
        return files

    def _data(self, path: bytes, descriptor: int, extents: Sequence[tuple[int, int]]) -> bool:
        """Copy the stretches of a file; what is missing at its end, or cannot be read, becomes zeros."""
        stage = self._stage
        missing = 0
        why = "shrank while it was read"
        for start, length in extents:
            end = stage.offset + length
            try:
                if stage.fill(descriptor, start, length) == length:
                    continue
            except OSError as error:
                why = f"cannot be read: {error.strerror}"
            lost = end - stage.offset
            if lost:
                missing += lost
                stage.put_zeros(lost)
        if missing:
            self.problem(path, f"{why}; {missing} bytes are saved as zeros")
        return not missing

    def _enter(self, path: bytes, kind: Kind, status: os.stat_result, place: Place, offset: int) -> int:
        """Tell of an inode's first name; return the inode's number."""
        told = self._numbers.meet(place.number)
        node = self._numbers.take() if told else place.number
        if status.st_nlink > 1 and kind is not Kind.DIRECTORY:
            linked = _Linked(member_name(path), node, offset, status.st_nlink - 1)
            self._linked[status.st_dev, status.st_ino] = linked
        self._tell(path, kind, status, place, node, offset, told)
        return node

    def _register(
        self, path: bytes, kind: Kind, status: os.stat_result, node: int, offset: int, data_offset: int
    ) -> None:
        """Enter the member that began at `offset`, and is whole now, in the index."""
        digest = self._stage.end_sum()
        self._index.add(
            offset,
            self._stage.offset - offset,
            digest,
            kind,
            node,
            data_offset,
            stat.S_IMODE(status.st_mode),
            status.st_uid,
            status.st_gid,
            status.st_size,
            status.st_mtime_ns,
            path,
        )

    def _tell(
        self,
        path: bytes,
        kind: Kind,
        status: os.stat_result,
        place: Place,
        node: int,
        offset: int,
        told: bool,
    ) -> None:
        """Tell the observer of one name."""
        self._files += 1
        relative = history_path(path, self._backup_root)
        name = relative[relative.rfind(b"/") + 1 :]
        number, parent = place
        self._observer.entry(Entry(relative, name, node, parent, offset, status, kind, number, told))
