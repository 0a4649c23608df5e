"""The data of restored files: from the stream to one or more copies, holes kept as holes."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

from appliance.archive.member import Member
from appliance.archive.reader import MemberReader
from appliance.archive.sparse import read_map
from appliance.archive.targets import Destination

__all__ = ["Copy", "create_copy", "pieces"]

# O_EXCL: a new inode or nothing, so no link that somebody put there is written through.
_CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_NOWHERE = Destination(-1, [])


@dataclass
class Copy:
    """A file being restored: its descriptor (-1 once closed), and the directory and name it was made at.

    The first error is kept in `error`; what comes after it is dropped.
    """

    descriptor: int
    directory: int
    name: bytes
    destination: Destination = _NOWHERE
    inherits: bool = False
    error: OSError | None = None
    finished: bool = False

    def write(self, view: memoryview, position: int) -> None:
        """Write all of `view` at `position`."""
        if self.error is not None:
            return
        try:
            size = len(view)
            done = os.pwrite(self.descriptor, view, position)
            while done < size:
                done += os.pwrite(self.descriptor, view[done:], position + done)
        except OSError as error:
            self.error = error

    def check(self, member: Member) -> None:
        """Bring a sparse file to its length; raises the error kept."""
        if self.error is not None:
            raise self.error
        if member.is_sparse:
            os.ftruncate(self.descriptor, member.size)

    def close(self) -> None:
        """Close the file; raises `OSError` (a network file system says late that it is full)."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def abandon(self) -> None:
        """Close and remove the file, unless it is finished: half of a file looks like a whole one."""
        if not self.finished:
            with contextlib.suppress(OSError):  # gone already, and the reason why is told elsewhere
                os.unlink(self.name, dir_fd=self.directory)
            with contextlib.suppress(OSError):
                self.close()


def create_copy(directory: int, name: bytes) -> Copy | None:
    """Make an empty file, private as yet; None if the name is taken.  Raises `OSError` otherwise."""
    try:
        return Copy(os.open(name, _CREATE_FLAGS, 0o600, dir_fd=directory), directory, name)
    except FileExistsError:
        return None


def pieces(reader: MemberReader, member: Member) -> Iterator[tuple[int, memoryview]]:
    """Yield (position in the file, data) for the member that `reader` returned last.

    Raises `DamagedArchiveError` for a sparse map that is malformed.
    """
    if member.is_sparse:
        yield from _sparse_pieces(reader, member)
        return
    position = 0
    for view in reader.data():
        yield position, view
        position += len(view)


def _sparse_pieces(reader: MemberReader, member: Member) -> Iterator[tuple[int, memoryview]]:
    """Yield the pieces of a sparse file: its map, then stretch after stretch."""
    extents = iter(read_map(reader.read_block, member.size, member.stored, member.offset))
    start = length = 0
    for chunk in reader.data():
        view = chunk
        while view:
            while not length:
                extent = next(extents, None)
                if extent is None:
                    return
                start, length = extent
            piece = view[:length]
            yield start, piece
            start += len(piece)
            length -= len(piece)
            view = view[len(piece) :]
