"""What an operator can do about a device's error, in a few words for a log line."""

from __future__ import annotations

from tape.errors import (
    CommandTimeoutError,
    DeviceHeldError,
    EndOfMediumError,
    HardwareError,
    MediumError,
    NoMediumError,
    NotReadyError,
    RecordSizeError,
    ReservationConflictError,
    TapeError,
    TransportError,
    UnitAttentionError,
    WriteProtectedError,
)
from tape.sense import Sense

__all__ = ["remedy_for"]

_ROBOT = "look into the library: free the arm or the cartridge, then have it take its inventory"

# By additional sense code and qualifier (SPC-4, annex F.2); (asc, None) stands for all qualifiers.
_BY_CODE: dict[tuple[int, int | None], str] = {
    (0x00, 0x17): "clean the drive",
    (0x04, 0x03): "the drive or library waits for a person: look at its panel",
    (0x04, 0x12): "the device is offline: put it online at its panel",
    (0x15, None): _ROBOT,
    (0x30, 0x03): "take the cleaning cartridge out",
    (0x30, 0x07): "cleaning failed: take a new cleaning cartridge",
    (0x30, 0x0C): "the cartridge can be written once only: take another one",
    (0x30, None): "this drive cannot use this cartridge: compare their generations",
    (0x3B, 0x11): "close the magazine or the door of the library",
    (0x3B, 0x12): "put the magazine back",
    (0x53, 0x02): "somebody has locked the cartridge in: unload it there, or reset the drive",
    (0x53, None): "look at the drive: the cartridge may be stuck; eject it at the panel",
    (0x5D, None): "the device expects to fail: have it replaced",
}

# The first that fits, so the special ones come first.
_BY_TYPE: tuple[tuple[type[TapeError], str], ...] = (
    (NoMediumError, "load a cartridge"),
    (NotReadyError, "wait; if it stays so, look at the panel of the drive"),
    (WriteProtectedError, "open the tab of the cartridge, or take another one"),
    (MediumError, "clean the drive and try the cartridge in another one; if it fails there too, retire it"),
    (HardwareError, "switch the device off and on, look at its panel; use another drive meanwhile"),
    (UnitAttentionError, "none needed: run the job again"),
    (EndOfMediumError, "take the next cartridge"),
    (RecordSizeError, "choose another record size (backup_server.record_size, or the DMA's setting)"),
    (ReservationConflictError, "have the other host release it; if that host is gone, reset the device"),
    (DeviceHeldError, "let the other program finish, or end it"),
    (CommandTimeoutError, "switch the device off and on; if it hangs again, have it looked at"),
    (TransportError, "check cable, power and network; `spanreel tape discover` shows what is attached"),
)


def remedy_for(error: TapeError) -> str:
    """What can be done; empty where nothing can be said."""
    sense: Sense | None = getattr(error, "sense", None)
    if sense is not None and sense.asc:
        text = _BY_CODE.get(sense.code) or _BY_CODE.get((sense.asc, None))
        if text is not None:
            return text
    return next((text for kind, text in _BY_TYPE if isinstance(error, kind)), "")
