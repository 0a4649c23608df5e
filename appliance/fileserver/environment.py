"""What the variables of a backup or restore ask for, in every spelling that DMAs use.  Pure.

Variables that are not read here are kept, and returned by DATA_GET_ENV, but change nothing (draft-skardal-
ndmpv4-04, 3.5.2.3).

Incremental backups are asked for by LEVEL, as dump(8) has it, or by token: BASE_DATE is the DUMP_DATE that an
earlier backup returned (several vendors' file servers have it so).
"""

from __future__ import annotations

import enum
import os
import pwd
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from appliance.archive.markers import Markers
from appliance.ndmp.enums import ALL_ONES, ErrorCode
from appliance.ndmp.errors import RefusalError
from appliance.text import show_path

TAR = b"tar"
DUMP = b"dump"
BUTYPES = (TAR, DUMP)
"""The backup types: one stream, a pax archive that GNU tar and bsdtar read.  They differ in the form that
HIST=y means."""

BASE_DATE = b"BASE_DATE"
DUMP_DATE = b"DUMP_DATE"
EXTRACT = b"EXTRACT"

Environment = Mapping[bytes, Sequence[bytes]]


class HistoryForm(enum.Enum):
    """The forms of file history, by their value of HIST."""

    NONE = b"n"
    FILE = b"f"
    NODE = b"d"


@dataclass(frozen=True)
class Increment:
    """How much of a tree a backup is of: all of it, or what changed since a base.

    `base` is the base's token, None where the level chooses it.  `update`: whether the backup may become a
    base itself.
    """

    level: int = 0
    base: int | None = None
    update: bool = True

    @property
    def is_incremental(self) -> bool:
        """Whether there is a base."""
        return self.level > 0 or self.base is not None


ALL_OF_IT = Increment()

_HISTORY_WORDS = {
    b"f": HistoryForm.FILE,
    b"file": HistoryForm.FILE,
    b"d": HistoryForm.NODE,
    b"dir": HistoryForm.NODE,
    b"directory": HistoryForm.NODE,
    b"node": HistoryForm.NODE,
}
_YES = frozenset((b"y", b"yes", b"t", b"true"))
_NO = frozenset((b"n", b"no", b"f", b"false"))
_DIGITS_MAX = 20  # of a 64-bit number
_NO_BASE = frozenset((b"", b"0", b"-1"))

SKIP_CACHES = b"SPANREEL_SKIP_CACHES"
SKIP_NODUMP = b"SPANREEL_SKIP_NODUMP"
"""Of our own, y or n: whether marks of users that something need not be saved are honoured."""


def last(env: Environment, name: bytes, default: bytes = b"") -> bytes:
    """The last value of a variable."""
    values = env.get(name)
    return values[-1] if values else default


def history_form(env: Environment, butype: bytes) -> HistoryForm:
    """What HIST asks for; absent, and what is no answer, mean none (draft, 3.2.5).

    f and d choose the form whatever the type; y leaves it to the type.
    """
    word = last(env, b"HIST").strip().lower()
    if word in _YES:
        return HistoryForm.NODE if butype == DUMP else HistoryForm.FILE
    return _HISTORY_WORDS.get(word, HistoryForm.NONE)


def markers(env: Environment) -> Markers:
    """Which marks are honoured: none, unless the DMA says so."""
    return Markers(*(last(env, name).strip().lower() in _YES for name in (SKIP_CACHES, SKIP_NODUMP)))


def marker_variables(wanted: Markers) -> list[tuple[bytes, bytes]]:
    """The variables that ask for this."""
    both = ((SKIP_CACHES, wanted.caches), (SKIP_NODUMP, wanted.nodump))
    return [(name, b"y") for name, is_wanted in both if is_wanted]


def check_backup(env: Environment, butype: bytes) -> None:
    """Raise RefusalError(ILLEGAL_ARGS) for a backup that is not offered, or contradicts itself."""
    check_butype(butype)
    kind = last(env, b"TYPE")
    if kind and kind != butype:
        raise _refused(f"TYPE={show_path(kind)} contradicts the backup type {show_path(butype)}: send one")
    increment(env)


def increment(env: Environment) -> Increment:
    """What LEVEL, BASE_DATE and UPDATE ask for.  Raises RefusalError(ILLEGAL_ARGS)."""
    level = last(env, b"LEVEL").strip() or b"0"
    base = last(env, BASE_DATE).strip()
    for name, value in ((b"LEVEL", level), (BASE_DATE, base.removeprefix(b"-"))):
        if value and not (value.isdigit() and len(value) <= _DIGITS_MAX):
            raise _refused(f"{name.decode()}={show_path(value)} is no number of a backup")
    if base == b"0" and int(level):
        raise _refused(f"BASE_DATE=0 asks for a full backup, LEVEL={int(level)} for what changed: send one")
    update = last(env, b"UPDATE").strip().lower() not in _NO
    token = None if base in _NO_BASE else int(base)
    if token is not None and not 0 < token < ALL_ONES:
        raise _refused(f"BASE_DATE={show_path(base)} is no token: send what DUMP_DATE returned")
    return Increment(int(level), token, update)


def follows_lists(env: Environment) -> bool:
    """Whether a restore removes and moves what an incremental image says: EXTRACT=n, restore(8)'s -r."""
    return last(env, EXTRACT).strip().lower() in _NO


def check_butype(butype: bytes) -> None:
    """Raise RefusalError(ILLEGAL_ARGS) for another backup type than ours."""
    if butype not in BUTYPES:
        offered = " or ".join(name.decode() for name in BUTYPES)
        raise _refused(f"backup type {show_path(butype)} is not offered; use {offered}")


def other_user(env: Environment) -> str:
    """The user that USER names, when it is not the one that this server runs as; else an empty string."""
    name = last(env, b"USER").decode("utf-8", "backslashreplace")
    return "" if name in ("", str(os.geteuid()), _own_name()) else name


def _own_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return ""


def _refused(why: str) -> RefusalError:
    return RefusalError(ErrorCode.ILLEGAL_ARGS, why)
