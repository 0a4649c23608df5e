"""Promises of the words for operators: what to do about an error, and what TapeAlert flags mean."""

from __future__ import annotations

import pytest

from tape import errors
from tape.alerts import alert_text, parse_alerts
from tape.remedies import remedy_for
from tape.sense import Sense


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (errors.MediumError("x", sense=Sense(3, 0x11, 0)), "clean the drive"),
        (errors.HardwareError("x", sense=Sense(4, 0x15, 0x01)), "free the arm"),
        (errors.HardwareError("x", sense=Sense(4, 0x44, 0)), "off and on"),
        (errors.HardwareError("x", sense=Sense(4, 0x53, 0)), "may be stuck"),
        (errors.IllegalRequestError("x", sense=Sense(5, 0x53, 2)), "locked the cartridge in"),
        (errors.NotReadyError("x", sense=Sense(2, 0x30, 0x03)), "cleaning cartridge"),
        (errors.WriteProtectedError("x"), "tab"),
        (errors.ReservationConflictError("x"), "other host"),
        (errors.DeviceHeldError("x"), "other program"),
        (errors.TransportError("x"), "cable"),
        (errors.TapeMisuseError("x"), ""),
    ],
)
def test_remedies(error: errors.TapeError, words: str) -> None:
    """The code decides where it is told, else the kind of error; the special kind before its parent."""
    assert words in remedy_for(error)
    assert bool(remedy_for(error)) is bool(words)


def page(*flags: tuple[int, int]) -> bytes:
    """Log page 2Eh with these parameters and values."""
    body = b"".join(bytes([0, code, 0, 1, value]) for code, value in flags)
    return bytes([0x2E, 0]) + len(body).to_bytes(2, "big") + body


def test_alerts_that_are_set_are_found() -> None:
    """Only flags whose bit is set count, whatever the order."""
    assert parse_alerts(page((21, 1), (3, 0), (20, 1))) == (20, 21)
    assert parse_alerts(page()) == ()


@pytest.mark.parametrize("data", [b"", b"\x2e\0", bytes([0x0C, 0, 0, 5, 0, 20, 0, 1, 1]), page((20, 1))[:-1]])
def test_other_bytes_hold_no_alerts(data: bytes) -> None:
    """Another page, or one cut short, says nothing."""
    assert parse_alerts(data) == ()


def test_unknown_flags_have_a_name() -> None:
    """A flag that is not in the table is told by its number."""
    assert alert_text(64) == "TapeAlert 64"
    assert alert_text(20) == "clean the drive now"
