"""What any medium changer must do.  The library needs two cartridges in slots and an empty slot."""

from __future__ import annotations

from collections.abc import Collection

from tape.changer import Changer
from tape.errors import IllegalRequestError
from tape.identity import DeviceKind
from tape.testing.base import READY_TIMEOUT_S, Cannot, Check, need, require, require_error
from tape.transport import Transport

__all__ = [
    "CHANGER_CHECKS",
    "MOVING",
    "check_changer_identity",
    "check_drive_serials",
    "check_empty_source",
    "check_full_destination",
    "check_inventory",
    "check_move_and_back",
]


def _changer(transport: Transport) -> Changer:
    changer = Changer(transport)
    changer.wait_ready(READY_TIMEOUT_S)
    return changer


def _slots(changer: Changer) -> tuple[int, int]:
    """Return the addresses of a full and of an empty slot, which the checks need."""
    slots = changer.inventory().slots
    full = [slot.address for slot in slots if slot.full]
    empty = [slot.address for slot in slots if not slot.full]
    require(bool(full and empty), "the library has a full and an empty slot, as these checks need")
    return full[0], empty[0]


def check_changer_identity(transport: Transport, _cannot: Collection[Cannot]) -> None:
    """A changer says that it is one, with a serial number."""
    identity = Changer(transport).identify()
    require(identity.kind is DeviceKind.CHANGER, "INQUIRY says medium changer", identity.kind)
    require(bool(identity.serial), "VPD page 80h has a serial number", identity)


def check_inventory(transport: Transport, _cannot: Collection[Cannot]) -> None:
    """The report is complete: an arm, drives, slots, each address once, each barcode once."""
    inventory = _changer(transport).inventory()
    require(bool(inventory.arms and inventory.slots and inventory.drives), "arm, slots and drives", inventory)
    addresses = [element.address for element in inventory.elements]
    require(len(set(addresses)) == len(addresses), "each address occurs once", addresses)
    barcodes = [element.barcode for element in inventory.elements if element.full]
    require(None not in barcodes, "every cartridge has a barcode", barcodes)
    require(len(set(barcodes)) == len(barcodes), "each barcode occurs once", barcodes)


def check_drive_serials(transport: Transport, cannot: Collection[Cannot]) -> None:
    """Each drive element names its drive's serial number (DVCID)."""
    need(cannot, Cannot.DRIVE_SERIALS)
    serials = [element.serial for element in _changer(transport).inventory().drives]
    require(None not in serials and len(set(serials)) == len(serials), "each drive has its own", serials)


def check_move_and_back(transport: Transport, _cannot: Collection[Cannot]) -> None:
    """A cartridge that was moved is in the new slot only, and can be brought back."""
    changer = _changer(transport)
    full, empty = _slots(changer)
    before = changer.inventory()
    origin = before.at(full)
    barcode = origin.barcode if origin is not None else None
    changer.move(full, empty)
    after = changer.inventory()
    there, here = after.at(empty), after.at(full)
    require(there is not None and there.barcode == barcode, "the cartridge arrived", there)
    require(here is not None and not here.full, "and left its slot empty", here)
    changer.move(empty, full)
    back = changer.inventory().at(full)
    require(back is not None and back.barcode == barcode, "and came back", back)


def check_empty_source(transport: Transport, _cannot: Collection[Cannot]) -> None:
    """Taking from an empty element is refused with 05/3b/0e."""
    changer = _changer(transport)
    full, empty = _slots(changer)
    error = require_error(
        IllegalRequestError, lambda: changer.move(empty, full), "an empty source is refused"
    )
    require(error.sense is not None and error.sense.code == (0x3B, 0x0E), "with 3b/0e", error)


def check_full_destination(transport: Transport, _cannot: Collection[Cannot]) -> None:
    """Putting onto a full element is refused with 05/3b/0d, and nothing moves."""
    changer = _changer(transport)
    slots = [slot for slot in changer.inventory().slots if slot.full]
    require(len(slots) > 1, "the library has two full slots, as this check needs")
    error = require_error(
        IllegalRequestError,
        lambda: changer.move(slots[0].address, slots[1].address),
        "a full destination is refused",
    )
    require(error.sense is not None and error.sense.code == (0x3B, 0x0D), "with 3b/0d", error)
    barcodes = [slot.barcode for slot in changer.inventory().slots if slot.full]
    require(barcodes == [slot.barcode for slot in slots], "and nothing has moved", barcodes)


CHANGER_CHECKS: tuple[Check, ...] = (
    check_changer_identity,
    check_inventory,
    check_drive_serials,
    check_move_and_back,
    check_empty_source,
    check_full_destination,
)

MOVING: tuple[Check, ...] = (check_move_and_back, check_empty_source, check_full_destination)
"""Those that take the cartridge of the first full slot, or try to put it onto that of the second."""
