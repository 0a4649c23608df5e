"""TapeAlert: what a drive wants people to know (SSC-4, 4.2.20 and annex A; log page 2Eh)."""

from __future__ import annotations

__all__ = ["ALERT_TEXTS", "alert_text", "parse_alerts"]

_PAGE, _PAGE_HEADER, _PARAMETER_HEADER = 0x2E, 4, 4

ALERT_TEXTS: dict[int, str] = {
    1: "has trouble reading",
    2: "has trouble writing",
    3: "hard error",
    4: "the cartridge cannot be read or written any more: copy what can be read, retire it",
    5: "read failure: the tape or the drive is faulty",
    6: "write failure: the tape or the drive is faulty",
    7: "the cartridge is at the end of its life: copy it, retire it",
    8: "the cartridge is not data grade",
    9: "write on a write-protected cartridge",
    10: "the cartridge is in use and cannot be ejected",
    11: "a cleaning cartridge is loaded",
    12: "the cartridge has a format that the drive does not know",
    13: "the tape snapped or was cut, and may be ejected",
    14: "the tape snapped or was cut, and cannot be ejected: call the vendor",
    15: "the memory in the cartridge failed",
    16: "the cartridge was ejected by hand in the middle of work",
    17: "the cartridge can only be read in this drive",
    18: "the tape's directory was corrupted: read the tape to its end once",
    19: "the cartridge is near the end of its life",
    20: "clean the drive now",
    21: "clean the drive when it is free",
    22: "the cleaning cartridge is used up",
    23: "the cleaning cartridge is of the wrong kind",
    30: "hardware failure: reset the drive",
    31: "hardware failure: switch the drive off and on",
    32: "trouble with the interface: check the cables",
    33: "eject the cartridge and load it again",
    36: "too hot",
    38: "a failure of the drive is expected",
    39: "run the drive's diagnostics",
    51: "the tape's directory was corrupted at the unload: read the tape to its end once",
    52: "the tape's system area could not be written: copy the cartridge",
    53: "the tape's system area could not be read: copy the cartridge",
    55: "the cartridge cannot be loaded",
    56: "the cartridge cannot be unloaded",
}


def alert_text(flag: int) -> str:
    """A flag in words."""
    return ALERT_TEXTS.get(flag, f"TapeAlert {flag}")


def parse_alerts(page: bytes) -> tuple[int, ...]:
    """The flags that are set in log page 2Eh, ascending; none in bytes that are not that page."""
    if len(page) < _PAGE_HEADER or page[0] & 0x3F != _PAGE:
        return ()
    end = min(len(page), _PAGE_HEADER + int.from_bytes(page[2:4], "big"))
    found = []
    place = _PAGE_HEADER
    while place + _PARAMETER_HEADER < end:
        length = page[place + 3]
        if length and page[place + _PARAMETER_HEADER] & 0x01:
            found.append(int.from_bytes(page[place : place + 2], "big"))
        place += _PARAMETER_HEADER + length
    return tuple(sorted(found))
