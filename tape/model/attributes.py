"""Medium auxiliary memory: READ ATTRIBUTE and WRITE ATTRIBUTE (SPC-4, 6.17, 6.52 and 7.4)."""

from __future__ import annotations

from dataclasses import dataclass

from tape.model.cartridge import CartridgeKind
from tape.model.commands import READ_ATTRIBUTE, WRITE_ATTRIBUTE
from tape.model.loaded import TapeUnit
from tape.model.outcome import (
    INVALID_FIELD_IN_CDB,
    INVALID_FIELD_IN_LIST,
    PARAMETER_LIST_LENGTH,
    illegal,
)
from tape.model.unit import VENDOR
from tape.transport import DataOut

__all__ = ["Attributes"]

_BINARY, _ASCII, _TEXT = range(3)
_VALUES, _LIST, _VOLUMES, _PARTITIONS = range(4)
_READ_ONLY = 0x80
_HEADER = 5
_MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class _Attribute:
    """Format and length of an attribute that hosts may write (SPC-4, 7.4.2.4)."""

    form: int
    length: int


# Host attributes; the standard fixes length and format of each, so the memory is bounded.
_WRITABLE = {
    0x0800: _Attribute(_ASCII, 8),  # application vendor
    0x0801: _Attribute(_ASCII, 32),  # application name
    0x0802: _Attribute(_ASCII, 8),  # application version
    0x0803: _Attribute(_TEXT, 160),  # user medium text label
    0x0804: _Attribute(_ASCII, 12),  # date and time last written
    0x0805: _Attribute(_BINARY, 1),  # text localisation identifier
    0x0806: _Attribute(_ASCII, 32),  # barcode
    0x0807: _Attribute(_TEXT, 80),  # owning host
    0x0808: _Attribute(_TEXT, 160),  # media pool
}
_MEDIUM_TYPES = {CartridgeKind.DATA: 0x00, CartridgeKind.CLEANING: 0x01, CartridgeKind.WORM: 0x80}


class Attributes:
    """Answers both commands for a drive, from the memory of the cartridge in it."""

    def __init__(self, unit: TapeUnit) -> None:
        self._unit = unit
        unit.register(READ_ATTRIBUTE, self._read)
        unit.register(WRITE_ATTRIBUTE, self._write)

    def _read(self, fields: dict[str, int], _data: DataOut) -> bytes:
        """READ ATTRIBUTE, from the first attribute asked for on."""
        attributes = self._attributes()
        if fields["volume"] or fields["partition"]:
            raise illegal(INVALID_FIELD_IN_CDB)
        action = fields["service_action"]
        if action in (_VOLUMES, _PARTITIONS):
            # The first one's number, and how many there are (6.17.4 and 6.17.5).
            body, head = bytes([0, 1]), 2
        elif action in (_VALUES, _LIST):
            wanted = {number: raw for number, raw in attributes.items() if number >= fields["first"]}
            if not wanted:
                raise illegal(INVALID_FIELD_IN_CDB)
            pieces = (
                raw if action == _VALUES else number.to_bytes(2, "big")
                for number, raw in sorted(wanted.items())
            )
            body, head = b"".join(pieces), 4
        else:
            raise illegal(INVALID_FIELD_IN_CDB)
        return (len(body).to_bytes(head, "big") + body)[: fields["allocation_length"]]

    def _attributes(self) -> dict[int, bytes]:
        """Return every attribute there is, encoded."""
        tape, usage = self._unit.tape(), self._unit.usage
        assert usage is not None
        capacity = tape.header.capacity_bytes
        flags = sum(1 << 64 - flag for flag in self._unit.alerts)
        left = max(capacity - tape.used_bytes, 0)
        numbers = {
            0x0000: left // _MEBIBYTE,  # remaining capacity in partition
            0x0001: capacity // _MEBIBYTE,  # maximum capacity in partition
            0x0002: flags,  # TapeAlert
            0x0003: usage.loads,  # load count
            0x0220: usage.written // _MEBIBYTE,  # written in medium life
            0x0221: usage.read // _MEBIBYTE,  # read in medium life
            0x0222: usage.mount_written // _MEBIBYTE,  # written since the last load
            0x0223: usage.mount_read // _MEBIBYTE,
        }
        found = {
            number: _encode(number, value.to_bytes(8, "big"), _BINARY, read_only=True)
            for number, value in numbers.items()
        }
        serial = tape.header.barcode.encode("ascii")
        found[0x0400] = _encode(0x0400, VENDOR.encode().ljust(8), _ASCII, read_only=True)
        found[0x0401] = _encode(0x0401, serial.ljust(32), _ASCII, read_only=True)
        kind = _MEDIUM_TYPES[CartridgeKind(tape.header.kind)]
        found[0x0408] = _encode(0x0408, bytes([kind]), _BINARY, read_only=True)
        for key, value in usage.attributes.items():
            number = int(key)
            raw = bytes.fromhex(value)
            found[number] = _encode(number, raw, _WRITABLE[number].form, read_only=False)
        return found

    def _write(self, fields: dict[str, int], data: DataOut) -> bytes:
        """WRITE ATTRIBUTE: all of the list or nothing; a length of 0 removes an attribute (6.52)."""
        tape, usage = self._unit.tape(), self._unit.usage
        assert usage is not None
        if fields["volume"] or fields["partition"]:
            raise illegal(INVALID_FIELD_IN_CDB)
        length = fields["parameter_list_length"]
        if length == 0:
            return b""
        if length > len(data) or length < 4:
            raise illegal(PARAMETER_LIST_LENGTH)
        raw = bytes(data[:length])
        if int.from_bytes(raw[:4], "big") != length - 4:
            raise illegal(PARAMETER_LIST_LENGTH)
        changed = dict(usage.attributes)
        for number, form, value in _parse(raw[4:]):
            known = _WRITABLE.get(number)
            if known is None or (value and (form != known.form or len(value) > known.length)):
                raise illegal(INVALID_FIELD_IN_LIST)
            if value:
                changed[str(number)] = value.hex()
            else:
                changed.pop(str(number), None)
        usage.attributes = changed
        usage.save(tape.path)
        return b""


def _encode(number: int, value: bytes, form: int, *, read_only: bool) -> bytes:
    head = number.to_bytes(2, "big") + bytes([form | (_READ_ONLY if read_only else 0)])
    return head + len(value).to_bytes(2, "big") + value


def _parse(data: bytes) -> list[tuple[int, int, bytes]]:
    """Split a list into number, format and value."""
    found = []
    while data:
        end = _HEADER + int.from_bytes(data[3:5], "big")
        if len(data) < _HEADER or len(data) < end:
            raise illegal(PARAMETER_LIST_LENGTH)
        found.append((int.from_bytes(data[:2], "big"), data[2] & 0x03, data[_HEADER:end]))
        data = data[end:]
    return found
