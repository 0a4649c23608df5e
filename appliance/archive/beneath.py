"""Opening paths beneath a directory descriptor, never following a symbolic link."""

import errno
import os

from appliance.archive.errors import ArchiveUsageError

__all__ = ["DIRECTORY_FLAGS", "open_directory", "split_path"]

DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def split_path(path: bytes) -> list[bytes]:
    """Return a path's components; empty ones and ``.`` are dropped.

    Raises `ArchiveUsageError` for ``..`` and for NUL bytes, which no path beneath anything has.
    """
    components = [component for component in path.split(b"/") if component not in (b"", b".")]
    if b".." in components or b"\0" in path:
        raise ArchiveUsageError(f"{path!r} could leave its directory")
    return components


def open_directory(root: int, components: list[bytes]) -> int:
    """Open a directory beneath `root`, component by component (openat(2), O_NOFOLLOW).

    The result is the caller's to close.  Raises `OSError`: ENOTDIR for a file or symbolic link on the way.
    """
    current = os.open(b".", DIRECTORY_FLAGS, dir_fd=root)
    for component in components:
        try:
            below = os.open(component, DIRECTORY_FLAGS, dir_fd=current)
        except OSError as error:
            # Linux says ENOTDIR here for a symbolic link; other systems say ELOOP (openat(2)).
            if error.errno == errno.ELOOP:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), component) from error
            raise
        finally:
            os.close(current)
        current = below
    return current
