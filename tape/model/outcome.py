"""How a command of the library model ends other than well, and the sense codes it says so with."""

from __future__ import annotations

from tape.sense import Sense, SenseKey
from tape.transport import ScsiStatus

__all__ = ["CheckCondition", "OtherStatus", "illegal"]

# Additional sense code and qualifier (SPC-4, annex F.2).
WRITE_ERROR = (0x0C, 0x00)
PARAMETER_LIST_LENGTH = (0x1A, 0x00)
INVALID_OPCODE = (0x20, 0x00)
INVALID_FIELD_IN_CDB = (0x24, 0x00)
INVALID_FIELD_IN_LIST = (0x26, 0x00)
MEDIUM_CHANGED = (0x28, 0x00)
PORT_ACCESSED = (0x28, 0x01)
POWER_ON = (0x29, 0x00)
DEVICE_RESET = (0x29, 0x03)
MODE_CHANGED = (0x2A, 0x01)
RESERVATIONS_PREEMPTED = (0x2A, 0x03)
RESERVATIONS_RELEASED = (0x2A, 0x04)
REGISTRATIONS_PREEMPTED = (0x2A, 0x05)
LUNS_CHANGED = (0x3F, 0x0E)
INTERNAL_FAILURE = (0x44, 0x00)
REMOVAL_PREVENTED = (0x53, 0x02)


class CheckCondition(Exception):  # noqa: N818 - the standard's own word; it is an outcome, not an error
    """A command ends with CHECK CONDITION; with data where some was transferred all the same."""

    def __init__(self, sense: Sense, data: bytes = b"") -> None:
        super().__init__(sense.text)
        self.sense = sense
        self.data = data


class OtherStatus(Exception):  # noqa: N818 - as above
    """A command ends with a status that carries no sense: BUSY, RESERVATION CONFLICT, TASK SET FULL."""

    def __init__(self, status: ScsiStatus) -> None:
        super().__init__(status.name)
        self.status = status


def illegal(code: tuple[int, int]) -> CheckCondition:
    """Return ILLEGAL REQUEST with this ASC and ASCQ, to be raised."""
    return CheckCondition(Sense(SenseKey.ILLEGAL_REQUEST, *code))
