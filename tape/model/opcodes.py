"""What a unit knows, in its own words: REPORT SUPPORTED OPERATION CODES and TASK MANAGEMENT FUNCTIONS.

SPC-4, 6.35 and 6.36.  The answers are made from the same tables that decode the commands, so they cannot
tell of a command that is not there.
"""

from __future__ import annotations

from tape.commands import Command
from tape.model.commands import MAINTENANCE_IN
from tape.model.outcome import INVALID_FIELD_IN_CDB, illegal
from tape.model.unit import LogicalUnit
from tape.transport import DataOut

__all__ = ["Opcodes"]

_OPERATION_CODES, _TASK_MANAGEMENT = 0x0C, 0x0D
_ALL, _ONE, _ONE_WITH_ACTION = range(3)
_NOT_SUPPORTED, _SUPPORTED = 0x01, 0x03
# Command timeouts descriptor: none is told (6.35.4).
_NO_TIMEOUTS = (10).to_bytes(2, "big") + bytes(10)
# ABORT TASK, ABORT TASK SET, CLEAR TASK SET, LOGICAL UNIT RESET; no NEXUS functions (6.36).
_TASK_FUNCTIONS = bytes([0x80 | 0x40 | 0x10 | 0x08, 0, 0, 0])
# CDB field, in bytes 1 and so on, whose values are commands of their own.
_ACTION = "service_action"


class Opcodes:
    """Answers MAINTENANCE IN for a unit.  Made last: what is registered later is known all the same."""

    def __init__(self, unit: LogicalUnit) -> None:
        self._unit = unit
        unit.register(MAINTENANCE_IN, self._maintenance_in)

    def _maintenance_in(self, fields: dict[str, int], _data: DataOut) -> bytes:
        action = fields[_ACTION]
        if action == _TASK_MANAGEMENT:
            return _TASK_FUNCTIONS[: fields["allocation_length"]]
        if action != _OPERATION_CODES:
            raise illegal(INVALID_FIELD_IN_CDB)
        if fields["reporting_options"] == _ALL:
            data = self._all(timeouts=bool(fields["rctd"]))
        elif fields["reporting_options"] in (_ONE, _ONE_WITH_ACTION):
            data = self._one(fields)
        else:
            raise illegal(INVALID_FIELD_IN_CDB)
        return data[: fields["allocation_length"]]

    def _all(self, *, timeouts: bool) -> bytes:
        descriptors = b""
        for command in self._unit.commands:
            for action in _actions(command) or (None,):
                flags = (0x02 if timeouts else 0) | (0x01 if action is not None else 0)
                head = bytes([command.opcode, 0]) + (action or 0).to_bytes(2, "big") + bytes([0, flags])
                descriptors += head + command.length.to_bytes(2, "big")
                descriptors += _NO_TIMEOUTS if timeouts else b""
        return len(descriptors).to_bytes(4, "big") + descriptors

    def _one(self, fields: dict[str, int]) -> bytes:
        """Say whether one command is supported, and which bits of its CDB mean something (6.35.3)."""
        known = {command.opcode: command for command in self._unit.commands}
        command = known.get(fields["opcode"])
        has_actions = command is not None and bool(_actions(command))
        wants_action = fields["reporting_options"] == _ONE_WITH_ACTION
        if command is not None and has_actions != wants_action:
            raise illegal(INVALID_FIELD_IN_CDB)
        if command is None or (has_actions and fields["requested_action"] not in _actions(command)):
            return bytes([0, _NOT_SUPPORTED, 0, 0])
        bits = bytearray(command.length)
        for field in command.fields.values():
            for place, byte in enumerate(field.mask.to_bytes(field.size, "big"), start=field.offset):
                bits[place] |= byte
        bits[0] = command.opcode
        if has_actions:
            # The service action itself stands in the place of its bits.
            bits[1] = bits[1] & 0xE0 | fields["requested_action"]
        flags = _SUPPORTED | (0x80 if fields["rctd"] else 0)
        data = bytes([0, flags]) + len(bits).to_bytes(2, "big") + bytes(bits)
        return data + (_NO_TIMEOUTS if fields["rctd"] else b"")


def _actions(command: Command) -> tuple[int, ...]:
    """Return the service actions of a command that has some in this sense (SPC-4, 4.3.5)."""
    if command.opcode == MAINTENANCE_IN.opcode:
        return (_OPERATION_CODES, _TASK_MANAGEMENT)
    return {0x5E: (0, 1, 2, 3), 0x5F: (0, 1, 2, 3, 4, 5, 6)}.get(command.opcode, ())
