"""Marks by which users say what need not be saved: CACHEDIR.TAG and the nodump flag.  Options of a backup.

Sources: the Cache Directory Tagging Specification 0.6 (an ordinary file that begins with the signature);
GNU tar manual, ``--exclude-caches``: directory and tag are kept, so that a restore makes a cache that says
that it is one; chattr(1), attribute `d`; statx(2), which tells of the flag without opening anything.
"""

import os
import stat
from dataclasses import dataclass

from appliance.archive.statx import NODUMP, Statx

__all__ = ["CACHE_TAG", "NO_MARKERS", "MarkedNames", "Markers"]

CACHE_TAG = b"CACHEDIR.TAG"
_SIGNATURE = b"Signature: 8a477f597d28d172789f06886806bc55"

# O_NONBLOCK: a FIFO of that name must not hang the job (open(2)).
_TAG_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True)
class Markers:
    """Which marks are honoured.

    `caches`: of a directory tagged with CACHEDIR.TAG only itself and the tag are saved.  `nodump`: files with
    the nodump flag are left out, and directories with all below them; what a part begins at never is.
    """

    caches: bool = False
    nodump: bool = False

    def __bool__(self) -> bool:
        return self.caches or self.nodump


NO_MARKERS = Markers()


class MarkedNames:
    """Looks for marks while directories are listed, and counts what is left out for them."""

    def __init__(self, markers: Markers) -> None:
        self._markers = markers
        self._caches = 0
        self._nodump = 0
        self._statx = Statx()

    def __str__(self) -> str:
        """What was left out, as one line for people."""
        texts = []
        if self._markers.caches:
            texts.append(f"{_counted(self._caches, 'cache')} by CACHEDIR.TAG")
        if self._markers.nodump:
            texts.append(f"{_counted(self._nodump, 'name')} by the nodump flag")
        return f"left out as asked: {' and '.join(texts)}"

    def is_cache(self, directory: int) -> bool:
        """Whether the contents of an open directory are left out."""
        found = self._markers.caches and _has_tag(directory)
        self._caches += found
        return found

    def is_nodump(self, directory: int, name: bytes) -> bool:
        """Whether a file or directory is left out."""
        found = self._markers.nodump and bool(self._statx.attributes(directory, name) & NODUMP)
        self._nodump += found
        return found


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _has_tag(directory: int) -> bool:
    """Whether a directory holds a tag with the right signature; one that cannot be read is none."""
    try:
        descriptor = os.open(CACHE_TAG, _TAG_FLAGS, dir_fd=directory)
    except OSError:
        return False
    try:
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        return is_file and os.pread(descriptor, len(_SIGNATURE), 0) == _SIGNATURE
    except OSError:
        return False
    finally:
        os.close(descriptor)
