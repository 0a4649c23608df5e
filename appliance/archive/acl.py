"""POSIX ACLs: the kernel's binary form to the text in SCHILY.acl.* records, and back.

The binary form is that of the extended attributes system.posix_acl_access and _default
(include/uapi/linux/posix_acl_xattr.h): a little-endian u32 version 2, then entries (tag u16,
permissions u16, id u32).  The text is the short form of acl(5), ids always numeric, joined by commas:
acl_from_text(3) (GNU tar) and libarchive (bsdtar) both take it, on hosts that know none of the names.
"""

import struct

from appliance.archive.errors import DamagedArchiveError

__all__ = ["ACCESS_ATTRIBUTE", "DEFAULT_ATTRIBUTE", "acl_from_text", "acl_to_text"]

ACCESS_ATTRIBUTE = "system.posix_acl_access"
DEFAULT_ATTRIBUTE = "system.posix_acl_default"

_VERSION = 2
_HEADER = struct.Struct("<I")
_ENTRY = struct.Struct("<HHI")
_NO_ID = 0xFFFFFFFF
_ENTRIES_MAX = 65536 // _ENTRY.size  # an extended attribute holds 64 KiB (xattr(7))
_TEXT_BYTES_MAX = _ENTRIES_MAX * 128  # no entry is longer, names of other programs' included

_USER, _GROUP = 0x02, 0x08
# tag of the kernel: (word in the text, whether an id follows)
_TAGS = {
    0x01: (b"user", False),
    _USER: (b"user", True),
    0x04: (b"group", False),
    _GROUP: (b"group", True),
    0x10: (b"mask", False),
    0x20: (b"other", False),
}
_TAG_OF_WORD = {tag_word: tag for tag, tag_word in _TAGS.items()}


def acl_to_text(binary: bytes) -> bytes:
    """Return the text of a kernel ACL; raises `ValueError` for a form newer than this code."""
    if len(binary) < _HEADER.size or _HEADER.unpack_from(binary)[0] != _VERSION:
        raise ValueError("unknown version of a POSIX ACL")
    if (len(binary) - _HEADER.size) % _ENTRY.size:
        raise ValueError("a POSIX ACL of odd length")
    lines = []
    for tag, bits, number in _ENTRY.iter_unpack(binary[_HEADER.size :]):
        if tag not in _TAGS:
            raise ValueError(f"unknown tag {tag} in a POSIX ACL")
        word, has_id = _TAGS[tag]
        permissions = bytes(c if bits & bit else 0x2D for c, bit in zip(b"rwx", (4, 2, 1), strict=True))
        lines.append(b"%b:%b:%b" % (word, b"%d" % number if has_id else b"", permissions))
    return b",".join(lines)


def _entry(line: bytes, offset: int) -> tuple[int, int, int]:
    """Parse one text entry; a fourth field (star writes the id there) takes the place of a name."""
    fields = line.split(b"#")[0].strip().split(b":")
    if len(fields) in (3, 4):
        word, name, permissions = fields[:3]
        number = fields[3] if len(fields) == 4 and fields[3] else name
        tag = _TAG_OF_WORD.get((word, bool(name)))
        bits = sum({0x72: 4, 0x77: 2, 0x78: 1, 0x2D: 0}.get(c, 8) for c in permissions)
        if tag is not None and bits < 8 and len(permissions) <= 3 and (not name or number.isdigit()):
            identity = int(number) if name else _NO_ID
            if identity <= _NO_ID:
                return tag, bits, identity
    raise DamagedArchiveError(f"an ACL entry holds {line[:60]!r}", offset)


def acl_from_text(text: bytes, offset: int) -> bytes:
    """Return the kernel's form of an ACL text with numeric ids.

    Raises `DamagedArchiveError` (at `offset`) for text that is none.  Entries are sorted as the kernel
    demands: by tag, then by id (fs/posix_acl.c, posix_acl_valid).
    """
    if len(text) > _TEXT_BYTES_MAX:
        raise DamagedArchiveError("an ACL with too many entries", offset)
    lines = [line for line in text.replace(b"\n", b",").split(b",") if line.strip()]
    if len(lines) > _ENTRIES_MAX:
        raise DamagedArchiveError("an ACL with too many entries", offset)
    entries = sorted((tag, number, bits) for tag, bits, number in (_entry(line, offset) for line in lines))
    return _HEADER.pack(_VERSION) + b"".join(_ENTRY.pack(tag, bits, n) for tag, n, bits in entries)
