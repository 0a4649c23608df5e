"""How a device's errors become NDMP errors, and the one log line that goes with each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from appliance.mediaserver.libraries import Unit
from appliance.ndmp.enums import ErrorCode
from appliance.ndmp.errors import RefusalError
from tape.errors import (
    CommandTimeoutError,
    DeviceHeldError,
    NoMediumError,
    NotReadyError,
    ReservationConflictError,
    TapeError,
    WriteProtectedError,
)

_CODES: tuple[tuple[type[TapeError], ErrorCode], ...] = (
    (NoMediumError, ErrorCode.NO_TAPE_LOADED),
    # "no tape loaded or ready" is one condition for NDMP (draft-skardal-ndmpv4-04, 3.4.5).
    (NotReadyError, ErrorCode.NO_TAPE_LOADED),
    (WriteProtectedError, ErrorCode.WRITE_PROTECT),
    (CommandTimeoutError, ErrorCode.TIMEOUT),
    # In use, by another program of this machine or by another host.
    (DeviceHeldError, ErrorCode.DEVICE_BUSY),
    (ReservationConflictError, ErrorCode.DEVICE_BUSY),
)


def code_of(error: TapeError) -> ErrorCode:
    """The NDMP error for a device's error; NDMP_IO_ERR for all that NDMP does not tell apart."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), ErrorCode.IO)


@contextmanager
def answering(log: Any, request: str, unit: Unit) -> Iterator[None]:
    """Turn device errors within the block into refusals; count each, and log it with its sense in words.

    `log` names drive and cartridge.  Raises RefusalError.
    """
    try:
        yield
    except TapeError as error:
        unit.errors += 1
        log.warning("device error", request=request, why=str(error))
        raise RefusalError(code_of(error), str(error)) from error
