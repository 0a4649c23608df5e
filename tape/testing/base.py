"""What all conformance checks share: how a broken promise is told, and what need not be promised."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from enum import Enum, auto

from tape.errors import DeviceError
from tape.transport import Transport

__all__ = [
    "KINDS",
    "MHVTL_CANNOT",
    "READY_TIMEOUT_S",
    "TGT_CANNOT",
    "Cannot",
    "Check",
    "ConformanceError",
    "SkippedCheck",
    "need",
    "require",
    "require_error",
]

# A changer that has just been switched on may look at its whole inventory first.
READY_TIMEOUT_S = 300.0


class Cannot(Enum):
    """Something a library is known not to do (tape.md says which and why)."""

    SHORT_READ = auto()  # read with a buffer larger than the record
    LONG_READ = auto()  # read with a buffer smaller than the record
    SPACE_BACK_FILEMARKS = auto()  # stop right before the filemark
    SPACE_RECORDS_STOP = auto()  # stop record spacing at a filemark
    SPACE_REST = auto()  # say how much of a space was left
    POSITION = auto()  # READ POSITION
    LOCATE = auto()
    OVERFLOW = auto()  # VOLUME OVERFLOW at the end of the tape
    LOAD_ATTENTION = auto()  # UNIT ATTENTION 28/00 after a load
    UNLOAD = auto()  # be not ready after UNLOAD
    RELOAD = auto()  # LOAD after UNLOAD
    DRIVE_SERIALS = auto()  # DVCID, of every drive


TGT_CANNOT: Mapping[Cannot, str] = {
    Cannot.SHORT_READ: "the residual is inverted, so most of the record is missing (mended in 1.0.94)",
    Cannot.LONG_READ: "sense is right, and no data comes",
    Cannot.SPACE_BACK_FILEMARKS: "spacing back over filemarks ends one record too far",
    Cannot.SPACE_RECORDS_STOP: "spacing over records passes filemarks",
    Cannot.SPACE_REST: "sense at the end of data or the beginning has no information field",
    Cannot.POSITION: "READ POSITION is a stub",
    Cannot.LOCATE: "05/20/00: the command is not there",
    Cannot.OVERFLOW: "writes behind the end are taken without end",
    Cannot.LOAD_ATTENTION: "no unit attention follows a load",
    Cannot.UNLOAD: "the drive stays ready after UNLOAD",
    Cannot.DRIVE_SERIALS: "the reply is 8 bytes short, which cuts the last drive's serial number",
}
"""tgt 1.0.85, as in Debian 12."""

MHVTL_CANNOT: Mapping[Cannot, str] = {
    Cannot.SPACE_REST: "the rest of a space over records that a filemark ends is wrong",
    Cannot.LOAD_ATTENTION: "no unit attention follows a load",
    Cannot.RELOAD: "LOAD after UNLOAD ends with 02/31/00: the cartridge must go to a slot and come again",
}
"""mhvtl 1.8."""

KINDS: Mapping[str, Mapping[Cannot, str]] = {
    "model": {},
    "tgt": TGT_CANNOT,
    "mhvtl": MHVTL_CANNOT,
    "hardware": {},
}
"""What each kind of library is known not to do, and why.  Nothing is declared for hardware: what fails there
is a finding."""

Check = Callable[[Transport, Collection[Cannot]], None]


class SkippedCheck(Exception):  # noqa: N818 - it is what becomes of a check, not an error
    """A check that a library is known not to pass was not made; the text is the reason."""


def need(cannot: Collection[Cannot], what: Cannot) -> None:
    """Raise SkippedCheck where a library is known not to do this, with the reason if one is given."""
    if what in cannot:
        reason = cannot[what] if isinstance(cannot, Mapping) else "declared"
        raise SkippedCheck(f"cannot {what.name}: {reason}")


class ConformanceError(AssertionError):
    """A device broke a promise; the text is the promise, and what came instead."""


def require(condition: bool, promise: str, found: object = "") -> None:
    """Raise ConformanceError with the promise, and what came instead, unless the condition holds."""
    if not condition:
        raise ConformanceError(f"{promise}; found {found!r}" if found != "" else promise)


def require_error(expected: type[DeviceError], action: Callable[[], object], promise: str) -> DeviceError:
    """Return the error that `action` must end with."""
    try:
        result = action()
    except expected as error:
        return error
    except DeviceError as error:
        raise ConformanceError(f"{promise}; found {type(error).__name__}: {error}") from error
    raise ConformanceError(f"{promise}; found no error, but {result!r}")
