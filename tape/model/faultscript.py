"""Fault scripts: a TOML file becomes a `FaultPlan`.  docs/tape-model.md is the reference for people.

[[fault]]
device = "DRV0001"
command = "WRITE(6)"
nth = 3
sense = "write error"

[[cartridge]]
barcode = "VTL001L5"
medium_error = 17
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from tape import commands as product_commands
from tape.commands import Command
from tape.errors import TapeMisuseError
from tape.model import commands as model_commands
from tape.model.faults import (
    WAIT_SECONDS_MAX,
    CartridgeFault,
    CommandFault,
    Dropped,
    Effect,
    FaultPlan,
    Gone,
    Wait,
)
from tape.sense import Sense, SenseKey
from tape.transport import ScsiStatus

__all__ = ["SENSE_NAMES", "parse_faults", "read_faults"]

SENSE_NAMES = {
    "becoming ready": Sense(SenseKey.NOT_READY, 0x04, 0x01),
    "read error": Sense(SenseKey.MEDIUM_ERROR, 0x11, 0x00),
    "write error": Sense(SenseKey.MEDIUM_ERROR, 0x0C, 0x00),
    "hardware error": Sense(SenseKey.HARDWARE_ERROR, 0x44, 0x00),
    "stuck robot": Sense(SenseKey.HARDWARE_ERROR, 0x15, 0x01),
    "load failed": Sense(SenseKey.HARDWARE_ERROR, 0x53, 0x00),
    "reset": Sense(SenseKey.UNIT_ATTENTION, 0x29, 0x00),
    "medium changed": Sense(SenseKey.UNIT_ATTENTION, 0x28, 0x00),
}
_SENSE = re.compile(r"([0-9a-fA-F]{1,2})/([0-9a-fA-F]{1,2})/([0-9a-fA-F]{1,2})")
_STATUSES = {
    "busy": ScsiStatus.BUSY,
    "reservation conflict": ScsiStatus.RESERVATION_CONFLICT,
    "task set full": ScsiStatus.TASK_SET_FULL,
}
Fault = TypeVar("Fault")
_COUNT_MAX = 1_000_000_000
# Both modules hold Command objects under their names; a name of the standard is unique among them.
_OPCODES = {
    value.name: value.opcode
    for module in (product_commands, model_commands)
    for value in vars(module).values()
    if isinstance(value, Command)
}


def read_faults(path: Path) -> FaultPlan:
    """Read a script.

    Raises:
        TapeMisuseError: it cannot be read, or says what no script may say; the text names the entry.

    """
    try:
        return parse_faults(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise TapeMisuseError(f"{path}: cannot be read: {error}") from error
    except TapeMisuseError as error:
        raise TapeMisuseError(f"{path}: {error}") from None


def parse_faults(text: str) -> FaultPlan:
    """Read the text of a script.  Raises TapeMisuseError."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise TapeMisuseError(f"no TOML: {error}") from None
    unknown = document.keys() - {"fault", "cartridge"}
    if unknown:
        raise TapeMisuseError(f"{sorted(unknown)[0]!r} is not known; there are [[fault]] and [[cartridge]]")
    return FaultPlan(
        _each(document.get("fault", []), "fault", _command_fault),
        _each(document.get("cartridge", []), "cartridge", _cartridge_fault),
    )


def _each(entries: object, name: str, build: Callable[[Mapping[str, Any]], Fault]) -> list[Fault]:
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise TapeMisuseError(f"{name} must be written [[{name}]]")
    faults = []
    for number, entry in enumerate(entries, start=1):
        try:
            faults.append(build(entry))
        except TapeMisuseError as error:
            raise TapeMisuseError(f"[[{name}]] number {number}: {error}") from None
    return faults


class _Entry:
    """The keys of one entry, each read once and checked."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._left = dict(values)

    def __contains__(self, key: str) -> bool:
        return key in self._left

    def take(self, key: str, kind: type, default: Any = None) -> Any:
        """Return a value of this type; numbers are no truth values."""
        value = self._left.pop(key, default)
        if value is not default and (
            not isinstance(value, kind) or (isinstance(value, bool) and kind is int)
        ):
            raise TapeMisuseError(f"{key} = {value!r}: {kind.__name__} is wanted")
        return value

    def number(self, key: str, default: int, least: int) -> int:
        """Return a count."""
        value: int = self.take(key, int, default)
        if not least <= value <= _COUNT_MAX:
            raise TapeMisuseError(f"{key} = {value}: {least} to {_COUNT_MAX} are possible")
        return value

    def choice(self, key: str, choices: Mapping[str, Any], default: Any = None) -> Any:
        """Return what one of several words stands for."""
        word = self.take(key, str, default)
        if word not in choices:
            raise TapeMisuseError(f"{key} = {word!r}: one of {', '.join(choices)} is wanted")
        return choices[word]

    def finish(self) -> None:
        """Refuse what is left."""
        if self._left:
            raise TapeMisuseError(f"{sorted(self._left)[0]!r} is not known here")


def _command_fault(values: Mapping[str, Any]) -> CommandFault:
    entry = _Entry(values)
    fault = CommandFault(
        effect=_effect(entry),
        device=entry.take("device", str),
        opcode=_opcode(entry),
        nth=entry.number("nth", 1, 1),
        times=entry.number("times", 1, 0),
    )
    entry.finish()
    return fault


def _opcode(entry: _Entry) -> int | None:
    if "opcode" in entry and "command" in entry:
        raise TapeMisuseError("command and opcode exclude each other")
    if "opcode" in entry:
        code = entry.number("opcode", 0, 0)
        if code > 0xFF:
            raise TapeMisuseError(f"opcode = {code}: 0 to 255 are possible")
        return code
    return int(entry.choice("command", _OPCODES)) if "command" in entry else None


def _effect(entry: _Entry) -> Effect:
    given = [key for key in _EFFECTS if key in entry]
    if len(given) != 1:
        raise TapeMisuseError(f"exactly one of {', '.join(_EFFECTS)} is wanted")
    return _EFFECTS[given[0]](entry)


def _sense(entry: _Entry) -> Sense:
    text = entry.take("sense", str)
    found = _SENSE.fullmatch(text)
    if found:
        key, asc, ascq = (int(part, 16) for part in found.groups())
        if key <= 0xF:
            return Sense(key, asc, ascq)
    if text not in SENSE_NAMES:
        names = ", ".join(SENSE_NAMES)
        raise TapeMisuseError(f"sense = {text!r}: KEY/ASC/ASCQ in hexadecimal, or one of {names}")
    return SENSE_NAMES[text]


def _seconds(entry: _Entry, key: str) -> float:
    value = entry.take(key, object)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= WAIT_SECONDS_MAX:
        raise TapeMisuseError(f"{key} = {value!r}: a number from 0 to {WAIT_SECONDS_MAX:g} seconds is wanted")
    return float(value)


_EFFECTS: dict[str, Callable[[_Entry], Effect]] = {
    "sense": _sense,
    "status": lambda entry: entry.choice("status", _STATUSES),
    "delay": lambda entry: Wait(_seconds(entry, "delay")),
    "hang": lambda entry: Wait(_seconds(entry, "hang"), answers=False),
    "gone": lambda entry: Gone(entry.number("gone", 0, 0)),
    "drop": lambda entry: Dropped(entry.choice("drop", {"before": False, "after": True})),
}


def _cartridge_fault(values: Mapping[str, Any]) -> CartridgeFault:
    entry = _Entry(values)
    barcode = entry.take("barcode", str)
    if barcode is None or not ("medium_error" in entry or "shown_as" in entry):
        raise TapeMisuseError("barcode, and medium_error or shown_as, are wanted")
    on_read, on_write = entry.choice(
        "on", {"read": (True, False), "write": (False, True), "both": (True, True)}, "both"
    )
    fault = CartridgeFault(
        barcode,
        medium_error=entry.number("medium_error", 0, 0) if "medium_error" in entry else None,
        on_read=on_read,
        on_write=on_write,
        times=entry.number("times", 0, 0),
        shown_as=_label(entry),
    )
    entry.finish()
    return fault


def _label(entry: _Entry) -> str | None:
    """Return a label as a volume tag can hold it (SMC-3, 6.14.5)."""
    label: str | None = entry.take("shown_as", str)
    if label is not None and not (label.isascii() and label.isprintable() and len(label) <= 32):
        raise TapeMisuseError(f"shown_as = {label!r}: at most 32 printable ASCII characters")
    return label
