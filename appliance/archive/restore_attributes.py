"""Giving a restored inode its owner, mode, extended attributes, ACLs and times, in the order that lasts.

chown(2) clears set-user-id bits and file capabilities, so it comes first; user attributes need the right to
write (xattr(7)), which chmod(2) may take away; chmod changes the mask of an ACL, so the ACL comes after it;
everything changes times, so they come last.
"""

import errno
import os
import stat
from collections.abc import Callable
from typing import NamedTuple

from appliance.archive.acl import ACCESS_ATTRIBUTE, DEFAULT_ATTRIBUTE
from appliance.archive.kinds import Kind
from appliance.archive.member import Member

__all__ = ["Attributes", "Privileges", "apply_attributes"]

_SET_ID_BITS = stat.S_ISUID | stat.S_ISGID
_CAP_CHOWN = 0  # bits of capabilities(7)
_CAP_MKNOD = 27

# Enum's own `value` is written in Python, and measurable with small files.
_VALUES = {kind: kind.value for kind in Kind}
_SYMLINK = Kind.SYMLINK.value

# Tells of one attribute that could not be set.
Report = Callable[[str], None]


class Privileges(NamedTuple):
    """What this process may do: the product runs as a user of its own, with listed capabilities."""

    chown: bool
    mknod: bool

    @classmethod
    def of_this_thread(cls) -> "Privileges":
        """Read the effective capabilities (proc_pid_status(5), CapEff)."""
        with open("/proc/thread-self/status", "rb") as status:
            for line in status:
                if line.startswith(b"CapEff:"):
                    bits = int(line.split()[1], 16)
                    return cls(bool(bits >> _CAP_CHOWN & 1), bool(bits >> _CAP_MKNOD & 1))
        return cls(False, False)


class Attributes(NamedTuple):
    """A member's attributes, decoded and checked before anything is made; see `Member` for the units."""

    kind: str
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    xattrs: list[tuple[bytes, bytes]]
    acl_access: bytes | None
    acl_default: bytes | None

    @classmethod
    def of(cls, member: Member) -> "Attributes":
        """Decode; raises `DamagedArchiveError` for what is malformed."""
        kind = _VALUES[member.kind]
        mode, uid, gid = member.identity
        if b"SCHILY" in member.raw:
            acls = member.acl_access, member.acl_default
            return cls(kind, mode, uid, gid, member.mtime_ns, member.xattrs, *acls)
        return cls(kind, mode, uid, gid, member.mtime_ns, [], None, None)


def _remove(where: int | str, name: str) -> None:
    """Remove an attribute, if it is there."""
    try:
        os.removexattr(where, name)
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.ENOTSUP):
            raise


def _set(where: int | str, name: bytes | str, value: bytes, follow: bool, report: Report) -> None:
    """Set an attribute; one that cannot be set is reported."""
    try:
        os.setxattr(where, name, value, follow_symlinks=follow)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        report(f"attribute {os.fsdecode(name)} cannot be set: {why}")


def _acls(where: int | str, attributes: Attributes, inherited: bool, report: Report) -> None:
    """Set the ACLs, or remove what the directory above bequeathed."""
    if attributes.acl_access is not None:
        _set(where, ACCESS_ATTRIBUTE, attributes.acl_access, True, report)
    elif inherited:
        _remove(where, ACCESS_ATTRIBUTE)
    if attributes.acl_default is not None:
        _set(where, DEFAULT_ATTRIBUTE, attributes.acl_default, True, report)
    elif attributes.kind == Kind.DIRECTORY.value and inherited:
        _remove(where, DEFAULT_ATTRIBUTE)


def apply_attributes(
    where: int | str,
    attributes: Attributes,
    privileges: Privileges,
    report: Report,
    inherited: bool = False,
) -> bool:
    """Set all attributes of an inode; return false if its owner had to be left out.

    `where` is a descriptor, or a path through /proc/self/fd; only a symbolic link's own path ends in one,
    and is not followed.  `inherited`: the directory above has a default ACL, or the inode was there before.
    Without the right to change owners, the set-user-id bits go too where the owner is another: the file
    would lend the wrong user's rights.  Raises `OSError`.
    """
    is_link = attributes.kind == _SYMLINK
    owned = True
    mode = attributes.mode
    if privileges.chown:
        os.chown(where, attributes.uid, attributes.gid, follow_symlinks=not is_link)
    elif (attributes.uid, attributes.gid) != (os.geteuid(), os.getegid()):
        owned = False
        mode &= ~_SET_ID_BITS
    for name, value in attributes.xattrs:
        _set(where, name, value, not is_link, report)
    if not is_link:
        os.chmod(where, mode)  # noqa: PTH101  a descriptor has no Path
    if not is_link and (inherited or attributes.acl_access or attributes.acl_default):
        _acls(where, attributes, inherited, report)
    # The archive holds no access time; the modification time is a better one than that of the restore.
    times = attributes.mtime_ns, attributes.mtime_ns
    os.utime(where, ns=times, follow_symlinks=not is_link)
    return owned
