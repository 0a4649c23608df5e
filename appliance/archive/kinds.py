"""What a member is: our names for the type flags of POSIX ustar (pax, "ustar Interchange Format")."""

import enum
import stat

__all__ = ["DUMPDIR_FLAG", "FLAG_OF_KIND", "KIND_OF_FLAG", "Kind", "kind_of_mode"]


class Kind(enum.Enum):
    """The type of a directory entry, or of a member (`HARD_LINK` and `UNKNOWN`: members only)."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    FIFO = "fifo"
    CHARACTER_DEVICE = "character device"
    BLOCK_DEVICE = "block device"
    SOCKET = "socket"
    HARD_LINK = "hard link"
    UNKNOWN = "unknown"

    # Members are compared by identity.  Enum's own is written in Python, and measurable with small files.
    __hash__ = object.__hash__


FLAG_OF_KIND = {
    Kind.FILE: b"0",
    Kind.HARD_LINK: b"1",
    Kind.SYMLINK: b"2",
    Kind.CHARACTER_DEVICE: b"3",
    Kind.BLOCK_DEVICE: b"4",
    Kind.DIRECTORY: b"5",
    Kind.FIFO: b"6",
}

# GNU tar's directory with the list of what was in it as its body (dumpdir.py).
DUMPDIR_FLAG = b"D"

# "\0" is a regular file of pre-POSIX tars, "7" a contiguous one that everybody treats as regular.
KIND_OF_FLAG = {flag: kind for kind, flag in FLAG_OF_KIND.items()} | {
    b"\0": Kind.FILE,
    b"7": Kind.FILE,
    DUMPDIR_FLAG: Kind.DIRECTORY,
}

_KIND_OF_FORMAT = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFCHR: Kind.CHARACTER_DEVICE,
    stat.S_IFBLK: Kind.BLOCK_DEVICE,
    stat.S_IFSOCK: Kind.SOCKET,
}


def kind_of_mode(mode: int) -> Kind:
    """Return the kind of an inode with `st_mode` `mode`; `UNKNOWN` for a type Linux does not have."""
    return _KIND_OF_FORMAT.get(stat.S_IFMT(mode), Kind.UNKNOWN)
