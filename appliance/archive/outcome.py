"""What a restore is asked for with, what it tells, and what it came to."""

import enum
from dataclasses import dataclass, field
from typing import Protocol

__all__ = [
    "PROBLEMS_MAX",
    "Existing",
    "ExtractObserver",
    "ExtractOptions",
    "ExtractResult",
    "SourceStatus",
]

# Kept in the result for people to read; the count goes on, and the observer is told of every one.
PROBLEMS_MAX = 1000


class Existing(enum.Enum):
    """What happens to what is there already: replaced, left, or replaced only if it is older."""

    OVERWRITE = "overwrite"
    KEEP = "keep"
    NEWER = "newer"


@dataclass(frozen=True)
class ExtractOptions:
    """How to restore.

    `existing`: see there.  `backup_root`: the global path sources are relative to; None takes it from the
    image's global header (an image without one has ``/``).  `devices`: whether device nodes are made.
    `incremental`: whether a directory's list is followed (dumpdir.py): what it moves is moved, what it does
    not name is removed.
    `second_pass`: whether whoever asked restores the lost links afterwards, so that they are no problems yet.
    """

    existing: Existing = Existing.OVERWRITE
    backup_root: bytes | None = None
    devices: bool = True
    incremental: bool = False
    second_pass: bool = False


class ExtractObserver(Protocol):
    """Told as the restore goes; paths are relative to the backup root, with a leading slash."""

    def restored(self, path: bytes, /) -> None:
        """A member is restored, at all of its places."""

    def problem(self, path: bytes, text: str, /) -> None:
        """A member, or something of it, could not be restored; one line for people."""


@dataclass
class SourceStatus:
    """How one target went: members that were for it, and problems with them."""

    members: int = 0
    problems: int = 0


@dataclass
class ExtractResult:
    """What a restore came to.

    `removed`: names that were there and are not in a directory's list.
    `files` members restored, of every kind, and `data_bytes` of their data; `kept` left because of
    `Existing`; `skipped` owners and devices left out for lack of privilege; `problems` the first
    `PROBLEMS_MAX` of `problem_count`, as (path, text); `lost_links` the first as many of the hard links whose
    data is not among what was restored (each is a problem, too, unless a second pass was announced): a second
    pass with `Target.image_offset` brings them; `sources` one status for each target, in order.
    """

    files: int = 0
    data_bytes: int = 0
    kept: int = 0
    removed: int = 0
    skipped: int = 0
    problem_count: int = 0
    problems: list[tuple[bytes, str]] = field(default_factory=list)
    lost_links: list[bytes] = field(default_factory=list)
    sources: list[SourceStatus] = field(default_factory=list)
