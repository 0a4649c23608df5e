"""What a model library consists of, as declared by whoever sets one up."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tape.elements import ElementKind
from tape.errors import TapeMisuseError

__all__ = ["BARCODE", "LibrarySpec"]

# Barcodes name files, so nothing but capital letters and digits; 32 is the volume tag's length.
BARCODE = re.compile(r"[A-Z0-9]{1,32}")
# READ ELEMENT STATUS carries serials in a descriptor; T10 lists ten characters, drives use up to 32.
SERIAL = re.compile(r"[A-Z0-9]{1,32}")
# An element address has 16 bits.
MAX_ADDRESS = 0xFFFF
# Below this even a label and one record with its trailer do not fit.
MIN_CAPACITY_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class LibrarySpec:
    """A library's devices, elements and cartridges.

    Attributes:
        changer_serial: unit serial number of the changer.
        drive_serials: of the drives, in the order of their element addresses.
        slots: for each slot the barcode of the cartridge that lies there at the very first start.
        ports: number of import and export elements.
        arm, first_drive, first_port, first_slot: element addresses.
        capacity_bytes: size of every new cartridge, 16 bytes of framing per record included.
        early_warning_bytes: room left from which on writes give early warning (at most half a tape).

    Raises:
        TapeMisuseError: names twice, addresses that overlap, or a cartridge too small to be one.

    """

    changer_serial: str
    drive_serials: tuple[str, ...]
    slots: tuple[str | None, ...]
    ports: int = 4
    arm: int = 1
    first_drive: int = 256
    first_port: int = 768
    first_slot: int = 4096
    capacity_bytes: int = 1 << 30
    early_warning_bytes: int = 2 << 20

    def __post_init__(self) -> None:
        serials = (self.changer_serial, *self.drive_serials)
        barcodes = self.barcodes
        for text, pattern in [(s, SERIAL) for s in serials] + [(b, BARCODE) for b in barcodes]:
            if not pattern.fullmatch(text):
                raise TapeMisuseError(f"{text!r}: 1 to 32 capital letters and digits are allowed")
        if len(set(serials)) < len(serials) or len(set(barcodes)) < len(barcodes):
            raise TapeMisuseError("a serial number or barcode occurs twice")
        addresses = [address for kind in ElementKind for address in self.addresses(kind)]
        if len(set(addresses)) < len(addresses) or max(addresses) > MAX_ADDRESS:
            raise TapeMisuseError("element addresses overlap or exceed 16 bits")
        if self.capacity_bytes < MIN_CAPACITY_BYTES:
            raise TapeMisuseError(f"a cartridge needs at least {MIN_CAPACITY_BYTES} bytes")

    @property
    def barcodes(self) -> tuple[str, ...]:
        """All cartridges."""
        return tuple(barcode for barcode in self.slots if barcode is not None)

    def addresses(self, kind: ElementKind) -> range:
        """Return the element addresses of one kind."""
        first, count = {
            ElementKind.ARM: (self.arm, 1),
            ElementKind.SLOT: (self.first_slot, len(self.slots)),
            ElementKind.PORT: (self.first_port, self.ports),
            ElementKind.DRIVE: (self.first_drive, len(self.drive_serials)),
        }[kind]
        return range(first, first + count)
