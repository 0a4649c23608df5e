"""RESERVE and RELEASE of SPC-2, and persistent reservations (SPC-4, 5.13, 6.15 and 6.16).

Persistent registrations belong to a nexus, which for iSCSI is initiator name and ISID: they outlive a lost
session and end with the process (APTPL is not supported).  A reservation of SPC-2 ends with its session.
"""

from __future__ import annotations

from dataclasses import dataclass

from tape.commands import (
    INQUIRY,
    LOG_SENSE,
    PREVENT_ALLOW,
    READ_BLOCK_LIMITS,
    RELEASE_6,
    REPORT_LUNS,
    REQUEST_SENSE,
    RESERVE_6,
    TEST_UNIT_READY,
)
from tape.model.commands import (
    MAINTENANCE_IN,
    PERSISTENT_RESERVE_IN,
    PERSISTENT_RESERVE_OUT,
    RELEASE_10,
    REPORT_DENSITY_SUPPORT,
    RESERVE_10,
)
from tape.model.outcome import (
    INVALID_FIELD_IN_CDB,
    INVALID_FIELD_IN_LIST,
    PARAMETER_LIST_LENGTH,
    REGISTRATIONS_PREEMPTED,
    RESERVATIONS_PREEMPTED,
    RESERVATIONS_RELEASED,
    OtherStatus,
    illegal,
)
from tape.model.unit import LogicalUnit
from tape.transport import DataOut, ScsiStatus

__all__ = ["Reservations"]

INVALID_RELEASE = (0x26, 0x04)
# Service actions (SPC-4, 6.15.1 and 6.16.2).
READ_KEYS, READ_RESERVATION, REPORT_CAPABILITIES, READ_FULL_STATUS = range(4)
REGISTER, RESERVE, RELEASE, CLEAR, PREEMPT, PREEMPT_AND_ABORT, REGISTER_AND_IGNORE = range(7)
# Types (6.15.3.4).
WRITE_EXCLUSIVE, EXCLUSIVE = 1, 3
_REGISTRANTS_ONLY, _ALL_REGISTRANTS = (5, 6), (7, 8)
_TYPES = (WRITE_EXCLUSIVE, EXCLUSIVE, *_REGISTRANTS_ONLY, *_ALL_REGISTRANTS)
_PARAMETERS_LENGTH = 24
# What reservations of SPC-2 leave to others (SPC-2, table 10), besides RELEASE.
_FREE_FOR_ALL = frozenset({INQUIRY.opcode, REPORT_LUNS.opcode, REQUEST_SENSE.opcode})
# What persistent ones leave to nexuses that are not registered (SPC-4, table 65; SSC-4, table 14).  As every
# command that moves the tape disturbs the holder, "write exclusive" leaves them no more than "exclusive".
_FREE_BESIDES = _FREE_FOR_ALL | {
    TEST_UNIT_READY.opcode,
    LOG_SENSE.opcode,
    MAINTENANCE_IN.opcode,
    READ_BLOCK_LIMITS.opcode,
    REPORT_DENSITY_SUPPORT.opcode,
    PERSISTENT_RESERVE_IN.opcode,
    PERSISTENT_RESERVE_OUT.opcode,
}


def _conflict() -> OtherStatus:
    return OtherStatus(ScsiStatus.RESERVATION_CONFLICT)


@dataclass(frozen=True, slots=True)
class _Held:
    """A persistent reservation."""

    nexus: str
    kind: int


class Reservations:
    """Both kinds of reservation of one unit."""

    def __init__(self, unit: LogicalUnit) -> None:
        self._unit = unit
        self._simple: str | None = None
        self._keys: dict[str, int] = {}
        self._held: _Held | None = None
        self._generation = 0
        for command in (RESERVE_6, RESERVE_10):
            unit.register(command, self._reserve)
        for command in (RELEASE_6, RELEASE_10):
            unit.register(command, self._release)
        unit.register(PERSISTENT_RESERVE_IN, self._persistent_in)
        unit.register(PERSISTENT_RESERVE_OUT, self._persistent_out)
        unit.admit = self._admit
        unit.on_lost = self._lost

    # -- who may -------------------------------------------------------------------------------------
    def _admit(self, nexus: str, cdb: bytes) -> None:
        """Raise RESERVATION CONFLICT where a reservation keeps this nexus out."""
        opcode = cdb[0]
        allows_removal = opcode == PREVENT_ALLOW.opcode and not cdb[4] & 0x03
        if allows_removal:
            return
        if self._simple not in (None, nexus):
            free = _FREE_FOR_ALL | {RELEASE_6.opcode, RELEASE_10.opcode}
        elif self._held is not None and not self._may(nexus):
            free = _FREE_BESIDES
        else:
            return
        if opcode not in free:
            raise _conflict()

    def _may(self, nexus: str) -> bool:
        assert self._held is not None
        if self._held.kind in (*_REGISTRANTS_ONLY, *_ALL_REGISTRANTS):
            return nexus in self._keys
        return nexus == self._held.nexus

    def _lost(self, nexus: str | None) -> None:
        """A nexus was lost, or with None every one by a reset: a simple reservation ends (SPC-2, 5.5.1)."""
        if nexus in (None, self._simple):
            self._simple = None

    # -- SPC-2 ---------------------------------------------------------------------------------------
    def _reserve(self, _fields: dict[str, int], _data: DataOut) -> bytes:
        if self._keys:
            # Both kinds at a time exclude each other (SPC-4, 5.13.3).
            raise _conflict()
        self._simple = self._unit.nexus
        return b""

    def _release(self, _fields: dict[str, int], _data: DataOut) -> bytes:
        """Releasing what one does not hold is no error, and has no effect (SPC-2, 7.16)."""
        if self._simple == self._unit.nexus:
            self._simple = None
        return b""

    # -- PERSISTENT RESERVE IN -----------------------------------------------------------------------
    def _persistent_in(self, fields: dict[str, int], _data: DataOut) -> bytes:
        action = fields["service_action"]
        generation = self._generation.to_bytes(4, "big")
        if action == READ_KEYS:
            body = b"".join(key.to_bytes(8, "big") for key in self._keys.values())
            data = generation + len(body).to_bytes(4, "big") + body
        elif action == READ_RESERVATION:
            body = b""
            if self._held is not None:
                body = self._holder_key().to_bytes(8, "big") + bytes(5) + bytes([self._held.kind]) + bytes(2)
            data = generation + len(body).to_bytes(4, "big") + body
        elif action == REPORT_CAPABILITIES:
            # Type mask valid; WR_EX_AR, EX_AC_RO, WR_EX_RO, EX_AC, WR_EX in its bytes (6.15.4).
            data = bytes([0, 8, 0, 0x80, 0xEA, 0x01, 0, 0])
        elif action == READ_FULL_STATUS:
            body = b"".join(self._full_status(nexus) for nexus in self._keys)
            data = generation + len(body).to_bytes(4, "big") + body
        else:
            raise illegal(INVALID_FIELD_IN_CDB)
        return data[: fields["allocation_length"]]

    def _holder_key(self) -> int:
        assert self._held is not None
        return 0 if self._held.kind in _ALL_REGISTRANTS else self._keys.get(self._held.nexus, 0)

    def _full_status(self, nexus: str) -> bytes:
        """One descriptor (6.15.5), with an iSCSI TransportID that holds the nexus's name (7.6.4.6)."""
        held = self._held
        holds = held is not None and (held.nexus == nexus or held.kind in _ALL_REGISTRANTS)
        name = nexus.encode() + b"\0"
        name += bytes(-len(name) % 4)
        identifier = bytes([0x45, 0]) + len(name).to_bytes(2, "big") + name
        kind = held.kind if holds and held is not None else 0
        head = self._keys[nexus].to_bytes(8, "big") + bytes(4) + bytes([int(holds), kind]) + bytes(4)
        return head + bytes([0, 1]) + len(identifier).to_bytes(4, "big") + identifier

    # -- PERSISTENT RESERVE OUT ----------------------------------------------------------------------
    def _persistent_out(self, fields: dict[str, int], data: DataOut) -> bytes:
        if fields["parameter_list_length"] != _PARAMETERS_LENGTH or len(data) < _PARAMETERS_LENGTH:
            raise illegal(PARAMETER_LIST_LENGTH)
        raw = bytes(data)
        key, new_key = int.from_bytes(raw[:8], "big"), int.from_bytes(raw[8:16], "big")
        if raw[20] & 0x0D:
            # SPEC_I_PT, ALL_TG_PT, APTPL: not supported.
            raise illegal(INVALID_FIELD_IN_LIST)
        action = fields["service_action"]
        nexus = self._unit.nexus
        if action in (REGISTER, REGISTER_AND_IGNORE):
            self._register(nexus, key, new_key, check=action == REGISTER)
            return b""
        if self._keys.get(nexus) != key:
            raise _conflict()
        if action in (RESERVE, RELEASE, PREEMPT, PREEMPT_AND_ABORT) and (
            fields["scope"] or fields["type"] not in _TYPES
        ):
            raise illegal(INVALID_FIELD_IN_CDB)
        if action == RESERVE:
            self._take(nexus, fields["type"])
        elif action == RELEASE:
            self._give(nexus, fields["type"])
        elif action == CLEAR:
            self._clear(nexus)
        elif action in (PREEMPT, PREEMPT_AND_ABORT):
            self._preempt(nexus, new_key, fields["type"])
        else:
            raise illegal(INVALID_FIELD_IN_CDB)
        return b""

    def _register(self, nexus: str, key: int, new_key: int, *, check: bool) -> None:
        """Register, change or, with a new key of 0, give up (SPC-4, 5.13.7)."""
        if check and key != self._keys.get(nexus, 0):
            raise _conflict()
        if new_key:
            self._keys[nexus] = new_key
        elif nexus in self._keys:
            del self._keys[nexus]
            self._after_leaving(nexus)
        self._generation += 1

    def _after_leaving(self, nexus: str) -> None:
        """A reservation ends with its holder, or with the last of all registrants (5.13.11.2)."""
        held = self._held
        if held is None:
            return
        if held.kind in _ALL_REGISTRANTS and self._keys:
            return
        if held.nexus == nexus or held.kind in _ALL_REGISTRANTS:
            self._held = None
            if held.kind in _REGISTRANTS_ONLY:
                self._tell(RESERVATIONS_RELEASED, but=nexus)

    def _take(self, nexus: str, kind: int) -> None:
        """Reserve; the same again by the holder is no error (5.13.9)."""
        if self._held is None:
            self._held = _Held(nexus, kind)
        elif not self._holds(nexus) or self._held.kind != kind:
            raise _conflict()

    def _holds(self, nexus: str) -> bool:
        held = self._held
        return held is not None and (held.nexus == nexus or held.kind in _ALL_REGISTRANTS)

    def _give(self, nexus: str, kind: int) -> None:
        """Release; by one who does not hold it, nothing happens (5.13.11.2)."""
        if not self._holds(nexus):
            return
        assert self._held is not None
        if self._held.kind != kind:
            raise illegal(INVALID_RELEASE)
        self._held = None
        if kind in (*_REGISTRANTS_ONLY, *_ALL_REGISTRANTS):
            self._tell(RESERVATIONS_RELEASED, but=nexus)

    def _clear(self, nexus: str) -> None:
        """Forget the reservation and every registration (5.13.11.5)."""
        self._tell(RESERVATIONS_PREEMPTED, but=nexus)
        self._keys.clear()
        self._held = None
        self._generation += 1

    def _preempt(self, nexus: str, victim_key: int, kind: int) -> None:
        """Throw out whoever has a key; take the reservation over if theirs it was (5.13.11.4)."""
        held = self._held
        is_all = held is not None and held.kind in _ALL_REGISTRANTS
        if not victim_key and not is_all:
            raise illegal(INVALID_FIELD_IN_LIST)
        victims = [
            other
            for other, key in self._keys.items()
            if other != nexus and (key == victim_key or (is_all and not victim_key))
        ]
        takes_over = held is not None and (
            (is_all and not victim_key) or (not is_all and self._keys.get(held.nexus) == victim_key)
        )
        if not victims and not takes_over:
            raise _conflict()
        for victim in victims:
            del self._keys[victim]
            self._unit.attention(REGISTRATIONS_PREEMPTED, only=victim)
        if takes_over:
            self._held = _Held(nexus, kind)
        self._generation += 1

    def _tell(self, code: tuple[int, int], but: str) -> None:
        for nexus in self._keys:
            if nexus != but:
                self._unit.attention(code, only=nexus)
