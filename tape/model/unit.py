"""A logical unit of the library model: what drives and changers answer alike (SPC-4).

A command is looked up by opcode in the unit's table of handlers; a handler returns the data for the
initiator or raises `CheckCondition`.  Unknown commands and bits that a command does not define end as a
real device ends them: 05/20/00 and 05/24/00.

The place for scripted faults is `LogicalUnit.execute`, between "not lost" and "handler": a fault is then a
CheckCondition, a delay or a TransportError raised for the n-th command of a kind.
"""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from tape.commands import (
    INQUIRY,
    MODE_SENSE_6,
    PREVENT_ALLOW,
    REPORT_LUNS,
    REQUEST_SENSE,
    TEST_UNIT_READY,
    Command,
)
from tape.errors import MediumError, TapeMisuseError
from tape.sense import Sense, SenseKey
from tape.transport import Completion, DataOut, ScsiStatus

__all__ = [
    "INVALID_FIELD_IN_CDB",
    "INVALID_FIELD_IN_LIST",
    "CheckCondition",
    "Handler",
    "LogicalUnit",
    "UnitIdentity",
    "illegal",
]

VENDOR = "SPANREEL"
REVISION = "0001"

POWER_ON = (0x29, 0x00)
MEDIUM_CHANGED = (0x28, 0x00)
INVALID_FIELD_IN_CDB = (0x24, 0x00)
INVALID_FIELD_IN_LIST = (0x26, 0x00)
INVALID_OPCODE = (0x20, 0x00)
WRITE_ERROR = (0x0C, 0x00)

# SPC-4, table 141: REPORT LUNS, INQUIRY and REQUEST SENSE never end with a pending unit attention.
_UNDISTURBED = frozenset({INQUIRY.opcode, REPORT_LUNS.opcode, REQUEST_SENSE.opcode})
_VPD_PAGES = (0x00, 0x80, 0x83)
_SPC_4 = 0x06


class CheckCondition(Exception):  # noqa: N818 - the standard's own word; it is an outcome, not an error
    """A command ends with CHECK CONDITION; with data where some was transferred all the same."""

    def __init__(self, sense: Sense, data: bytes = b"") -> None:
        super().__init__(sense.text)
        self.sense = sense
        self.data = data


def illegal(code: tuple[int, int]) -> CheckCondition:
    """Return ILLEGAL REQUEST with this ASC and ASCQ, to be raised."""
    return CheckCondition(Sense(SenseKey.ILLEGAL_REQUEST, *code))


@dataclass(frozen=True, slots=True)
class UnitIdentity:
    """What INQUIRY says: peripheral device type (1 drive, 8 changer), product, serial number."""

    peripheral_type: int
    product: str
    serial: str


# Takes the decoded CDB and the data sent with it; returns data for the initiator.
Handler = Callable[[dict[str, int], DataOut], bytes]


class LogicalUnit:
    """One device of the library.

    Unit attentions are kept once per unit, not per initiator: the model has one initiator.

    Attributes:
        prevented: removal of the medium is prevented (PREVENT ALLOW MEDIUM REMOVAL).

    """

    def __init__(self, identity: UnitIdentity) -> None:
        self.identity = identity
        self.prevented = False
        self.lock = threading.RLock()
        self._attentions: deque[tuple[int, int]] = deque([POWER_ON])
        self._handlers: dict[int, tuple[Command, Handler]] = {}
        self.register(TEST_UNIT_READY, self._test_unit_ready)
        self.register(REQUEST_SENSE, self._request_sense)
        self.register(INQUIRY, self._inquiry)
        self.register(REPORT_LUNS, self._report_luns)
        self.register(PREVENT_ALLOW, self._prevent_allow)
        self.register(MODE_SENSE_6, self._mode_sense)

    def register(self, command: Command, handler: Handler) -> None:
        """Have `handler` answer `command`."""
        self._handlers[command.opcode] = (command, handler)

    def attention(self, code: tuple[int, int]) -> None:
        """Queue a unit attention; one that waits already is not told twice (SPC-4, 5.14)."""
        if code not in self._attentions:
            self._attentions.append(code)

    def execute(self, cdb: bytes, data_out: DataOut, data_in_length: int) -> Completion:
        """Carry out one command, completely, before another one may start."""
        with self.lock:
            try:
                data = self._dispatch(cdb, data_out)
            except CheckCondition as check:
                data, sense, status = check.data, check.sense.encode(), ScsiStatus.CHECK_CONDITION
            else:
                sense, status = b"", ScsiStatus.GOOD
        data = data[:data_in_length]
        wanted = data_in_length if data_in_length else len(data_out)
        sent = len(data) if data_in_length else len(data_out)
        return Completion(status, data, sense, wanted - sent)

    def _dispatch(self, cdb: bytes, data_out: DataOut) -> bytes:
        """Tell a pending unit attention, or find the handler and run it."""
        if not cdb or cdb[0] not in _UNDISTURBED:
            self._raise_attention()
        command, handler = self._handlers.get(cdb[0] if cdb else -1, (None, None))
        if command is None or handler is None:
            raise illegal(INVALID_OPCODE)
        try:
            fields = command.decode(cdb)
            known = command.cdb(**fields)
        except TapeMisuseError:
            raise illegal(INVALID_FIELD_IN_CDB) from None
        # The last byte is CONTROL, whose NACA and link bits nobody sets.
        if known[1:-1] != cdb[1 : command.length - 1]:
            raise illegal(INVALID_FIELD_IN_CDB)
        try:
            return handler(fields, data_out)
        except MediumError as error:
            raise CheckCondition(Sense(SenseKey.MEDIUM_ERROR, *WRITE_ERROR)) from error

    def _raise_attention(self) -> None:
        if self._attentions:
            raise CheckCondition(Sense(SenseKey.UNIT_ATTENTION, *self._attentions.popleft()))

    # -- commands every unit knows -------------------------------------------------------------------
    def _test_unit_ready(self, _fields: dict[str, int], _data: DataOut) -> bytes:
        self.require_ready()
        return b""

    def require_ready(self) -> None:
        """Raise NOT READY where a medium access command cannot be done; a changer always can."""

    def _request_sense(self, fields: dict[str, int], _data: DataOut) -> bytes:
        """Return a pending unit attention as data, and thereby consume it (SPC-4, 6.39)."""
        sense = Sense(SenseKey.NO_SENSE)
        if fields["desc"]:
            raise illegal(INVALID_FIELD_IN_CDB)
        if self._attentions:
            sense = Sense(SenseKey.UNIT_ATTENTION, *self._attentions.popleft())
        return sense.encode()[: fields["allocation_length"]]

    def _inquiry(self, fields: dict[str, int], _data: DataOut) -> bytes:
        """Return standard data or a VPD page (SPC-4, 6.6)."""
        if fields["evpd"]:
            return self._vpd_page(fields["page_code"])[: fields["allocation_length"]]
        if fields["page_code"]:
            raise illegal(INVALID_FIELD_IN_CDB)
        # Removable medium; SPC-4; response data format 2; 31 more bytes; no flags.
        head = bytes([self.identity.peripheral_type, 0x80, _SPC_4, 0x02, 31, 0, 0, 0])
        return (head + self._names() + REVISION.encode())[: fields["allocation_length"]]

    def _names(self) -> bytes:
        return f"{VENDOR:<8.8}{self.identity.product:<16.16}".encode("ascii")

    def t10_identifier(self) -> bytes:
        """Return the designator "vendor product serial" (SPC-4, 7.8.6.4), also used for DVCID."""
        body = self._names() + self.identity.serial.encode("ascii")
        return bytes([0x02, 0x01, 0x00, len(body)]) + body

    def _vpd_page(self, page: int) -> bytes:
        """Build a vital product data page (SPC-4, 7.8)."""
        if page == 0x00:
            body = bytes(_VPD_PAGES)
        elif page == 0x80:
            body = self.identity.serial.encode("ascii")
        elif page == 0x83:
            # NAA 3h, locally assigned: as unique as the serial number, and the same at every start.
            digest = hashlib.sha256(self.identity.serial.encode()).digest()[:8]
            body = self.t10_identifier() + bytes([0x01, 0x03, 0x00, 8, 0x30 | digest[0] & 0x0F]) + digest[1:]
        else:
            raise illegal(INVALID_FIELD_IN_CDB)
        return bytes([self.identity.peripheral_type, page]) + len(body).to_bytes(2, "big") + body

    def _report_luns(self, fields: dict[str, int], _data: DataOut) -> bytes:
        """Return the one LUN seen in process; a target of several units answers this itself."""
        if fields["select_report"] not in (0x00, 0x02):
            raise illegal(INVALID_FIELD_IN_CDB)
        return (bytes([0, 0, 0, 8]) + bytes(4) + bytes(8))[: fields["allocation_length"]]

    def _prevent_allow(self, fields: dict[str, int], _data: DataOut) -> bytes:
        if fields["prevent"] > 1:
            raise illegal(INVALID_FIELD_IN_CDB)
        self.prevented = bool(fields["prevent"])
        return b""

    def _mode_sense(self, fields: dict[str, int], _data: DataOut) -> bytes:
        """Return header, block descriptor and pages (SPC-4, 6.13); current values only."""
        pages = self.mode_pages(fields["page_code"])
        if pages is None or fields["pc"] == 3 or fields["subpage_code"]:
            raise illegal(INVALID_FIELD_IN_CDB)
        header, descriptor = self.mode_header()
        if fields["dbd"]:
            descriptor = b""
        rest = bytes([0, header, len(descriptor)]) + descriptor + pages
        return (bytes([len(rest)]) + rest)[: fields["allocation_length"]]

    def mode_header(self) -> tuple[int, bytes]:
        """Return the device-specific byte and the block descriptor."""
        return 0, b""

    def mode_pages(self, page: int) -> bytes | None:
        """Return the pages asked for; None if there is no such page.  3Fh asks for all."""
        return b"" if page == 0x3F else None
