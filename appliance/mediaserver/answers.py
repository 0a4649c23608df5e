"""How a device's errors become NDMP errors, the one log line that goes with each, and a line for the DMA.

NDMP has a few words for what a drive can say, and no field for sense data but in replies to EXECUTE_CDB.  So
what broke a request or a stream also goes to the DMA as LOG_MESSAGE: device, cartridge, position, sense,
remedy.  What a DMA waits out (not ready, busy) does not: it asks twice a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from appliance.mediaserver.libraries import Unit
from appliance.mediaserver.open_drive import OpenDrive
from appliance.ndmp import messages as m
from appliance.ndmp.enums import ErrorCode, LogType
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
from tape.remedies import remedy_for

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
_WAITED_OUT = (NoMediumError, NotReadyError, DeviceHeldError, ReservationConflictError)

Tell = Callable[[m.LogMessagePost], None]
"""Sends a post to the DMA."""


def nobody(_post: m.LogMessagePost) -> None:
    """For services without a session."""


def code_of(error: TapeError) -> ErrorCode:
    """The NDMP error for a device's error; NDMP_IO_ERR for all that NDMP does not tell apart."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), ErrorCode.IO)


class Reporter:
    """Tells of device errors: counts them, writes the log line, and posts to the DMA."""

    def __init__(self, log: Any, tell: Tell = nobody) -> None:
        self.log = log
        self._tell = tell

    @contextmanager
    def answering(self, request: str, unit: Unit, opened: OpenDrive | None = None) -> Iterator[None]:
        """Turn device errors within the block into refusals, and tell of each.

        `opened` knows cartridge and position.  Raises RefusalError.
        """
        try:
            yield
        except TapeError as error:
            self.report(request, unit, error, opened)
            raise RefusalError(code_of(error), str(error)) from error

    def report(
        self, request: str, unit: Unit, error: TapeError, opened: OpenDrive | None = None, **more: object
    ) -> None:
        """Tell of an error that is dealt with elsewhere; `more` goes into the log line."""
        unit.errors += 1
        facts = {"cartridge": opened.barcode, "position": opened.where(error)} if opened is not None else {}
        remedy = remedy_for(error)
        self.log.warning(
            "device error", request=request, device=unit.name, **facts, why=str(error), remedy=remedy, **more
        )
        if isinstance(error, _WAITED_OUT):
            return
        where = [unit.name, *(f"{name} {value}" for name, value in facts.items() if value)]
        text = f"{', '.join(where)}: {request}: {error}" + (f"; {remedy}" if remedy else "")
        self._tell(m.LogMessagePost(LogType.ERROR, 0, text.encode("utf-8", "backslashreplace")))
