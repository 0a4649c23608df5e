"""What all conformance checks share: how a broken promise is told, and what need not be promised."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

from tape.errors import DeviceError
from tape.transport import Transport

__all__ = [
    "MHVTL_CANNOT",
    "READY_TIMEOUT_S",
    "TGT_CANNOT",
    "Cannot",
    "Check",
    "ConformanceError",
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


TGT_CANNOT = frozenset(
    {
        Cannot.SHORT_READ,
        Cannot.LONG_READ,
        Cannot.SPACE_BACK_FILEMARKS,
        Cannot.SPACE_RECORDS_STOP,
        Cannot.SPACE_REST,
        Cannot.POSITION,
        Cannot.LOCATE,
        Cannot.OVERFLOW,
        Cannot.LOAD_ATTENTION,
        Cannot.UNLOAD,
        Cannot.DRIVE_SERIALS,
    }
)
MHVTL_CANNOT = frozenset({Cannot.SPACE_REST, Cannot.LOAD_ATTENTION, Cannot.RELOAD})

Check = Callable[[Transport, frozenset[Cannot]], None]


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
