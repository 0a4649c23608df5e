"""A logical unit of the library model: what drives and changers answer alike (SPC-4).

A command is looked up by opcode in the unit's table of handlers; a handler returns the data for the
initiator or raises `CheckCondition`.  Unknown commands and bits that a command does not define end as a
real device ends them: 05/20/00 and 05/24/00.

Scripted faults (`faults`) come first: a fault outranks a unit attention, and counts every command that
reaches the device.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from tape.commands import (
    INQUIRY,
    PREVENT_ALLOW,
    REPORT_LUNS,
    REQUEST_SENSE,
    TEST_UNIT_READY,
    Command,
)
from tape.errors import DeviceError, MediumError, TapeMisuseError
from tape.model.outcome import (
    INTERNAL_FAILURE,
    INVALID_FIELD_IN_CDB,
    INVALID_FIELD_IN_LIST,
    INVALID_OPCODE,
    MEDIUM_CHANGED,
    POWER_ON,
    REMOVAL_PREVENTED,
    WRITE_ERROR,
    CheckCondition,
    OtherStatus,
    illegal,
)
from tape.sense import Sense, SenseKey
from tape.transport import Completion, DataOut, ScsiStatus

__all__ = [
    "INVALID_FIELD_IN_CDB",
    "INVALID_FIELD_IN_LIST",
    "IN_PROCESS",
    "MEDIUM_CHANGED",
    "REMOVAL_PREVENTED",
    "REVISION",
    "VENDOR",
    "CheckCondition",
    "Handler",
    "LogicalUnit",
    "UnitIdentity",
    "illegal",
]

VENDOR = "SPANREEL"
REVISION = "0001"
# The nexus of everybody within this process.
IN_PROCESS = "in process"

# SPC-4, table 141: REPORT LUNS, INQUIRY and REQUEST SENSE never end with a pending unit attention.
_UNDISTURBED = frozenset({INQUIRY.opcode, REPORT_LUNS.opcode, REQUEST_SENSE.opcode})


@dataclass(frozen=True, slots=True)
class UnitIdentity:
    """What INQUIRY says: peripheral device type (1 drive, 8 changer), product, serial number."""

    peripheral_type: int
    product: str
    serial: str


# Takes the decoded CDB and the data sent with it; returns data for the initiator.
Handler = Callable[[dict[str, int], DataOut], bytes]
# Asked before each command: `FaultPlan.before` of one device.
Intercept = Callable[[bytes, float, int | None], DeviceError | None]
# Asked for each command of a nexus: raises OtherStatus where a reservation forbids it.
Admission = Callable[[str, bytes], None]

_LUN_BITS = 0xE0
_LAST_LENGTH_WITH_LUN = 12


def _without_lun(cdb: bytes, known: bytes) -> bytes:
    """A CDB without the LUN that SCSI-2 had in byte 1 (7.2.2), and that mtx still sends."""
    if len(cdb) > _LAST_LENGTH_WITH_LUN:
        return cdb
    return bytes([cdb[0], cdb[1] & ~_LUN_BITS | known[1] & _LUN_BITS]) + cdb[2:]


class LogicalUnit:
    """One device of the library.

    Who sends a command is its nexus, a name: an iSCSI session, or `IN_PROCESS` for all paths within the
    process.  Unit attentions, reservations and prevention of removal are kept per nexus.

    Attributes:
        nexus: who sent the command that is being carried out.
        lock: held while a command is carried out.
        intercept: scripted faults; see `Intercept`.
        admit: reservations; see `Admission`.
        on_lost: told the nexus that was lost, or None when all were by a reset.

    """

    def __init__(self, identity: UnitIdentity) -> None:
        self.identity = identity
        self.lock = threading.RLock()
        self.nexus = IN_PROCESS
        self.intercept: Intercept | None = None
        self.admit: Admission | None = None
        self.on_lost: Callable[[str | None], None] = lambda _nexus: None
        self._preventing: set[str] = set()
        self._attentions: dict[str, deque[tuple[int, int]]] = {IN_PROCESS: deque([POWER_ON])}
        self._handlers: dict[int, tuple[Command, Handler]] = {}
        self.register(TEST_UNIT_READY, self._test_unit_ready)
        self.register(REQUEST_SENSE, self._request_sense)
        self.register(REPORT_LUNS, self._report_luns)
        self.register(PREVENT_ALLOW, self._prevent_allow)

    def register(self, command: Command, handler: Handler) -> None:
        """Have `handler` answer `command`."""
        self._handlers[command.opcode] = (command, handler)

    @property
    def commands(self) -> tuple[Command, ...]:
        """Every command that is answered, by opcode."""
        return tuple(self._handlers[opcode][0] for opcode in sorted(self._handlers))

    @property
    def prevented(self) -> bool:
        """Whether anybody prevents removal of the medium."""
        return bool(self._preventing)

    # -- who is connected ----------------------------------------------------------------------------
    def attach(self, nexus: str) -> None:
        """Make a nexus known; the first thing it is told is 29/00 (SPC-4, 5.14; SAM-5, 6.3.4)."""
        with self.lock:
            self._attentions[nexus] = deque([POWER_ON])

    def detach(self, nexus: str) -> None:
        """Forget a nexus that was lost: it prevents nothing any more (SPC-4, 6.19)."""
        with self.lock:
            self._attentions.pop(nexus, None)
            self._preventing.discard(nexus)
            self.on_lost(nexus)

    def reset(self, code: tuple[int, int] = POWER_ON) -> None:
        """Do what a reset of the unit does: everybody is told, nobody prevents removal (SAM-5, 6.3.3)."""
        with self.lock:
            self._preventing.clear()
            self.on_lost(None)
            for queue in self._attentions.values():
                queue.clear()
                queue.append(code)

    def attention(self, code: tuple[int, int], *, but: str | None = None, only: str | None = None) -> None:
        """Queue a unit attention for everybody, for all but one, or for one only.

        One that waits already is not told twice (SPC-4, 5.14).
        """
        with self.lock:
            for nexus, queue in self._attentions.items():
                if nexus != but and only in (None, nexus) and code not in queue:
                    queue.append(code)

    # -- commands ------------------------------------------------------------------------------------
    def execute(
        self,
        cdb: bytes,
        data_out: DataOut,
        data_in_length: int,
        nexus: str = IN_PROCESS,
        timeout_s: float = float("inf"),
        ticket: int | None = None,
    ) -> Completion:
        """Carry out one command, completely, before another one may start.

        Args:
            cdb: the command.
            data_out: data sent with it.
            data_in_length: the most bytes that are wanted.
            nexus: who sends it.
            timeout_s: how long the sender waits; only a scripted fault takes that long.
            ticket: of `FaultPlan.ticket`, taken when the command arrived.

        Raises:
            TransportError, CommandTimeoutError: a scripted fault keeps the command from being answered.

        """
        sense, data, status = b"", b"", ScsiStatus.GOOD
        afterwards = None
        try:
            # Outside the lock: a command that hangs must not keep others from the unit.
            if self.intercept is not None:
                afterwards = self.intercept(cdb, timeout_s, ticket)
            with self.lock:
                self.nexus = nexus
                data = self._dispatch(cdb, data_out)
        except CheckCondition as check:
            data, sense, status = check.data, check.sense.encode(), ScsiStatus.CHECK_CONDITION
        except OtherStatus as other:
            status = other.status
        if afterwards is not None:
            raise afterwards
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
        if self.admit is not None:
            self.admit(self.nexus, cdb)
        try:
            fields = command.decode(cdb)
            known = command.cdb(**fields)
        except TapeMisuseError:
            raise illegal(INVALID_FIELD_IN_CDB) from None
        # The last byte is CONTROL, whose NACA and link bits nobody sets.
        if known[1:-1] != _without_lun(cdb, known)[1 : command.length - 1]:
            raise illegal(INVALID_FIELD_IN_CDB)
        try:
            return handler(fields, data_out)
        except MediumError as error:
            raise CheckCondition(Sense(SenseKey.MEDIUM_ERROR, *WRITE_ERROR)) from error
        except OSError as error:
            # The folder cannot be written: whoever sent the command is not to blame.
            raise CheckCondition(Sense(SenseKey.HARDWARE_ERROR, *INTERNAL_FAILURE)) from error

    def _waiting(self) -> deque[tuple[int, int]]:
        return self._attentions.setdefault(self.nexus, deque([POWER_ON]))

    def _raise_attention(self) -> None:
        if self._waiting():
            raise CheckCondition(Sense(SenseKey.UNIT_ATTENTION, *self._waiting().popleft()))

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
        if self._waiting():
            sense = Sense(SenseKey.UNIT_ATTENTION, *self._waiting().popleft())
        return sense.encode()[: fields["allocation_length"]]

    def _report_luns(self, fields: dict[str, int], _data: DataOut) -> bytes:
        """Return the one LUN seen in process; a target of several units answers this itself."""
        if fields["select_report"] not in (0x00, 0x02):
            raise illegal(INVALID_FIELD_IN_CDB)
        return (bytes([0, 0, 0, 8]) + bytes(4) + bytes(8))[: fields["allocation_length"]]

    def _prevent_allow(self, fields: dict[str, int], _data: DataOut) -> bytes:
        """PREVENT ALLOW MEDIUM REMOVAL, SPC-4, 6.19: removal is allowed when nobody prevents it."""
        if fields["prevent"] > 1:
            raise illegal(INVALID_FIELD_IN_CDB)
        if fields["prevent"]:
            self._preventing.add(self.nexus)
        else:
            self._preventing.discard(self.nexus)
        return b""
