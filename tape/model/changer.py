"""The medium changer of the library model (SMC-3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tape.commands import EXCHANGE_MEDIUM, INITIALIZE_ELEMENT_STATUS, MOVE_MEDIUM, READ_ELEMENT_STATUS
from tape.elements import (
    DESCRIPTOR,
    DESCRIPTOR_LENGTH,
    HEADER_LENGTH,
    PAGE_HEADER,
    REPORT_HEADER,
    VOLUME_TAG_LENGTH,
    ElementKind,
)
from tape.errors import TapeMisuseError
from tape.fields import encode_fields
from tape.model.cartridge import Cartridge
from tape.model.commands import INITIALIZE_WITH_RANGE, POSITION_TO_ELEMENT
from tape.model.drive import DriveModel
from tape.model.element_map import ElementMap
from tape.model.inquiry import Inquiry, t10_identifier
from tape.model.logs import Logs, tape_alert_page
from tape.model.modes import ModePage, Modes
from tape.model.opcodes import Opcodes
from tape.model.outcome import INTERNAL_FAILURE, PORT_ACCESSED
from tape.model.reservations import Reservations
from tape.model.spec import LibrarySpec
from tape.model.unit import (
    INVALID_FIELD_IN_CDB,
    REMOVAL_PREVENTED,
    CheckCondition,
    LogicalUnit,
    UnitIdentity,
    illegal,
)
from tape.sense import Sense, SenseKey
from tape.transport import DataOut

__all__ = ["ChangerModel"]

INVALID_ELEMENT_ADDRESS = (0x21, 0x01)
DESTINATION_FULL = (0x3B, 0x0D)
SOURCE_EMPTY = (0x3B, 0x0E)

_PAGE_ADDRESSES, _PAGE_GEOMETRY, _PAGE_CAPABILITIES = 0x1D, 0x1E, 0x1F
# Order of the address assignment page (SMC-3, 7.3.4).
_PAGE_ORDER = (ElementKind.ARM, ElementKind.SLOT, ElementKind.PORT, ElementKind.DRIVE)
_STORAGE = (ElementKind.SLOT, ElementKind.PORT)


class ChangerModel(LogicalUnit):
    """One changer with its elements.

    Args:
        spec: what the library consists of.
        places: which cartridge is where.
        drives: in the order of their element addresses.
        open_cartridge: opens the file of a barcode.
        shown: gives the label that is reported for a barcode.

    """

    def __init__(
        self,
        spec: LibrarySpec,
        places: ElementMap,
        drives: Sequence[DriveModel],
        open_cartridge: Callable[[str], Cartridge],
        shown: Callable[[str], str] = str,
    ) -> None:
        super().__init__(UnitIdentity(8, "VIRTUAL LIBRARY", spec.changer_serial))
        self._spec = spec
        self._places = places
        self._drives = dict(zip(spec.addresses(ElementKind.DRIVE), drives, strict=True))
        self._open_cartridge = open_cartridge
        self._shown = shown
        # Mail slots whose cartridge an operator put there (IMPEXP).
        self._by_operator: set[int] = set()
        self._kinds = {address: kind for kind in ElementKind for address in spec.addresses(kind)}
        self.register(INITIALIZE_ELEMENT_STATUS, self._initialize)
        self.register(READ_ELEMENT_STATUS, self._read_element_status)
        self.register(MOVE_MEDIUM, self._move_medium)
        self.register(EXCHANGE_MEDIUM, self._exchange_medium)
        self.register(POSITION_TO_ELEMENT, self._position)
        self.register(INITIALIZE_WITH_RANGE, self._initialize)
        self.alerts: set[int] = set()
        Inquiry(self)
        Modes(self, self._mode_pages())
        Logs(self, [tape_alert_page(self.alerts)])
        Reservations(self)
        Opcodes(self)

    def _mode_pages(self) -> list[ModePage]:
        """Element addresses (SMC-3, 7.3.4), geometry of the arm (7.3.5), what can be moved where (7.3.2)."""
        body = b""
        for kind in _PAGE_ORDER:
            addresses = self._spec.addresses(kind)
            first = addresses.start if addresses else 0
            body += first.to_bytes(2, "big") + len(addresses).to_bytes(2, "big")
        # Slots, ports and drives store; everything moves to and is exchanged between those three.
        stores = 0x0E
        moves = bytes([0, stores, stores, stores])
        capabilities = bytes([stores, 0]) + moves + bytes(4) + moves + bytes(4)
        return [
            ModePage(_PAGE_ADDRESSES, body + bytes(2)),
            ModePage(_PAGE_GEOMETRY, bytes(2)),
            ModePage(_PAGE_CAPABILITIES, capabilities),
        ]

    def _initialize(self, _fields: dict[str, int], _data: DataOut) -> bytes:
        """The model always knows what is where: there is nothing to look at."""
        return b""

    # -- moving --------------------------------------------------------------------------------------
    def _move_medium(self, fields: dict[str, int], _data: DataOut) -> bytes:
        """MOVE MEDIUM, SMC-3, 6.8.  A drive ejects by itself unless removal is prevented."""
        source, destination = fields["source"], fields["destination"]
        if fields["invert"]:
            raise illegal(INVALID_FIELD_IN_CDB)
        self._require_arm(fields["transport"])
        if source not in self._kinds or self._kinds.get(destination) in (None, ElementKind.ARM):
            raise illegal(INVALID_ELEMENT_ADDRESS)
        if self._places.at(source) is None:
            raise illegal(SOURCE_EMPTY)
        if self._places.at(destination) is not None:
            raise illegal(DESTINATION_FULL)
        try:
            self._carry(source, destination)
        except OSError as error:
            raise CheckCondition(Sense(SenseKey.HARDWARE_ERROR, *INTERNAL_FAILURE)) from error
        return b""

    def _exchange_medium(self, fields: dict[str, int], _data: DataOut) -> bytes:
        """EXCHANGE MEDIUM, SMC-3, 6.3: source to the first destination, what lay there to the second.

        The second destination may be the source, or a free element.
        """
        source, first = fields["source"], fields["first_destination"]
        second = fields["second_destination"]
        if fields["invert1"] or fields["invert2"]:
            raise illegal(INVALID_FIELD_IN_CDB)
        self._require_arm(fields["transport"])
        movable = (ElementKind.ARM, None)
        if any(self._kinds.get(address) in movable for address in (source, first, second)) or source == first:
            raise illegal(INVALID_ELEMENT_ADDRESS)
        if self._places.at(source) is None or self._places.at(first) is None:
            raise illegal(SOURCE_EMPTY)
        if second not in (source, first) and self._places.at(second) is not None:
            raise illegal(DESTINATION_FULL)
        if second == first:
            raise illegal(INVALID_ELEMENT_ADDRESS)
        self._require_removable(source, first)
        try:
            self._exchange(source, first, second)
        except OSError as error:
            raise CheckCondition(Sense(SenseKey.HARDWARE_ERROR, *INTERNAL_FAILURE)) from error
        return b""

    def _exchange(self, source: int, first: int, second: int) -> None:
        """Carry two cartridges, one of them by way of the arm where they change places."""
        if second != source:
            self._carry(first, second)
            self._carry(source, first)
            return
        self._carry(source, self._spec.arm)
        self._carry(first, second)
        self._carry(self._spec.arm, first)

    def _require_arm(self, address: int) -> None:
        """Address 0 means any arm (SMC-3, 6.8)."""
        if address not in (0, self._spec.arm):
            raise illegal(INVALID_ELEMENT_ADDRESS)

    def _require_removable(self, *addresses: int) -> None:
        for address in addresses:
            drive = self._drives.get(address)
            if drive is not None and drive.prevented:
                raise illegal(REMOVAL_PREVENTED)

    def _position(self, fields: dict[str, int], _data: DataOut) -> bytes:
        """POSITION TO ELEMENT, SMC-3, 6.9: the arm is everywhere; only the address is checked."""
        if fields["invert"]:
            raise illegal(INVALID_FIELD_IN_CDB)
        self._require_arm(fields["transport"])
        if fields["destination"] not in self._kinds:
            raise illegal(INVALID_ELEMENT_ADDRESS)
        return b""

    # -- the operator at the mail slots --------------------------------------------------------------
    def put_into_port(self, barcode: str) -> int:
        """Lay a cartridge into the first free mail slot, as an operator does; return its address.

        The next command is told by UNIT ATTENTION 28/01.

        Raises:
            TapeMisuseError: no mail slot is free, the door is locked, or the cartridge is here already.

        """
        with self.lock:
            self._require_unlocked()
            if self._places.address_of(barcode) is not None:
                raise TapeMisuseError(f"{barcode} is in the library already")
            free = [a for a in self._spec.addresses(ElementKind.PORT) if self._places.at(a) is None]
            if not free:
                raise TapeMisuseError("no mail slot is free")
            self._places.put(free[0], barcode)
            self._by_operator.add(free[0])
            self.attention(PORT_ACCESSED)
            return free[0]

    def take_from_port(self, barcode: str) -> None:
        """Take a cartridge out of its mail slot; its file stays in the folder.

        Raises:
            TapeMisuseError: it is in no mail slot, or the door is locked.

        """
        with self.lock:
            self._require_unlocked()
            address = self._places.address_of(barcode)
            if address not in self._spec.addresses(ElementKind.PORT):
                raise TapeMisuseError(f"{barcode} is in no mail slot")
            assert address is not None
            self._places.take(address)
            self.attention(PORT_ACCESSED)

    def _require_unlocked(self) -> None:
        """PREVENT ALLOW MEDIUM REMOVAL locks the door of the mail slots (SMC-3, 6.10)."""
        if self.prevented:
            raise TapeMisuseError("the door of the mail slots is locked")

    def _carry(self, source: int, destination: int) -> None:
        """Take a cartridge out, record where it goes, and put it in."""
        place = self._places.at(source)
        assert place is not None
        giver, taker = self._drives.get(source), self._drives.get(destination)
        cartridge: Cartridge | None = None
        if giver is not None:
            # The drive's lock: a record being written is finished before the cartridge goes.
            with giver.lock:
                if giver.prevented:
                    raise illegal(REMOVAL_PREVENTED)
                cartridge = giver.eject()
        elif taker is not None:
            cartridge = self._open_cartridge(place.barcode)
        self._by_operator.discard(source)
        remembered = source if self._kinds[source] in _STORAGE else place.source
        try:
            self._places.move(source, destination, remembered)
        except OSError:
            # The cartridge is still where the map says; so it must be in the drive again, too.
            if giver is not None and cartridge is not None:
                giver.insert(cartridge)
            raise
        if taker is not None and cartridge is not None:
            taker.insert(cartridge)
        elif cartridge is not None:
            cartridge.close()

    # -- the report ----------------------------------------------------------------------------------
    def _read_element_status(self, fields: dict[str, int], _data: DataOut) -> bytes:
        """READ ELEMENT STATUS, SMC-3, 6.14: a page per kind, in the order of their type codes."""
        codes = {kind.code: kind for kind in ElementKind}
        asked = fields["element_type"]
        if asked and asked not in codes:
            raise illegal(INVALID_FIELD_IN_CDB)
        kinds = [codes[asked]] if asked else [codes[code] for code in sorted(codes)]
        left = fields["count"]
        pages = b""
        reported: list[int] = []
        for kind in kinds:
            addresses = [a for a in self._spec.addresses(kind) if a >= fields["start"]][:left]
            left -= len(addresses)
            if addresses:
                reported += addresses
                pages += self._page(kind, addresses, voltag=bool(fields["voltag"]), dvcid=fields["dvcid"])
        values = {"first": min(reported, default=0), "count": len(reported), "bytes": len(pages)}
        header = encode_fields(HEADER_LENGTH, REPORT_HEADER, values)
        return (bytes(header) + pages)[: fields["allocation_length"]]

    def _page(self, kind: ElementKind, addresses: list[int], *, voltag: bool, dvcid: int) -> bytes:
        """Build the page of one kind; all its descriptors have the same length."""
        descriptors = [self._descriptor(kind, address, voltag=voltag, dvcid=dvcid) for address in addresses]
        length = max(len(descriptor) for descriptor in descriptors)
        body = b"".join(descriptor.ljust(length, b"\0") for descriptor in descriptors)
        values = {
            "element_type": kind.code,
            "primary_tag": int(voltag),
            "descriptor_length": length,
            "bytes": len(body),
        }
        return bytes(encode_fields(HEADER_LENGTH, PAGE_HEADER, values)) + body

    def _descriptor(self, kind: ElementKind, address: int, *, voltag: bool, dvcid: int) -> bytes:
        """Describe one element (SMC-3, 6.14.4); the tag of an empty one is zero."""
        place = self._places.at(address)
        drive = self._drives.get(address)
        values = {
            "address": address,
            "access": int(kind is not ElementKind.ARM and not (drive is not None and drive.prevented)),
            "full": int(place is not None),
        }
        if kind is ElementKind.PORT:
            values |= {"import_enabled": 1, "export_enabled": 1, "by_operator": address in self._by_operator}
        if place is not None and place.source is not None:
            values |= {"source_valid": 1, "source": place.source}
        descriptor = bytes(encode_fields(DESCRIPTOR_LENGTH, DESCRIPTOR, values))
        if voltag:
            tag = self._shown(place.barcode).encode("ascii").ljust(32) if place is not None else b""
            descriptor += tag.ljust(VOLUME_TAG_LENGTH, b"\0")
        if drive is not None and dvcid:
            descriptor += t10_identifier(drive.identity)
        return descriptor
