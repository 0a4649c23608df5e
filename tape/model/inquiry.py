"""INQUIRY of the library model: standard data and vital product data pages (SPC-4, 6.6 and 7.8)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from tape.commands import INQUIRY
from tape.model.unit import INVALID_FIELD_IN_CDB, REVISION, VENDOR, LogicalUnit, UnitIdentity, illegal
from tape.transport import DataOut

__all__ = ["Inquiry", "t10_identifier"]

_SPC_4 = 0x06
# Version descriptors of standard data (SPC-4, table 142), no revision claimed: SAM-5, SPC-4, iSCSI; and the
# command set's own.
_VERSIONS = (0x00A0, 0x0460, 0x0960)
_COMMAND_SETS = {1: 0x0520, 8: 0x0480}  # SSC-4, SMC-3
_VERSIONS_OFFSET, _STANDARD_LENGTH = 58, 74


def _names(identity: UnitIdentity) -> bytes:
    return f"{VENDOR:<8.8}{identity.product:<16.16}".encode("ascii")


def t10_identifier(identity: UnitIdentity) -> bytes:
    """Return the designator "vendor product serial" (SPC-4, 7.8.6.4), also used for DVCID."""
    body = _names(identity) + identity.serial.encode("ascii")
    return bytes([0x02, 0x01, 0x00, len(body)]) + body


class Inquiry:
    """Answers INQUIRY for a unit.

    Args:
        unit: whose identity it is.
        more_pages: pages of the device type, by page code; a function that gives the body of each.

    """

    def __init__(self, unit: LogicalUnit, more_pages: dict[int, Callable[[], bytes]] | None = None) -> None:
        self._identity = unit.identity
        self._pages: dict[int, Callable[[], bytes]] = {
            0x00: lambda: bytes(sorted(self._pages)),
            0x80: lambda: self._identity.serial.encode("ascii"),
            0x83: self._identification,
            **(more_pages or {}),
        }
        unit.register(INQUIRY, self._inquiry)

    def _inquiry(self, fields: dict[str, int], _data: DataOut) -> bytes:
        if fields["evpd"]:
            return self._vpd_page(fields["page_code"])[: fields["allocation_length"]]
        if fields["page_code"]:
            raise illegal(INVALID_FIELD_IN_CDB)
        kind = self._identity.peripheral_type
        # Removable medium; SPC-4; response data format 2; the rest's length; no flags.
        head = bytes([kind, 0x80, _SPC_4, 0x02, _STANDARD_LENGTH - 5, 0, 0, 0])
        standard = (head + _names(self._identity) + REVISION.encode()).ljust(_VERSIONS_OFFSET, b"\0")
        versions = b"".join(code.to_bytes(2, "big") for code in (*_VERSIONS, _COMMAND_SETS[kind]))
        return (standard + versions).ljust(_STANDARD_LENGTH, b"\0")[: fields["allocation_length"]]

    def _vpd_page(self, page: int) -> bytes:
        if page not in self._pages:
            raise illegal(INVALID_FIELD_IN_CDB)
        body = self._pages[page]()
        return bytes([self._identity.peripheral_type, page]) + len(body).to_bytes(2, "big") + body

    def _identification(self) -> bytes:
        """Page 83h: T10, and NAA 3h, locally assigned: as unique as the serial, the same at every start."""
        digest = hashlib.sha256(self._identity.serial.encode()).digest()[:8]
        naa = bytes([0x01, 0x03, 0x00, 8, 0x30 | digest[0] & 0x0F]) + digest[1:]
        return t10_identifier(self._identity) + naa
