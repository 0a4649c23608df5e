"""Restoring members into trees, whatever the archive says.

What holds against a hostile archive: every name is opened component by component beneath a target's
descriptor (`tree.py`), ``..`` is refused, what is in the way of a member is unlinked and never written
through, hard links lead only to what the same rules reach, and every number is checked before use.  An
error of one member is a problem, told to the observer; only a broken stream ends the restore.
"""

import contextlib
import errno
import functools
import os
import stat
from collections.abc import Iterator, Sequence

from appliance.archive.acl import DEFAULT_ATTRIBUTE
from appliance.archive.errors import ArchiveUsageError, DamagedArchiveError, TruncatedArchiveError
from appliance.archive.follow import Follower, read_dumpdir
from appliance.archive.frame import parse_global_header
from appliance.archive.index import Index, parse_index
from appliance.archive.kinds import Kind
from appliance.archive.later import Waiting
from appliance.archive.lost import parse_lost
from appliance.archive.member import GlobalHeader, Member
from appliance.archive.outcome import (
    PROBLEMS_MAX,
    Existing,
    ExtractObserver,
    ExtractOptions,
    ExtractResult,
    SourceStatus,
)
from appliance.archive.quick import quick
from appliance.archive.reader import MemberReader
from appliance.archive.recheck import Recheck
from appliance.archive.restore_attributes import Attributes, Privileges, apply_attributes
from appliance.archive.restore_data import Copy, create_copy, pieces
from appliance.archive.runs import Restored, Run
from appliance.archive.targets import Destination, Target, Targets, relative_name
from appliance.archive.tree import Tree, Trees

__all__ = ["Extractor"]

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)

# What a member's own content can make a system call raise: wrong numbers, NUL bytes, refusals.
_MEMBER_ERRORS = (OSError, ValueError, OverflowError, ArchiveUsageError, DamagedArchiveError)


def _explain(error: Exception) -> str:
    """Return one line for people."""
    if not isinstance(error, OSError):
        return f"not restored: {error}"
    if error.errno in _NO_SPACE:
        return "not restored: no space left on the target"
    return f"not restored: {error.strerror}"


class _Place:
    """A destination with its directory open."""

    def __init__(self, destination: Destination, tree: Tree) -> None:
        self.target = destination.target
        self.components = destination.components
        if not self.components:
            raise ArchiveUsageError("would replace the root of its target")
        self.tree = tree
        self.name = self.components[-1]
        self.above = Destination(self.target, self.components[:-1])
        self.directory = tree.enter(self.above.components, create=True)


class Extractor:
    """Restores what `reader` yields to `targets`; one use.

    `run` raises `DamagedArchiveError` if the stream breaks, after setting the attributes of the directories
    restored so far; `result` is up to date at any time.
    """

    def __init__(
        self,
        reader: MemberReader,
        targets: Sequence[Target],
        observer: ExtractObserver,
        options: ExtractOptions | None = None,
    ) -> None:
        self._reader = reader
        self._observer = observer
        self._options = options or ExtractOptions()
        self._root = self._options.backup_root
        self._targets = Targets(targets)
        self._by_offset = {n for n, target in enumerate(targets) if target.image_offset is not None}
        self._privileges = Privileges.of_this_thread()
        self._waiting = Waiting()
        self._recheck: Recheck[tuple[bytes, list[Destination]]] = Recheck()
        self.result = ExtractResult(sources=[SourceStatus() for _ in targets])
        self._filesets = [(status.st_dev, status.st_ino) for status in (os.fstat(t.root) for t in targets)]

        def make(number: int) -> Tree:
            return Tree(targets[number].root, len(self._targets.paths[number]), self._may_replace)

        # Two of each, since entering one directory gives up the other of the same tree.
        self._trees, self._link_trees = Trees(make), Trees(make)
        self._follower = Follower(self._targets, self._trees, self._link_trees, self._problem)
        # Whether the directory entered last hands down a default ACL.
        self._bequest: tuple[int, list[bytes], bool] = (-1, [], False)
        self._quick = quick()
        # The directory of the file restored last, as members are named and as it is told, and its place.
        self._above: bytes | None = None
        self._base = b"/"
        self._place: Destination | None = None

    def run(self) -> ExtractResult:
        """Restore everything up to the end-of-archive."""
        try:
            for item in self._reader:
                if isinstance(item, GlobalHeader):
                    self._global_header(item)
                else:
                    self._member(item)
                    if item.kind is Kind.FILE and self._quick is not None:
                        self._neighbours(item)
                self._trees.trim()
                self._link_trees.trim()
        finally:
            try:
                self._finish_directories()
            finally:
                self._waiting.close()
                self._trees.close()
                self._link_trees.close()
        return self.result

    def _may_replace(self) -> bool:
        """Whether a file in the way of a directory may be removed without a look at its time."""
        return self._options.existing is Existing.OVERWRITE

    def _global_header(self, header: GlobalHeader) -> None:
        """Learn the backup root, and what of it is damaged.

        All else in a global header (a `path`, say) is ignored on purpose.
        """
        image = parse_global_header(header.records, header.offset)
        if image is not None and self._root is None:
            self._root = image.root
            self._reader.version = None if image.is_stand_in else image.version
        index = None
        with contextlib.suppress(DamagedArchiveError):  # then there is nothing to compare with
            index = parse_index(header.records, header.offset)
        if index is not None:
            self._compare(index)
        lost = parse_lost(header.records, header.offset)
        if lost is not None:
            self._lost(lost)

    def _compare(self, index: Index) -> None:
        """Compare what was restored with its index, and tell of what is not as it was saved."""
        damaged, uncompared = self._recheck.compare(index)
        for path, destinations in damaged:
            self._problem(path, "restored, but damaged: its checksum differs", destinations)
        for path, destinations in uncompared:
            text = "restored, but not compared: its part is of another format than its image"
            self._problem(path, text, destinations)
        if index.sound:
            self._reader.version = index.version

    def _lost(self, paths: Sequence[bytes]) -> None:
        """Tell of what was asked for and cannot be read; where that is not known, everything may be."""
        for path in paths:
            relative = relative_name(path.strip(b"/"), self._root or b"/")
            destinations = self._targets.find(relative)
            for destination in destinations:
                self.result.sources[destination.target].members += 1
            if destinations:
                self._problem(b"/" + relative, "not restored: it cannot be read from tape", destinations)
        if not paths:
            everywhere = [Destination(number, []) for number in range(len(self.result.sources))]
            text = "damage on tape, and the list of what was there is lost: files may be missing"
            self._problem(b"/", text, everywhere)

    def _problem(self, path: bytes, text: str, destinations: Sequence[Destination] = ()) -> None:
        """Count and tell a problem."""
        result = self.result
        result.problem_count += 1
        if len(result.problems) < PROBLEMS_MAX:
            result.problems.append((path, text))
        for destination in destinations:
            result.sources[destination.target].problems += 1
        self._observer.problem(path, text)

    def _member(self, member: Member) -> None:
        """Restore one member to all of its places."""
        path = b"/" + member.name
        destinations: list[Destination] = []
        try:
            relative = relative_name(member.name, self._root or b"/")
            path = b"/" + relative
            if member.kind in (Kind.DIRECTORY, Kind.HARD_LINK):
                destinations = self._targets.find(relative)
            else:
                destinations = self._targets.find_inode(relative, member)
            if not destinations:
                return
            for destination in destinations:
                self.result.sources[destination.target].members += 1
            attributes = Attributes.of(member)
            if member.kind is Kind.FILE:
                done = self._file(member, attributes, path, destinations)
            else:
                follows = self._options.incremental and member.is_dumpdir
                dumpdir = read_dumpdir(self._reader, member) if follows else None
                done = sum(self._other(member, attributes, path, place) for place in destinations)
                if dumpdir is not None:
                    self._bequest = (-1, [], False)  # of a directory that may move now
                    self.result.removed += self._follower.follow(dumpdir, path, self._root, destinations)
        except TruncatedArchiveError:
            raise
        except _MEMBER_ERRORS as error:
            self._problem(path, _explain(error), destinations)
            return
        if done:
            self.result.files += 1
            self._observer.restored(path)
            offset = member.image_offset
            if self._reader.is_checking and offset is not None:
                self._recheck.restored(offset, self._reader.checksums(), (path, destinations))

    def _neighbours(self, member: Member) -> None:
        """Restore the ordinary files (quick.py) that follow one of their directory and are at hand."""
        above = member.name.rpartition(b"/")[0]
        if above != self._above:
            self._above, self._place = above, None
            with contextlib.suppress(ArchiveUsageError):  # the member was refused, too
                relative = relative_name(above, self._root or b"/")
                self._place = self._targets.children(relative)
                self._base = b"/" + relative + b"/"
        place = self._place
        if place is None or self._quick is None:
            return
        try:
            directory = self._trees[place.target].enter(place.components, create=True)
        except OSError:
            return  # it is told with the next file
        if not self._inherits(place, directory):
            run = Run(self._quick, self._reader, above + b"/", directory, self._privileges)
            while restored := run.restore():
                self._note_run(restored, self._base, place, run.data_bytes)

    def _note_run(self, restored: list[Restored], path: bytes, place: Destination, data_bytes: int) -> None:
        """Count and tell files that were restored to a directory."""
        self.result.files += len(restored)
        self.result.data_bytes += data_bytes
        self.result.sources[place.target].members += len(restored)
        for offset, digits, name in restored:
            self._observer.restored(path + name)
            if self._reader.is_checking:
                destination = Destination(place.target, [*place.components, name])
                self._recheck.restored_as(offset, digits, (path + name, [destination]))

    def _other(self, member: Member, attributes: Attributes, path: bytes, destination: Destination) -> bool:
        """Restore a member without data to one place; false if it is not there afterwards."""
        try:
            if member.kind is Kind.DIRECTORY:
                return self._directory(attributes, path, destination)
            place = _Place(destination, self._trees[destination.target])
            if member.kind is Kind.HARD_LINK:
                return self._link(member, attributes, path, place)
            return self._special(member, attributes, path, place)
        except _MEMBER_ERRORS as error:
            self._problem(path, _explain(error), [destination])
            return False

    def _inherits(self, above: Destination, directory: int) -> bool:
        """Whether new names in a directory, which is open, get an ACL by default (acl(5))."""
        target, components, bequest = self._bequest
        if target != above.target or components != above.components:
            try:
                bequest = bool(os.getxattr(directory, DEFAULT_ATTRIBUTE))
            except OSError:
                bequest = False
            self._bequest = above.target, above.components, bequest
        return bequest

    def _make_way(self, place: _Place, mtime_ns: int) -> bool:
        """Remove what has a member's name, if the policy says so; false if it stays.

        Raises `OSError`, ENOTEMPTY for a directory with something in it.
        """
        existing = self._options.existing
        status = os.stat(place.name, dir_fd=place.directory, follow_symlinks=False)
        if existing is Existing.KEEP or (existing is Existing.NEWER and status.st_mtime_ns >= mtime_ns):
            self.result.kept += 1
            return False
        # By what was seen: unlink(2) of a directory and of an immutable file may fail alike.
        remove = os.rmdir if stat.S_ISDIR(status.st_mode) else os.unlink
        remove(place.name, dir_fd=place.directory)
        return True

    def _directory(self, attributes: Attributes, path: bytes, destination: Destination) -> bool:
        """Make a directory, for ourselves only as yet; its attributes come at the end."""
        existed = True
        if destination.components:
            place = _Place(destination, self._trees[destination.target])
            try:
                os.mkdir(place.name, 0o700, dir_fd=place.directory)
                existed = False
            except FileExistsError:
                existed = self._existing_directory(attributes, place)
            if existed and self._options.existing is not Existing.OVERWRITE:
                self.result.kept += 1
                return False
        self._waiting.push(destination.target, destination.components, path, attributes)
        return True

    def _existing_directory(self, attributes: Attributes, place: _Place) -> bool:
        """Deal with what has a directory's name; true if it is a directory that was there, or stays."""
        try:
            os.close(os.open(place.name, os.O_DIRECTORY | os.O_NOFOLLOW | os.O_PATH, dir_fd=place.directory))
        except NotADirectoryError:
            if self._make_way(place, attributes.mtime_ns):
                os.mkdir(place.name, 0o700, dir_fd=place.directory)
                return False
        return True

    def _link(self, member: Member, attributes: Attributes, path: bytes, place: _Place) -> bool:
        """Make a hard link to a name within the targets, the same one if it is there."""
        relative = relative_name(member.link.strip(b"/").removeprefix(b"./"), self._root or b"/")
        sources = self._targets.find(relative)
        own = place.components == self._targets.paths[place.target]
        if not sources and own and place.target in self._by_offset:
            return False  # its data came by under another name and is there already
        if not sources:
            return self._lose(path)
        source = next((s for s in sources if s.target == place.target), sources[0])
        if not source.components or (source.target, source.components) == (place.target, place.components):
            raise ArchiveUsageError("a hard link to itself")
        above = self._link_trees[source.target].enter(source.components[:-1], create=False)
        try:
            return self._link_name(above, source.components[-1], place, attributes.mtime_ns)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            return self._lose(path)

    def _link_name(self, directory: int, name: bytes, place: _Place, mtime_ns: int) -> bool:
        """Give what is at `name` another name, unless what has that one stays.  Raises `OSError`."""
        # Look before the place is cleared: a link that cannot be made must not cost what is there.
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        link = functools.partial(
            os.link, name, place.name, src_dir_fd=directory, dst_dir_fd=place.directory, follow_symlinks=False
        )
        try:
            link()
        except FileExistsError:
            there = os.stat(place.name, dir_fd=place.directory, follow_symlinks=False)
            if os.path.samestat(status, there):
                return True
            if not self._make_way(place, mtime_ns):
                return False
            link()
        return True

    def _lose(self, path: bytes) -> bool:
        """Note a hard link whose data is not among what is restored; raises unless a second pass does it."""
        if len(self.result.lost_links) < PROBLEMS_MAX:
            self.result.lost_links.append(path)
            if self._options.second_pass:
                return False
        raise ArchiveUsageError("a hard link to a file that is not restored along with it")

    def _special(self, member: Member, attributes: Attributes, path: bytes, place: _Place) -> bool:
        """Make a symbolic link, FIFO or device."""
        is_device = member.kind in (Kind.CHARACTER_DEVICE, Kind.BLOCK_DEVICE)
        if is_device and not (self._privileges.mknod and self._options.devices):
            self.result.skipped += 1
            return False
        try:
            self._make_special(member, place)
        except FileExistsError:
            if not self._make_way(place, attributes.mtime_ns):
                return False
            self._make_special(member, place)
        if member.kind is Kind.SYMLINK:
            where = f"/proc/self/fd/{place.directory}/{os.fsdecode(place.name)}"
            self._apply(where, attributes, path, place, False)
        else:
            # A descriptor on the node itself, so that nothing put in its place meanwhile is changed.
            descriptor = os.open(place.name, os.O_PATH | os.O_NOFOLLOW, dir_fd=place.directory)
            try:
                where = f"/proc/self/fd/{descriptor}"
                self._apply(where, attributes, path, place, self._inherits(place.above, place.directory))
            finally:
                os.close(descriptor)
        return True

    def _make_special(self, member: Member, place: _Place) -> None:
        """Make the node; raises `FileExistsError` if its name is taken."""
        if member.kind is Kind.SYMLINK:
            os.symlink(member.link, place.name, dir_fd=place.directory)
        elif member.kind is Kind.FIFO:
            os.mkfifo(place.name, 0o600, dir_fd=place.directory)
        elif member.kind in (Kind.CHARACTER_DEVICE, Kind.BLOCK_DEVICE):
            form = 0o020600 if member.kind is Kind.CHARACTER_DEVICE else 0o060600
            os.mknod(place.name, form, os.makedev(*member.device), dir_fd=place.directory)
        else:
            raise ArchiveUsageError("a member of a type that is not known here")

    def _file(
        self, member: Member, attributes: Attributes, path: bytes, destinations: list[Destination]
    ) -> int:
        """Restore a file to all of its places at once: its data comes by once.  Return how many are good."""
        aliases = self._linkable(destinations) if len(destinations) > 1 else []
        wanted = [d for d in destinations if d not in aliases] if aliases else destinations
        copies: list[Copy] = []
        done = 0
        try:
            for destination in wanted:
                copy = self._open_copy(attributes, path, destination)
                if copy is not None:
                    copies.append(copy)
            self._fill(copies, pieces(self._reader, member))
            for copy in copies:
                done += self._finish_copy(copy, member, attributes, path)
        except BaseException:
            for copy in copies:
                copy.abandon()
            raise
        for destination in aliases:
            done += self._alias(attributes, path, destination, wanted[0])
        return done

    def _linkable(self, destinations: list[Destination]) -> list[Destination]:
        """The other names of a file that become links to its first place, being in the same fileset."""
        first = self._filesets[destinations[0].target]
        return [d for d in destinations[1:] if d.alias and self._filesets[d.target] == first]

    def _alias(self, attributes: Attributes, path: bytes, destination: Destination, to: Destination) -> bool:
        """Make one more name of the file that was just restored; false if it is not there afterwards."""
        try:
            place = _Place(destination, self._trees[destination.target])
            above = self._link_trees[to.target].enter(to.components[:-1], create=False)
            return self._link_name(above, to.components[-1], place, attributes.mtime_ns)
        except _MEMBER_ERRORS as error:
            self._problem(path, _explain(error), [destination])
            return False

    def _open_copy(self, attributes: Attributes, path: bytes, destination: Destination) -> Copy | None:
        """Make an empty file for one place; None if what is there stays, or it cannot be made."""
        try:
            place = _Place(destination, self._trees[destination.target])
            copy = create_copy(place.directory, place.name)
            if copy is None and self._make_way(place, attributes.mtime_ns):
                copy = create_copy(place.directory, place.name)
        except _MEMBER_ERRORS as error:
            self._problem(path, _explain(error), [destination])
            return None
        if copy is not None:
            copy.inherits = self._inherits(place.above, place.directory)
            copy.destination = destination
        return copy

    @staticmethod
    def _fill(copies: list[Copy], data: Iterator[tuple[int, memoryview]]) -> None:
        """Write pieces to all copies."""
        if copies:
            for position, view in data:
                for copy in copies:
                    copy.write(view, position)

    def _finish_copy(self, copy: Copy, member: Member, attributes: Attributes, path: bytes) -> bool:
        """Set a file's length and attributes and close it; one that failed is removed."""

        def report(text: str) -> None:
            self._problem(path, text, [copy.destination])

        try:
            copy.check(member)
            if not apply_attributes(copy.descriptor, attributes, self._privileges, report, copy.inherits):
                self.result.skipped += 1
            copy.close()
            copy.finished = True
        except _MEMBER_ERRORS as error:
            copy.abandon()
            report(_explain(error))
            return False
        self.result.data_bytes += member.size
        return True

    def _apply(
        self, where: int | str, attributes: Attributes, path: bytes, place: _Place, inherited: bool
    ) -> None:
        """Set the attributes of an inode that has no data."""
        destination = Destination(place.target, place.components)

        def report(text: str) -> None:
            self._problem(path, text, [destination])

        if not apply_attributes(where, attributes, self._privileges, report, inherited):
            self.result.skipped += 1

    def _finish_directories(self) -> None:
        """Give the directories their attributes, now that nothing is made in them any more."""
        for target, components, path, attributes in self._waiting.pop_all():
            destination = Destination(target, components)

            def report(text: str, path: bytes = path, destination: Destination = destination) -> None:
                self._problem(path, text, [destination])

            try:
                descriptor = self._trees[target].enter(components, create=False)
                if not apply_attributes(descriptor, attributes, self._privileges, report, True):
                    self.result.skipped += 1
            except _MEMBER_ERRORS as error:
                report(_explain(error))
            self._trees.trim()
