"""What a directory held at the time of an incremental backup: GNU tar's "dumpdir", the body of a `D` member.

Source: GNU tar manual, "Dumpdir": records that end with a NUL each, and a NUL after the last.  ``Y`` and a
name: in this archive; ``N``: unchanged, in the archive before; ``D``: a directory.  In the member of a part's
top ``R`` and ``T`` in a row: a directory was moved from one member name to the other.  The records that name
what is there are sorted by name, because GNU tar searches them so.

A `D` member and not a record of an `x` header (`GNU.dumpdir`), because bsdtar refuses headers over 1 MiB.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from appliance.archive.errors import DamagedArchiveError

__all__ = ["DUMPDIR_BYTES_MAX", "MOVES_MAX", "NAMES_MAX", "Dumpdir", "encode_dumpdir", "parse_dumpdir"]

DUMPDIR_BYTES_MAX = 64 * 1024 * 1024
"""Two million names of thirty bytes.  It is read into memory, as the listing it was made of was."""

NAMES_MAX = 2_000_000
"""So that a list of the shortest names takes some 300 MB when it is read, and not 1.3 GB."""

MOVES_MAX = 1000
"""Moves of one part: they come back to a DMA as variables.  What is moved beyond is saved whole again."""

IN_ARCHIVE, UNCHANGED, DIRECTORY = b"Y", b"N", b"D"
_FROM, _TO = b"R", b"T"
_NAMES = (IN_ARCHIVE, UNCHANGED, DIRECTORY)
_NAME_BYTES_MAX = 255  # Linux's NAME_MAX


class Dumpdir(NamedTuple):
    """The letter of each name, and moves as (from, to), to be done in order before anything else."""

    names: Mapping[bytes, bytes]
    moves: Sequence[tuple[bytes, bytes]] = ()


def encode_dumpdir(dumpdir: Dumpdir) -> bytes:
    """Return the body of a `D` member; moved paths are member names."""
    names = dumpdir.names
    parts = [letter + name for name, letter in sorted(names.items())]
    for source, target in dumpdir.moves:
        parts += (_FROM + source, _TO + target)
    return b"".join(part + b"\0" for part in parts) + b"\0"


def parse_dumpdir(body: bytes, offset: int) -> Dumpdir:
    """Return what a body says.  Raises `DamagedArchiveError` (at `offset`) for what no writer makes.

    Moved paths are as they stand: who follows them checks them as the names of members.
    """
    if not body.endswith(b"\0"):
        raise DamagedArchiveError("the list of a directory is cut off", offset)
    if body.count(b"\0") > NAMES_MAX + 2 * MOVES_MAX + 2:
        raise DamagedArchiveError("the list of a directory has too many names", offset)
    names: dict[bytes, bytes] = {}
    moves: list[tuple[bytes, bytes]] = []
    records = iter(body.rstrip(b"\0").split(b"\0") if body.strip(b"\0") else ())
    for record in records:
        letter, rest = record[:1], record[1:]
        if letter in _NAMES:
            names[_checked(rest, offset)] = letter
        elif letter == _FROM:
            target = next(records, b"")
            if not rest or target[:1] != _TO or len(target) < 2:
                raise DamagedArchiveError("the list of a directory moves something nowhere", offset)
            moves.append((rest, target[1:]))
        else:
            raise DamagedArchiveError(f"the list of a directory holds {record[:40]!r}", offset)
    if len(moves) > MOVES_MAX:
        raise DamagedArchiveError(f"the list of a directory moves {len(moves)} others", offset)
    return Dumpdir(names, moves)


def _checked(name: bytes, offset: int) -> bytes:
    if name in (b"", b".", b"..") or b"/" in name or len(name) > _NAME_BYTES_MAX:
        raise DamagedArchiveError(f"the list of a directory names {name[:40]!r}", offset)
    return name
