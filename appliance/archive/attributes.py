"""What an inode carries besides its data: extended attributes, ACLs, and the names of its owner."""

import errno
import grp
import os
import pwd

from appliance.archive.acl import ACCESS_ATTRIBUTE, DEFAULT_ATTRIBUTE, acl_to_text
from appliance.archive.pax import encode_keyword, record
from appliance.archive.ustar import OCTAL_ID_MAX

__all__ = ["Identities", "attribute_records"]

_ACL_KEYWORDS = {ACCESS_ATTRIBUTE: b"SCHILY.acl.access", DEFAULT_ATTRIBUTE: b"SCHILY.acl.default"}

# Users seen by one part; a file system with more of them costs look-ups, not memory.
_IDENTITIES_MAX = 4096

# The attribute went away meanwhile, or this file system has none.
_NO_ATTRIBUTES = (errno.ENODATA, errno.ENOTSUP)


def attribute_records(where: int | str, follow_symlinks: bool = True) -> bytes:
    """Return the pax records of the extended attributes and ACLs of an open file, or of a path.

    Raises `OSError` if they cannot be read and `ValueError` for an ACL this code does not know.
    """
    try:
        names = os.listxattr(where) if follow_symlinks else os.listxattr(where, follow_symlinks=False)
    except OSError as error:
        if error.errno in _NO_ATTRIBUTES:
            return b""
        raise
    records = b""
    for name in names:  # mostly none
        try:
            value = os.getxattr(where, name, follow_symlinks=follow_symlinks)
        except OSError as error:
            if error.errno in _NO_ATTRIBUTES:
                continue
            raise
        acl_keyword = _ACL_KEYWORDS.get(name)
        if acl_keyword:
            records += record(acl_keyword, acl_to_text(value))
        else:
            records += record(b"SCHILY.xattr." + encode_keyword(os.fsencode(name)), value)
    return records


def _user_name(uid: int) -> bytes:
    """Return a user's name, or nothing where it is unknown."""
    try:
        return os.fsencode(pwd.getpwuid(uid).pw_name)
    except KeyError:
        return b""


def _group_name(gid: int) -> bytes:
    """Return a group's name, or nothing where it is unknown."""
    try:
        return os.fsencode(grp.getgrgid(gid).gr_name)
    except KeyError:
        return b""


class Identities:
    """The owner fields of headers, looked up once per (uid, gid)."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], tuple[tuple[bytes, bytes, bytes, bytes], bytes]] = {}
        # Those of them that need no records.
        self.plain: dict[tuple[int, int], tuple[bytes, bytes, bytes, bytes]] = {}

    def fields(self, uid: int, gid: int) -> tuple[tuple[bytes, bytes, bytes, bytes], bytes]:
        """Return the owner fields for `ustar.encode_header`, and the pax records for what does not fit."""
        known = self._known.get((uid, gid))
        if known is None:
            if len(self._known) == _IDENTITIES_MAX:
                self._known.clear()
                self.plain.clear()
            known = self._known[uid, gid] = self._look_up(uid, gid)
            if not known[1]:
                self.plain[uid, gid] = known[0]
        return known

    @staticmethod
    def _look_up(uid: int, gid: int) -> tuple[tuple[bytes, bytes, bytes, bytes], bytes]:
        """Build the fields of one owner; numbers beyond seven octal digits go into records."""
        records = b""
        if uid > OCTAL_ID_MAX:
            records += record(b"uid", b"%d" % uid)
        if gid > OCTAL_ID_MAX:
            records += record(b"gid", b"%d" % gid)
        octal_uid = b"%07o" % (uid if uid <= OCTAL_ID_MAX else 0)
        octal_gid = b"%07o" % (gid if gid <= OCTAL_ID_MAX else 0)
        # 31 bytes and a NUL is what the fields hold; a longer name must not be cut into another one.
        names = [name if len(name) < 32 else b"" for name in (_user_name(uid), _group_name(gid))]
        return (octal_uid, octal_gid, names[0], names[1]), records
