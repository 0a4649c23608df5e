"""Files that are immutable or append-only (chattr(1), attributes `i` and `a`): named, as that is not saved.

GNU tar has no record for it, and warns of each that it does not know.  A restore makes ordinary files;
whoever needs the protection must give it to them again, and so must be told.
"""

import array
import fcntl
from collections.abc import Callable

__all__ = ["NAMED_MAX", "ProtectedFiles"]

NAMED_MAX = 100
"""Files of one part that are named; of the others the number is told.  A vault may hold millions."""

# include/uapi/linux/fs.h; the ioctl is declared with a long, and fills an int.
_FS_IOC_GETFLAGS = (2 << 30) | (array.array("l").itemsize << 16) | (ord("f") << 8) | 1
_WORDS = {0x10: "immutable", 0x20: "append-only"}
_PROTECTED = sum(_WORDS)


class ProtectedFiles:
    """Looks at the flags of open files and directories, and tells of those that are protected.

    `note(path, text)` takes the lines.  One system call a file, about 0.5 µs; none any more once the file
    system said that it has no flags.
    """

    def __init__(self, note: Callable[[bytes, str], object]) -> None:
        self._note = note
        self._flags = array.array("i", [0, 0])
        self._supported = True
        self._count = 0

    def look(self, descriptor: int, path: bytes) -> None:
        """Note a file's flags, if it has any."""
        if not self._supported:
            return
        try:
            fcntl.ioctl(descriptor, _FS_IOC_GETFLAGS, self._flags)
        except OSError:  # ENOTTY, ENOTSUP: the whole part is on one file system
            self._supported = False
            return
        flags = self._flags[0]
        if flags & _PROTECTED:
            self._tell(flags, path)

    def _tell(self, flags: int, path: bytes) -> None:
        self._count += 1
        if self._count <= NAMED_MAX:
            words = " and ".join(word for bit, word in _WORDS.items() if flags & bit)
            self._note(path, f"is {words}; a restore will not make it so")

    def end(self, path: bytes) -> None:
        """Tell how many were not named; `path` is where the part begins."""
        if self._count > NAMED_MAX:
            self._note(path, f"{self._count - NAMED_MAX} more files are immutable or append-only")
