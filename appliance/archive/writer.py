"""Writing one part: a walk over a tree, as a run of pax members.

Plan: depth first; in each directory its own member, then all that is not a directory, then the
subdirectories, each group sorted by bytes, so that only the names of the directories on the way down are
in memory.  A directory's names are told all together, with their numbers, before the first of them is
written: file history in node form wants it so (draft-skardal-ndmpv4-04, 4.3.2).  So the largest directory
bounds memory: some 300 bytes a name while it is listed, 150 while it is written, 60 for each subdirectory
after that.  Everything is opened relative to the directory's descriptor, so paths have no length limit and
nothing outside the tree is reached by a symbolic link put there meanwhile.
"""

import contextlib
import os
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from appliance.archive.attributes import attribute_records
from appliance.archive.beneath import DIRECTORY_FLAGS, open_directory, split_path
from appliance.archive.changes import Changes, Look, dumpdir_of
from appliance.archive.dumpdir import DIRECTORY, DUMPDIR_BYTES_MAX, NAMES_MAX, Dumpdir, encode_dumpdir
from appliance.archive.encode import MemberEncoder
from appliance.archive.errors import ArchiveUsageError, StartNotFoundError, StoppedError
from appliance.archive.formats import FORMAT
from appliance.archive.kinds import FLAG_OF_KIND, Kind, kind_of_mode
from appliance.archive.listing import Lister, Name
from appliance.archive.members import Listed, PartStream, member_name
from appliance.archive.numbers import Numbers, Place
from appliance.archive.part import Observer, PartRequest, PartResult
from appliance.archive.pax import RECORDS_BYTES_MAX
from appliance.archive.protected import ProtectedFiles
from appliance.archive.quick import ROW
from appliance.archive.reader import LONG_NAME_BYTES_MAX
from appliance.archive.stage import Sink, Stage
from appliance.archive.statx import MOUNT_ROOT, Statx
from appliance.archive.structure import Structure

__all__ = ["write_directories", "write_part"]

# Deeper directories close their ancestors' descriptors and find them again through "..": 1024 open
# files are all a process has by default, and a part shares them with the sockets of its server.
OPEN_DIRECTORIES_MAX = 256

# A reader takes names of up to 1 MiB; this leaves room for one more component, the longest.
PATH_BYTES_MAX = LONG_NAME_BYTES_MAX - 4096

# Likewise what it takes as attributes of one inode, next to its names.
ATTRIBUTES_BYTES_MAX = RECORDS_BYTES_MAX - 2 * LONG_NAME_BYTES_MAX - 4096

# Files in a row that are not ordinary, after which those of a directory are no longer asked whether they are.
MISSES_MAX = 8

# O_NONBLOCK: a FIFO put in a file's place meanwhile must not hang the job (open(2)).
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class _Pending(NamedTuple):
    """What is needed to write a directory later: its rank among those above it, and all of its member."""

    rank: int
    status: os.stat_result
    records: bytes
    others: list[Name]
    below: list[bytes]
    is_ours: bool
    is_complete: bool


@dataclass
class _Level:
    """A directory on the way down: its descriptor (None while closed), identity, and what is still to do.

    `first` is the number of the first of its subdirectories, of which `begun` were begun so far.  `whole`:
    FILES selects all of it.  `look` is what has changed in it, where somebody asks; `pending` its member,
    as long as nothing in it or below has changed: it is written before the first that has.
    """

    descriptor: int | None
    identity: tuple[int, int]
    path: bytes
    node: int
    below: list[bytes]
    first: int
    whole: bool
    begun: int = 0
    numbers: Sequence[int] = ()
    look: Look | None = None
    pending: _Pending | None = None

    @property
    def base(self) -> bytes:
        """What the paths of the names in it begin with."""
        return self.path if self.path == b"/" else self.path + b"/"


def write_part(
    request: PartRequest,
    sink: Sink,
    observer: Observer,
    stop: Callable[[], bool],
    changes: Changes | None = None,
) -> PartResult:
    """Write the members of one part to `sink`, in pieces of up to 1 MiB; return what they came to.

    `changes`: what they are compared with, and kept for the next time; the caller's to finish and close.

    No end-of-archive is written.  Files that change, shrink, vanish or cannot be read are padded or left
    out, and told to `observer`; the stream stays valid.  Raises `StartNotFoundError` before the first byte
    if there is nothing at `request.start`, `SinkError` if the sink fails, `StoppedError` once `stop()` is
    true (asked between members and between pieces).
    """
    stage = Stage(sink, request.stream_offset, stop, version=request.version)
    with contextlib.closing(_Walk(request, stage, observer, stop, changes)) as walk:
        walk.run()
        result = walk.members.end()
    stage.flush()
    return replace(result, matched=frozenset(walk.matched))


def write_directories(
    paths: Sequence[tuple[bytes, os.stat_result]],
    sink: Sink,
    observer: Observer,
    *,
    job: str,
    nodes: Mapping[bytes, int],
    backup_root: bytes = b"/",
    stream_offset: int = 0,
    is_incremental: bool = False,
    version: int = FORMAT,
) -> PartResult:
    """Write the part of the directories that nobody owns: global path and attributes, parents first.

    `nodes` has the numbers of all of them and of the junctions in them, which are all that they hold.
    """
    stage = Stage(sink, stream_offset, version=version)
    structure = Structure(nodes)
    encoder = MemberEncoder(job)
    members = PartStream(encoder, stage, observer, backup_root, stream_offset, Numbers(0), version)
    for path, status in paths:
        number = nodes[path]
        parent = nodes.get(path.rpartition(b"/")[0] or b"/", number)
        children = structure.children(path)
        observer.listing(number, parent, children.items())
        dumpdir = encode_dumpdir(Dumpdir(dict.fromkeys(children, DIRECTORY))) if is_incremental else None
        members.add(path, Kind.DIRECTORY, status, Place(number, parent), dumpdir=dumpdir)
    result = members.end()
    stage.flush()
    return result


class _Walk:
    """The walk of one part."""

    def __init__(
        self,
        request: PartRequest,
        stage: Stage,
        observer: Observer,
        stop: Callable[[], bool],
        changes: Changes | None,
    ) -> None:
        self._changes = changes
        self._numbers = Numbers(request.node_base)
        self.members = PartStream(
            MemberEncoder(request.job),
            stage,
            observer,
            request.backup_root,
            request.stream_offset,
            self._numbers,
            request.version,
        )
        self._lister = Lister(request, self._numbers, self.members, observer)
        self._protected = ProtectedFiles(self.members.note)
        self._statx = Statx()
        self._observer = observer
        self._request = request
        self._stop = stop
        # Reading must not change the tree; the kernel allows it to owners and CAP_FOWNER only (open(2)).
        self._no_atime = os.O_NOATIME
        self._device = 0
        self._start = b"/"
        self._levels: list[_Level] = []

    def close(self) -> None:
        """Close all directories."""
        for level in self._levels:
            if level.descriptor is not None:
                os.close(level.descriptor)
        self._levels.clear()

    @property
    def matched(self) -> set[int]:
        """The indexes of the values of FILES that something matched."""
        return self._lister.selection.matched

    def run(self) -> None:
        """Write the part."""
        components = split_path(self._request.start)
        prefix = self._request.member_prefix.rstrip(b"/")
        path = b"/".join([prefix, *components]) or b"/"
        try:
            parent = open_directory(self._request.root, components[:-1])
        except OSError as error:
            raise StartNotFoundError(f"{path!r}: {error.strerror}") from error
        try:
            name = components[-1] if components else b"."
            try:
                status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            except OSError as error:
                raise StartNotFoundError(f"{path!r}: {error.strerror}") from error
            self._device = status.st_dev
            self._start = path
            if stat.S_ISDIR(status.st_mode):
                self._find_moves(parent, name)
                self._directory(parent, name, path, self._lister.is_whole(path))
            else:
                place = self._place(path, None, 0)
                self._observer.listing(*place, ())
                self._entry(parent, name, path, stat.S_ISREG(status.st_mode), place)
        finally:
            os.close(parent)
        self._descend()
        self._protected.end(path)
        if self._lister.marked is not None:
            self.members.note(path, str(self._lister.marked))

    def _descend(self) -> None:
        """Work off the directories on the way down until none is left."""
        levels = self._levels
        while levels:
            if self._stop():
                raise StoppedError("stopped on request")
            level = levels[-1]
            if not level.below:
                self._ascend()
                continue
            name = level.below.pop()
            descriptor = level.descriptor
            assert descriptor is not None  # only ancestors of the last level are ever closed
            path = level.path + b"/" + name if level.path != b"/" else b"/" + name
            if len(levels) > OPEN_DIRECTORIES_MAX:
                ancestor = levels[-OPEN_DIRECTORIES_MAX]
                if ancestor.descriptor is not None:
                    os.close(ancestor.descriptor)
                    ancestor.descriptor = None
            self._directory(descriptor, name, path, level.whole or self._lister.is_whole(path))
            level.begun += 1

    def _ascend(self) -> None:
        """Leave the last directory; find its parent again if that had to be closed."""
        levels = self._levels
        child = levels.pop().descriptor
        assert child is not None
        try:
            while levels and levels[-1].descriptor is None and not self._reopen(levels[-1], child):
                self._give_up(levels.pop())
        finally:
            os.close(child)

    def _reopen(self, level: _Level, child: int) -> bool:
        """Open a directory again, as the parent of `child` or by its path; false if it is another one now."""
        prefix_length = len(self._request.member_prefix.rstrip(b"/"))
        components = split_path(level.path[prefix_length:])
        for start, way in ((child, [b".."]), (self._request.root, components)):
            try:
                descriptor = open_directory(start, way)
            except OSError:
                continue
            status = os.fstat(descriptor)
            if (status.st_dev, status.st_ino) == level.identity:
                level.descriptor = descriptor
                return True
            os.close(descriptor)
        return False

    def _give_up(self, level: _Level) -> None:
        """Leave out the subdirectories that are still to do."""
        self.members.problem(level.path, "moved while it was read; the rest of it is skipped")
        base = level.path.rstrip(b"/") + b"/"
        for name in reversed(level.below):
            self._lister.tell_unread(base + name, level.node)

    def _directory(self, parent: int, name: bytes, path: bytes, whole: bool) -> None:
        """Write a directory's member and all in it but its subdirectories, which are put on the stack.

        It lies in the last level.  Where nothing in it has changed, its member waits for what is below.
        """
        try:
            if len(path) > PATH_BYTES_MAX:
                raise ArchiveUsageError(f"a path of more than {PATH_BYTES_MAX} bytes; not saved")
            descriptor = self._open(name, DIRECTORY_FLAGS, parent)
        except (OSError, ArchiveUsageError) as error:
            if isinstance(error, OSError):
                self.members.failed(path, error)
            else:
                self.members.problem(path, str(error))
            if self._levels:
                self._lister.tell_unread(path, self._levels[-1].node)
            return
        try:
            level, pending = self._enter(descriptor, path, whole)
            if level.pending is None:
                self._protected.look(descriptor, path)
                self._write_directory(level, pending)
        except BaseException:
            os.close(descriptor)
            raise
        # From here on `close` takes care of the descriptor.
        self._levels.append(level)
        if level.pending is None:
            self._others(level, pending.others)
        if self._changes is not None and level.look is not None:
            self._changes.done(level.look, pending.below)

    def _enter(self, descriptor: int, path: bytes, whole: bool) -> tuple[_Level, _Pending]:
        """Look at an open directory; return it as a level, and what its member takes."""
        above = self._levels[-1] if self._levels else None
        frozen = self._request.frozen
        now = time.time_ns() if frozen is None else frozen.moment
        status = os.fstat(descriptor)
        below: list[bytes] = []
        others: list[Name] = []
        is_ours = not self._is_mounted(descriptor, status, path)
        if is_ours:
            below, others = self._lister.names(path, descriptor, whole)
        rank = 0 if above is None else above.begun
        is_complete = not is_ours or self._lister.is_complete
        records = self._records(path, descriptor)
        pending = _Pending(rank, status, records, others, below[:], is_ours, is_complete)
        level = _Level(descriptor, (status.st_dev, status.st_ino), path, 0, below, 0, whole)
        if self._changes is not None:
            level.look = self._changes.look(
                descriptor,
                status,
                None if above is None else above.look,
                path[len(self._start) :].lstrip(b"/"),
                (below, [other.name for other in others]),
                is_ours=is_ours,
                now=now,
            )
            is_changed = level.look.is_changed or not self._changes.is_incremental
            if not is_changed and above is not None and self._lister.agreed(path) is None:
                level.pending = pending
        return level, pending

    def _write_directory(self, level: _Level, pending: _Pending) -> None:
        """Write the member of a directory, and before it those above that still wait."""
        waiting = next((n for n, one in enumerate(self._levels) if one.pending), len(self._levels))
        for number in range(waiting, len(self._levels)):
            one = self._levels[number]
            if one.pending is not None:
                member, one.pending = one.pending, None
                self._write_member(one, None, member, self._levels[number - 1])
        above = self._levels[-1] if self._levels else None
        self._write_member(level, level.descriptor, pending, above)

    def _write_member(
        self, level: _Level, descriptor: int | None, pending: _Pending, above: _Level | None
    ) -> None:
        """Tell a directory's names and write its member; `descriptor` None if none of them follows."""
        path, status = level.path, pending.status
        place = self._place(path, above, pending.rank)
        numbers = self._lister.tell(path, place, descriptor, pending.below, pending.others)
        level.node = place.number
        level.first = numbers[len(pending.others)]
        level.numbers = numbers
        self.members.add(
            path, Kind.DIRECTORY, status, place, pending.records, dumpdir=self._dumpdir(level, pending)
        )
        if not pending.is_ours:
            self.members.problem(path, "a mount point or subvolume; what is in it is not saved")

    def _place(self, path: bytes, above: _Level | None, rank: int) -> Place:
        """The numbers of a name that lies in a directory whose names were told."""
        number = self._lister.agreed(path)
        if number is None:
            number = self._numbers.take() if above is None else above.first + rank
        return Place(number, self._request.parent_node if above is None else above.node)

    def _dumpdir(self, level: _Level, pending: _Pending) -> bytes | None:
        """The list for a directory's member, in an incremental backup."""
        if self._changes is None or not self._changes.is_incremental or level.look is None:
            return None
        if not pending.is_complete:
            return None  # a restore would remove what could not be listed
        moves = self._moves() if level.path == self._start else ()
        others = (other.name for other in pending.others)
        junctions = self._lister.junctions(level.path)
        dumpdir = dumpdir_of(level.look, pending.below, others, junctions, moves)
        body = encode_dumpdir(dumpdir)
        if len(body) <= DUMPDIR_BYTES_MAX and len(dumpdir.names) <= NAMES_MAX:
            return body
        self.members.problem(level.path, "holds too many names; a restore does not remove deleted ones")
        return None

    def _find_moves(self, parent: int, name: bytes) -> None:
        """Find the directories that were moved since the base."""
        if self._changes is None or self._changes.base is None:
            return
        with contextlib.suppress(OSError):  # it is told when the directory is to be written
            descriptor = self._open(name, DIRECTORY_FLAGS, parent)
            try:
                self._changes.find_moves(
                    descriptor,
                    self._subdirectories,
                    lambda name, parent: self._open(name, DIRECTORY_FLAGS, parent),
                )
            finally:
                os.close(descriptor)

    def _subdirectories(self, relative: bytes, descriptor: int) -> list[bytes]:
        path = _below(self._start, relative)
        names = self._lister.subdirectories(path, descriptor)
        if self._request.frozen is None:
            return names
        mounted = self._request.frozen.mounted
        return [name for name in names if _below(path, name) not in mounted]

    def _moves(self) -> list[tuple[bytes, bytes]]:
        """The moves, as member names."""
        assert self._changes is not None, "a dumpdir is written of changes"
        return [
            (member_name(_below(self._start, source)), member_name(_below(self._start, target)))
            for source, target in self._changes.moves.steps
        ]

    def _others(self, level: _Level, others: list[Name]) -> None:
        """Write what is in a directory and is none itself, unless it is unchanged."""
        numbers = level.numbers[: len(others)]
        # In a directory with several names of one number each is looked at by itself.
        misses = 0 if isinstance(numbers, range) else MISSES_MAX
        if level.look is not None and level.look.unchanged:
            changed = [n for n, other in enumerate(others) if other.name not in level.look.unchanged]
            others, numbers = [others[n] for n in changed], [numbers[n] for n in changed]
        listed = Listed([other.name if other.is_regular else None for other in others], numbers)
        done = 0
        while done < len(others):
            if misses < MISSES_MAX:
                count = self._ordinary(level, listed, done)
                misses = 0 if count else misses + 1
                done += count
            if done < len(others):
                self._other(level, others[done], numbers[done])
                done += 1

    def _ordinary(self, level: _Level, listed: Listed, first: int) -> int:
        """Write the ordinary files that come next, many at once; return how many."""
        if self._stop():
            raise StoppedError("stopped on request")
        assert level.descriptor is not None, "it was just opened"
        files = self.members.add_files(level.base, level.node, level.descriptor, listed, first)
        if files is None:
            return 0
        if level.look is not None:
            for name, row in zip(files.names, ROW.iter_unpack(files.rows), strict=True):
                level.look.keep(name, row[1], row[4])
        return len(files.names)

    def _other(self, level: _Level, other: Name, number: int) -> None:
        """Write anything else."""
        assert level.descriptor is not None, "it was just opened"
        place = Place(number, level.node)
        status = self._entry(level.descriptor, other.name, level.base + other.name, other.is_regular, place)
        if level.look is not None and status is not None:
            level.look.keep(other.name, status.st_ino, status.st_ctime_ns)

    def _is_mounted(self, descriptor: int, status: os.stat_result, path: bytes) -> bool:
        """Whether a directory below the one that the part begins at is another file system.

        That is also what is bound there from the same one: it belongs to another place.  A snapshot has what
        lies under the mount, which nobody sees.
        """
        frozen = self._request.frozen
        if frozen is not None and (path in frozen.mounted or status.st_ino == frozen.stub_inode):
            return bool(self._levels)
        return status.st_dev != self._device or (
            bool(self._levels) and bool(self._statx.attributes(descriptor) & MOUNT_ROOT)
        )

    def _open(self, name: bytes, flags: int, parent: int) -> int:
        """Open without touching the access time where that is allowed."""
        try:
            return os.open(name, flags | self._no_atime, dir_fd=parent)
        except PermissionError:
            if not self._no_atime:
                raise
            return os.open(name, flags, dir_fd=parent)

    def _records(self, path: bytes, where: int | str, follow_symlinks: bool = True) -> bytes:
        """Return the records of an inode's attributes; what cannot be read is a problem, not an end."""
        try:
            records = attribute_records(where, follow_symlinks)
            if not records or len(records) <= ATTRIBUTES_BYTES_MAX:
                return records
            raise ValueError(f"more than {ATTRIBUTES_BYTES_MAX} bytes")
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            self.members.problem(path, f"extended attributes cannot be saved: {why}")
            return b""

    def _entry(
        self, parent: int, name: bytes, path: bytes, is_regular: bool, place: Place
    ) -> os.stat_result | None:
        """Write the member of anything but a directory; return its attributes if all of it is saved."""
        if self._stop():
            raise StoppedError("stopped on request")
        try:
            if is_regular:
                return self._regular(parent, name, path, place)
            return self._special(parent, name, path, place)
        except OSError as error:
            self.members.failed(path, error)
        except ArchiveUsageError as error:
            self.members.problem(path, f"not saved: {error}")
        return None

    def _regular(self, parent: int, name: bytes, path: bytes, place: Place) -> os.stat_result | None:
        """Write a regular file, or a link to it if another name of it is in the part already."""
        descriptor = self._open(name, _FILE_FLAGS, parent)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                self.members.problem(path, "changed its type while it was read; not saved")
                return None
            if status.st_nlink != 1:
                is_whole = self.members.add_link(path, Kind.FILE, status, place)
                if is_whole is not None:
                    return status if is_whole else None
            self._protected.look(descriptor, path)
            records = self._records(path, descriptor)
            return status if self.members.add_file(path, status, place, records, descriptor) else None
        finally:
            os.close(descriptor)

    def _special(self, parent: int, name: bytes, path: bytes, place: Place) -> os.stat_result | None:
        """Write a symbolic link, FIFO or device."""
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        kind = kind_of_mode(status.st_mode)
        if kind is Kind.SOCKET:
            # POSIX has no member for it.  It means nothing without the program that listens.
            self.members.note(path, "a socket; not saved")
            return status
        if kind not in FLAG_OF_KIND or kind in (Kind.FILE, Kind.DIRECTORY):
            self.members.problem(path, "changed its type; not saved")
            return None
        if status.st_nlink > 1 and self.members.add_link(path, kind, status, place) is not None:
            return status
        link = os.readlink(name, dir_fd=parent) if kind is Kind.SYMLINK else b""
        # There is no descriptor to read attributes from: opening a device or FIFO may do things.
        records = self._records(path, f"/proc/self/fd/{parent}/{os.fsdecode(name)}", follow_symlinks=False)
        self.members.add(path, kind, status, place, records, link)
        return status


def _below(top: bytes, relative: bytes) -> bytes:
    return top if not relative else top.rstrip(b"/") + b"/" + relative
