"""Who a device is: standard INQUIRY data and the serial number of VPD page 80h (SPC-4, 6.6 and 7.8.18)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tape.commands import INQUIRY, name_of
from tape.errors import DeviceError, IllegalRequestError
from tape.fields import Field
from tape.sense import error_for
from tape.transport import Transport

__all__ = ["DeviceKind", "Identity", "clean_text", "identify", "serial_of_page_80"]

# Standard data up to the revision; every device has these.
_STANDARD_LENGTH = 36
# A serial number has a one-byte length in practice, whatever the two-byte field allows.
_VPD_LENGTH = 255
_PERIPHERAL_TYPE = Field(0x1F, 0)
_PAGE_SERIAL = 0x80


class DeviceKind(StrEnum):
    """Peripheral device type of INQUIRY, as far as this project drives it."""

    DRIVE = "drive"
    CHANGER = "changer"
    OTHER = "other"

    @classmethod
    def of_type(cls, peripheral_type: int) -> DeviceKind:
        """Translate the number used by INQUIRY and sysfs: 1 is a tape drive, 8 a changer."""
        return {1: cls.DRIVE, 8: cls.CHANGER}.get(peripheral_type, cls.OTHER)


@dataclass(frozen=True, slots=True)
class Identity:
    """What a device says of itself; blanks and NULs around the values are removed.

    `serial` is empty if the device has no VPD page 80h.
    """

    vendor: str
    product: str
    revision: str
    serial: str
    kind: DeviceKind = DeviceKind.OTHER


def clean_text(raw: bytes) -> str:
    """Return a text field without padding.  Some emulators pad with NULs, or in front (tape.md, E)."""
    return raw.decode("ascii", "replace").strip(" \0")


def serial_of_page_80(page: bytes) -> str:
    """Return the serial number in a VPD page 80h, empty if the bytes are another page or cut short."""
    if len(page) < 4 or page[1] != _PAGE_SERIAL:
        return ""
    return clean_text(page[4 : 4 + int.from_bytes(page[2:4], "big")])


def identify(transport: Transport) -> Identity:
    """Ask a device who it is.  Works without medium, and does not consume a unit attention.

    Raises:
        DeviceError: the device does not answer INQUIRY, or with too little.

    """
    cdb = INQUIRY.cdb(allocation_length=_STANDARD_LENGTH)
    done = transport.execute(cdb, data_in_length=_STANDARD_LENGTH)
    error = error_for(done, transport.name, name_of(cdb))
    if error is not None:
        raise error
    data = done.data
    if len(data) < _STANDARD_LENGTH:
        raise DeviceError(f"INQUIRY: {len(data)} bytes instead of {_STANDARD_LENGTH}", device=transport.name)
    return Identity(
        vendor=clean_text(data[8:16]),
        product=clean_text(data[16:32]),
        revision=clean_text(data[32:36]),
        serial=_serial(transport),
        kind=DeviceKind.of_type(_PERIPHERAL_TYPE.get(data)),
    )


def _serial(transport: Transport) -> str:
    """Read VPD page 80h; a device without it has no serial number, which is not an error here."""
    cdb = INQUIRY.cdb(evpd=1, page_code=_PAGE_SERIAL, allocation_length=_VPD_LENGTH)
    done = transport.execute(cdb, data_in_length=_VPD_LENGTH)
    error = error_for(done, transport.name, name_of(cdb))
    if isinstance(error, IllegalRequestError):
        return ""
    if error is not None:
        raise error
    return serial_of_page_80(done.data)
