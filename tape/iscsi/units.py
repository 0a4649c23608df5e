"""Which logical unit is behind which LUN: drives are 1 to N, the changer is the next.

LUN 0 is what SPC-4 wants there: no device, but INQUIRY and REPORT LUNS are answered (6.33, and 6.6.2 for
peripheral qualifier 011b), so that Linux finds the others and makes no device of it.
"""

from __future__ import annotations

from tape.commands import INQUIRY, REPORT_LUNS, REQUEST_SENSE
from tape.errors import TapeMisuseError
from tape.model.faults import DeviceGoneError
from tape.model.library import LibraryModel
from tape.model.outcome import DEVICE_RESET
from tape.model.unit import LogicalUnit
from tape.sense import Sense, SenseKey
from tape.transport import Completion, DataOut, ScsiStatus

__all__ = ["ModelUnits"]

NOT_SUPPORTED = (0x25, 0x00)
_INVALID_FIELD_IN_CDB = (0x24, 0x00)
# Qualifier 011b and type 1Fh: there is no device here (SPC-4, table 145).
_NO_DEVICE = bytes([0x7F, 0, 0x06, 0x02, 31, 0, 0, 0]) + b"SPANREEL" + b"NO DEVICE".ljust(16) + b"0001"


class ModelUnits:
    """The units of a library, by LUN.

    Args:
        library: powered on as long as this is in use.

    """

    def __init__(self, library: LibraryModel) -> None:
        self._library = library
        self._units: dict[int, LogicalUnit] = dict(enumerate(library.units, start=1))

    @property
    def luns(self) -> frozenset[int]:
        """Every LUN that has a device."""
        return frozenset(self._units)

    def attach(self, nexus: str) -> None:
        """Make a session known to every unit."""
        for unit in self._units.values():
            unit.attach(nexus)

    def detach(self, nexus: str) -> None:
        """Tell every unit that a session was lost."""
        for unit in self._units.values():
            unit.detach(nexus)

    def interrupt(self, lun: int | None) -> None:
        """End the waiting of commands that hang by a scripted fault; None: on every unit."""
        for number, unit in self._units.items():
            if lun in (None, number):
                self._library.faults.interrupt(unit.identity.serial)

    def ticket(self, lun: int) -> int:
        """Return what `execute` is to be given: an `interrupt` from now on ends the command's waiting."""
        unit = self._units.get(lun)
        return 0 if unit is None else self._library.faults.ticket(unit.identity.serial)

    def reset(self, lun: int | None) -> None:
        """Reset one unit or all of them."""
        self.interrupt(lun)
        for number, unit in self._units.items():
            if lun in (None, number):
                unit.reset(DEVICE_RESET)

    def execute(
        self, lun: int, cdb: bytes, data_out: DataOut, data_in_length: int, nexus: str, ticket: int
    ) -> Completion:
        """Carry out one command of a session.

        Raises:
            TransportError, CommandTimeoutError: it gets no answer; the session is to be dropped.

        """
        if cdb[0] == REPORT_LUNS.opcode:
            return self._report_luns(cdb, data_in_length)
        unit = self._units.get(lun)
        if unit is None or self._library.faults.is_gone(unit.identity.serial, counts=True):
            return self._nobody(cdb, data_in_length)
        try:
            return unit.execute(_trimmed(cdb), data_out, data_in_length, nexus, ticket=ticket)
        except DeviceGoneError:
            return self._nobody(cdb, data_in_length)

    def _report_luns(self, cdb: bytes, room: int) -> Completion:
        """REPORT LUNS, SPC-4, 6.33: the same from every LUN."""
        try:
            fields = REPORT_LUNS.decode(cdb)
        except TapeMisuseError:
            fields = {"select_report": 0xFF}
        if fields["select_report"] not in (0x00, 0x01, 0x02):
            return _refused(_INVALID_FIELD_IN_CDB)
        present = [
            lun
            for lun, unit in self._units.items()
            if fields["select_report"] != 0x01 and not self._library.faults.is_gone(unit.identity.serial)
        ]
        body = b"".join((lun << 48).to_bytes(8, "big") for lun in present)
        data = (len(body).to_bytes(4, "big") + bytes(4) + body)[: fields["allocation_length"]][:room]
        return Completion(ScsiStatus.GOOD, data)

    @staticmethod
    def _nobody(cdb: bytes, room: int) -> Completion:
        """Answer where there is no device: INQUIRY says so, everything else fails (SPC-4, 6.6.2)."""
        if cdb[0] == INQUIRY.opcode and not cdb[1] & 0x01:
            return Completion(ScsiStatus.GOOD, _NO_DEVICE[: int.from_bytes(cdb[3:5], "big")][:room])
        if cdb[0] == REQUEST_SENSE.opcode:
            sense = Sense(SenseKey.ILLEGAL_REQUEST, *NOT_SUPPORTED).encode()
            return Completion(ScsiStatus.GOOD, sense[: cdb[4]][:room])
        return _refused(NOT_SUPPORTED)


def _refused(code: tuple[int, int]) -> Completion:
    sense = Sense(SenseKey.ILLEGAL_REQUEST, *code)
    return Completion(ScsiStatus.CHECK_CONDITION, b"", sense.encode())


def _trimmed(cdb: bytes) -> bytes:
    """Cut the 16 bytes of a SCSI Command PDU to the command's length (SPC-4, 4.3.2: group code)."""
    return cdb[: {0: 6, 1: 10, 2: 10, 4: 16, 5: 12}.get(cdb[0] >> 5, 16)]
