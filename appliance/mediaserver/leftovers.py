"""What a DMA's own commands leave behind in a device, and what must end with its session.

To the device all sessions are one initiator.  A cartridge that a session locked in, or a device that it
reserved, would stay so for the next one, and for the robot.
"""

from __future__ import annotations

import contextlib

from tape.commands import PREVENT_ALLOW, RELEASE_6, RESERVE_6
from tape.errors import TapeError
from tape.transport import Completion, ScsiStatus, Transport

_ENDS = {PREVENT_ALLOW.opcode: PREVENT_ALLOW.cdb(prevent=0), RESERVE_6.opcode: RELEASE_6.cdb()}
_UNDONE_BY = {RELEASE_6.opcode: RESERVE_6.opcode}
_PREVENT_BITS = 0x03


class Leftovers:
    """The commands of one session that are to be undone."""

    def __init__(self) -> None:
        self._open: set[int] = set()

    def note(self, cdb: bytes, done: Completion) -> None:
        """Take note of a command of the DMA, and how it ended."""
        if done.status != ScsiStatus.GOOD:
            return
        opcode = cdb[0]
        self._open.discard(_UNDONE_BY.get(opcode, -1))
        if opcode == PREVENT_ALLOW.opcode and not cdb[4] & _PREVENT_BITS:
            self._open.discard(opcode)
        elif opcode in _ENDS:
            self._open.add(opcode)

    def undo(self, transport: Transport) -> None:
        """Undo what is left; a device that is gone has forgotten it by itself."""
        for opcode in sorted(self._open):
            with contextlib.suppress(TapeError):
                transport.execute(_ENDS[opcode])
        self._open.clear()
