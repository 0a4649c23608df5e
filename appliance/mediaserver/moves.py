"""Which cartridges a DMA may have carried: those that the configuration lists, between drives that it lists.

Checked against an inventory that is taken for the move.  What the robot itself refuses (an empty source, a
full destination) is left to it: a DMA wants its sense data.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from appliance.mediaserver.libraries import Library, Unit
from appliance.ndmp.enums import ErrorCode
from appliance.ndmp.errors import RefusalError
from tape.changer import Inventory
from tape.commands import EXCHANGE_MEDIUM, MOVE_MEDIUM, name_of
from tape.elements import ElementKind
from tape.errors import TapeMisuseError

Move = tuple[int, int]
"""Element addresses of source and destination."""


def moves_of(command: bytes) -> tuple[Move, ...]:
    """What a CDB that moves cartridges carries where.  Raises RefusalError(ILLEGAL_ARGS)."""
    try:
        if command[0] == MOVE_MEDIUM.opcode:
            fields = MOVE_MEDIUM.decode(command)
            return ((fields["source"], fields["destination"]),)
        fields = EXCHANGE_MEDIUM.decode(command)
    except TapeMisuseError as error:
        raise RefusalError(ErrorCode.ILLEGAL_ARGS, str(error)) from error
    first = fields["first_destination"]
    return (fields["source"], first), (first, fields["second_destination"])


@contextmanager
def permitted(library: Library, command: bytes) -> Iterator[None]:
    """Have a move checked, and its drives to itself while the block runs.

    Raises RefusalError: PERMISSION for what is not listed, DEVICE_BUSY for a drive that a stream uses,
    ILLEGAL_ARGS for elements that are not there; TapeError when the changer cannot be asked.
    """
    moves = moves_of(command)
    inventory = library.inventory()
    for source, destination in moves:
        _check_cartridge(library, inventory, source)
        _check_place(library, inventory, source)
        _check_place(library, inventory, destination)
    addresses = {address for move in moves for address in move}
    units = {unit.serial: unit for address in addresses if (unit := library.drive_at(address)) is not None}
    with ExitStack() as stack:
        for serial in sorted(units):
            _check_idle(units[serial], command)
            stack.enter_context(units[serial].lock)
            # Again: while we waited for the drive, a stream may have begun.
            _check_idle(units[serial], command)
        yield


def _check_cartridge(library: Library, inventory: Inventory, address: int) -> None:
    element = inventory.at(address)
    if element is None:
        raise RefusalError(ErrorCode.ILLEGAL_ARGS, f"the library has no element {address}")
    if not element.full or element.barcode in library.movable:
        return
    which = f"cartridge {element.barcode}" if element.barcode else "a cartridge whose barcode is not known"
    raise RefusalError(
        ErrorCode.PERMISSION,
        f"{which} in element {address} is not listed in the configuration (writable, readable)",
    )


def _check_place(library: Library, inventory: Inventory, address: int) -> None:
    element = inventory.at(address)
    if element is None:
        raise RefusalError(ErrorCode.ILLEGAL_ARGS, f"the library has no element {address}")
    if element.kind is ElementKind.DRIVE and library.drive_at(address) is None:
        which = f"drive {element.serial}" if element.serial else "a drive"
        raise RefusalError(
            ErrorCode.PERMISSION, f"{which} in element {address} is not listed in the configuration"
        )


def _check_idle(unit: Unit, command: bytes) -> None:
    if unit.in_use():
        raise RefusalError(
            ErrorCode.DEVICE_BUSY, f"{name_of(command)}: a stream runs through {unit.name} just now"
        )
