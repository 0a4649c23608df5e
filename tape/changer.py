"""A medium changer: what is where, and moving it (SMC-3).

Only `Transport.execute` is used, so a changer can also be driven through a media server, by NDMP's
SCSI_EXECUTE_CDB.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from tape.commands import INITIALIZE_ELEMENT_STATUS, MODE_SENSE_6, MOVE_MEDIUM, READ_ELEMENT_STATUS
from tape.device import MAX_UNIT_ATTENTIONS, ScsiDevice
from tape.elements import HEADER_LENGTH, Element, ElementKind, parse_report, report_length
from tape.errors import DeviceError, IllegalRequestError, UnitAttentionError
from tape.fields import Field
from tape.sense import Sense
from tape.transport import Completion, Transport

__all__ = ["Changer", "Inventory"]

# One robot move, with a drive that rewinds and ejects first, in a library of several frames.
MOVE_TIMEOUT_S = 900.0
# Reading every label of a big library may take an hour.
INITIALIZE_TIMEOUT_S = 3600.0
STATUS_TIMEOUT_S = 300.0

# Elements asked for in one command: keeps the answer (some 25 KiB) well below what SCSI through NDMP
# and old host adapters carry.
ELEMENTS_PER_REQUEST = 256
# Descriptor with both volume tags and an identifier of 36 bytes; the answer says if that was too little.
_BYTES_PER_ELEMENT = 128
# 24-bit lengths allow more; nobody has so much to say about 256 elements.
MAX_REPORT_BYTES = 1 << 20

# Element address assignment page (SMC-3, 7.3.4), behind a mode header of 4 bytes and its descriptors.
_PAGE_ADDRESSES = 0x1D
_MODE_HEADER = 4
_MODE_LENGTH = 255
_DESCRIPTOR_BYTES = Field(0xFF, 3)
_PAGE_CODE = Field(0x3F, 0)
_RANGES = {
    ElementKind.ARM: (Field(0xFFFF, 2), Field(0xFFFF, 4)),
    ElementKind.SLOT: (Field(0xFFFF, 6), Field(0xFFFF, 8)),
    ElementKind.PORT: (Field(0xFFFF, 10), Field(0xFFFF, 12)),
    ElementKind.DRIVE: (Field(0xFFFF, 14), Field(0xFFFF, 16)),
}
_PAGE_LENGTH = 18
# READ ELEMENT STATUS (SMC-3, 6.11): element type code 0 is all of them, and counts have 16 bits.
_ALL_KINDS, _ALL_ADDRESSES = 0, 0xFFFF
_ASC_MEDIUM_CHANGED = 0x28


@dataclass(frozen=True, slots=True)
class Inventory:
    """All elements of a library, each tuple by ascending address."""

    arms: tuple[Element, ...]
    slots: tuple[Element, ...]
    ports: tuple[Element, ...]
    drives: tuple[Element, ...]

    @property
    def elements(self) -> tuple[Element, ...]:
        """Every element."""
        return self.arms + self.slots + self.ports + self.drives

    def at(self, address: int) -> Element | None:
        """Return the element with this address."""
        return next((element for element in self.elements if element.address == address), None)

    def find(self, barcode: str) -> Element | None:
        """Return the element that holds this cartridge."""
        return next((element for element in self.elements if element.barcode == barcode), None)


class Changer(ScsiDevice):
    """One medium changer.

    Unit attentions are absorbed where the command means the same after them; `move` raises the one
    that says that somebody else moved cartridges (28h), because addresses may then lie.

    Attributes:
        change: the last such unit attention that was absorbed; None if there was none.

    """

    def __init__(
        self,
        transport: Transport,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(transport, now=now, sleep=sleep)
        self.change: Sense | None = None
        self._ranges: dict[ElementKind, range] | None = None

    def inventory(self) -> Inventory:
        """Ask for every element, one kind at a time (an answer for all kinds is malformed with tgt).

        A library that refuses to answer for one kind (ndmjob's simulated robot) is asked for all at once.

        Raises:
            DeviceError: the library does not tell its addresses, or answers nonsense.

        """
        ranges = self._ranges = self._read_ranges()
        try:
            found = {kind: self._elements(kind, addresses) for kind, addresses in ranges.items()}
        except IllegalRequestError:
            found = self._all_elements()
        return Inventory(
            arms=found[ElementKind.ARM],
            slots=found[ElementKind.SLOT],
            ports=found[ElementKind.PORT],
            drives=found[ElementKind.DRIVE],
        )

    def move(self, source: int, destination: int) -> None:
        """Carry a cartridge from one element to another (MOVE MEDIUM, SMC-3, 6.8).

        Raises:
            IllegalRequestError: source empty (05/3b/0e), destination full (05/3b/0d), no such
                element (05/21/01), or removal prevented (05/53/02).
            UnitAttentionError: cartridges were moved by somebody else: take a new inventory.

        """
        if self._ranges is None:
            self._ranges = self._read_ranges()
        arms = self._ranges[ElementKind.ARM]
        # Address 0 means "any arm" (SMC-3); but some libraries want theirs by name.
        arm = arms.start if arms else 0
        cdb = MOVE_MEDIUM.cdb(transport=arm, source=source, destination=destination)
        self._patiently(cdb, timeout_s=MOVE_TIMEOUT_S, raises_change=True)

    def initialize(self) -> None:
        """Have the library look at every element again (INITIALIZE ELEMENT STATUS, SMC-3, 6.4)."""
        self._patiently(INITIALIZE_ELEMENT_STATUS.cdb(), timeout_s=INITIALIZE_TIMEOUT_S)

    def _read_ranges(self) -> dict[ElementKind, range]:
        """Return the addresses of each kind of element, from mode page 1Dh."""
        cdb = MODE_SENSE_6.cdb(dbd=1, page_code=_PAGE_ADDRESSES, allocation_length=_MODE_LENGTH)
        data = self._patiently(cdb, data_in_length=_MODE_LENGTH, timeout_s=STATUS_TIMEOUT_S).data
        page = data[_MODE_HEADER + _DESCRIPTOR_BYTES.get(data) :]
        if len(page) < _PAGE_LENGTH or _PAGE_CODE.get(page) != _PAGE_ADDRESSES:
            raise DeviceError("MODE SENSE(6): no element address assignment page", device=self.name)
        return {
            kind: range(first.get(page), first.get(page) + count.get(page))
            for kind, (first, count) in _RANGES.items()
        }

    def _elements(self, kind: ElementKind, addresses: range) -> tuple[Element, ...]:
        """Ask for all elements of one kind, in portions."""
        found: dict[int, Element] = {}
        start = addresses.start
        while start < addresses.stop:
            count = min(ELEMENTS_PER_REQUEST, addresses.stop - start)
            # tgt ignores the count and always answers with everything: keep each address once.
            fresh = [item for item in self._status(kind, start, count) if item.address >= start]
            if not fresh:
                break
            found.update((item.address, item) for item in fresh)
            start = max(found) + 1
        return tuple(found[address] for address in sorted(found))

    def _all_elements(self) -> dict[ElementKind, tuple[Element, ...]]:
        """Ask for whatever there is, of every kind, in one command."""
        items = self._report(_ALL_KINDS, 0, _ALL_ADDRESSES, dvcid=0)
        items.sort(key=lambda item: item.address)
        return {kind: tuple(item for item in items if item.kind is kind) for kind in ElementKind}

    def _status(self, kind: ElementKind, start: int, count: int) -> list[Element]:
        """Ask for one portion; without the drives' identifiers where the library refuses them."""
        try:
            return self._report(kind.code, start, count, dvcid=int(kind is ElementKind.DRIVE))
        except IllegalRequestError:
            if kind is not ElementKind.DRIVE:
                raise
            return self._report(kind.code, start, count, dvcid=0)

    def _report(self, kind: int, start: int, count: int, dvcid: int) -> list[Element]:
        """Ask for one portion, again with more room if the first answer did not fit."""
        values = {"voltag": 1, "element_type": kind, "start": start, "count": count, "dvcid": dvcid}
        room = 2 * HEADER_LENGTH + min(count, ELEMENTS_PER_REQUEST) * _BYTES_PER_ELEMENT
        while True:
            cdb = READ_ELEMENT_STATUS.cdb(**values, allocation_length=room)
            data = self._patiently(cdb, data_in_length=room, timeout_s=STATUS_TIMEOUT_S).data
            needed = report_length(data)
            if needed <= room or room >= MAX_REPORT_BYTES:
                return parse_report(data)
            room = min(needed, MAX_REPORT_BYTES)

    def _patiently(
        self, cdb: bytes, *, data_in_length: int = 0, timeout_s: float, raises_change: bool = False
    ) -> Completion:
        """Execute a command, and again while unit attentions come in its place."""
        for _ in range(MAX_UNIT_ATTENTIONS):
            try:
                return self._command(cdb, data_in_length=data_in_length, timeout_s=timeout_s)
            except UnitAttentionError as error:
                if error.sense is None or error.sense.asc != _ASC_MEDIUM_CHANGED:
                    continue
                if raises_change:
                    raise
                self.change = error.sense
        return self._command(cdb, data_in_length=data_in_length, timeout_s=timeout_s)
