"""The elements of a library and the report about them, READ ELEMENT STATUS (SMC-3, 6.14).

    report header   8 bytes   first address, count, bytes that follow
      page header   8 bytes   element type, which volume tags follow, descriptor length, bytes
        descriptor            12 bytes, then a primary tag (36), an alternate tag (36), a device identifier

The tables below serve the parser here and the library model, which builds such reports.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from tape.fields import Field, decode_fields
from tape.identity import clean_text
from tape.sense_codes import ASC_TEXTS

__all__ = [
    "DESCRIPTOR",
    "DESCRIPTOR_LENGTH",
    "HEADER_LENGTH",
    "PAGE_HEADER",
    "REPORT_HEADER",
    "VOLUME_TAG_LENGTH",
    "Element",
    "ElementKind",
    "parse_report",
    "report_length",
]

HEADER_LENGTH = 8  # of report and of page
DESCRIPTOR_LENGTH = 12
VOLUME_TAG_LENGTH = 36  # 32 bytes of identifier, 2 reserved, 2 of sequence number (SMC-3, 6.14.5)
_VOLUME_IDENTIFIER_LENGTH = 32

REPORT_HEADER = {"first": Field(0xFFFF, 0), "count": Field(0xFFFF, 2), "bytes": Field(0xFFFFFF, 5)}
PAGE_HEADER = {
    "element_type": Field(0xFF, 0),
    "primary_tag": Field(0x80, 1),
    "alternate_tag": Field(0x40, 1),
    "descriptor_length": Field(0xFFFF, 2),
    "bytes": Field(0xFFFFFF, 5),
}
DESCRIPTOR = {
    "address": Field(0xFFFF, 0),
    "import_enabled": Field(0x20, 2),
    "export_enabled": Field(0x10, 2),
    "access": Field(0x08, 2),
    "exception": Field(0x04, 2),
    "by_operator": Field(0x02, 2),
    "full": Field(0x01, 2),
    "asc": Field(0xFF, 4),
    "ascq": Field(0xFF, 5),
    "source_valid": Field(0x80, 9),
    "source": Field(0xFFFF, 10),
}
_IDENTIFIER_TYPE = Field(0x0F, 1)
_IDENTIFIER_LENGTH = Field(0xFF, 3)
_IDENTIFIER_HEADER = 4
_TYPE_VENDOR = 0
_TYPE_T10 = 1
_T10_SERIAL_OFFSET = 24  # vendor (8) and product (16) come first


class ElementKind(StrEnum):
    """The four kinds of element, SMC-3, table 17."""

    ARM = "arm"
    SLOT = "slot"
    PORT = "port"
    DRIVE = "drive"

    @property
    def code(self) -> int:
        """The number used in CDBs and reports."""
        return _CODES[self]


_CODES = {ElementKind.ARM: 1, ElementKind.SLOT: 2, ElementKind.PORT: 3, ElementKind.DRIVE: 4}
_KINDS = {code: kind for kind, code in _CODES.items()}


@dataclass(frozen=True, slots=True)
class Element:
    """One place where a cartridge can be.

    Attributes:
        kind: arm, slot, port (import and export) or drive.
        address: what MOVE MEDIUM takes.
        full: a cartridge is there.
        barcode: its label; None if there is none or it could not be read.
        source: address of the slot it came from, where the library remembers that.
        serial: of a drive element, its drive's serial number, where the library tells (DVCID).
        accessible: the arm can reach it.  tgt never says so (fault 10): not to be relied on alone.
        problem: what the library reports as wrong with it, else None.

    """

    kind: ElementKind
    address: int
    full: bool
    barcode: str | None = None
    source: int | None = None
    serial: str | None = None
    accessible: bool = True
    problem: str | None = None


def report_length(data: bytes) -> int:
    """Return how many bytes the whole report has, of which `data` may be only the beginning."""
    return HEADER_LENGTH + REPORT_HEADER["bytes"].get(data)


def parse_report(data: bytes) -> list[Element]:
    """Return the elements of a report, as far as their descriptors arrived whole.

    Being cut short is normal (allocation length), and tgt's reports lack their last bytes (fault 9):
    there an identifier may be missing, which the element then simply does not have.
    """
    elements: list[Element] = []
    place = HEADER_LENGTH
    end = min(len(data), report_length(data))
    while place + HEADER_LENGTH <= end:
        page = decode_fields(PAGE_HEADER, data[place : place + HEADER_LENGTH])
        place += HEADER_LENGTH
        page_end = min(place + page["bytes"], end)
        kind = _KINDS.get(page["element_type"])
        if kind is not None:
            elements.extend(_parse_page(kind, page, data[place:page_end]))
        place += page["bytes"]
    return elements


def _parse_page(kind: ElementKind, page: dict[str, int], data: bytes) -> Iterator[Element]:
    """Read one page's descriptors."""
    length = page["descriptor_length"]
    if length < DESCRIPTOR_LENGTH:
        return
    for place in range(0, len(data), length):
        raw = data[place : place + length]
        if len(raw) >= DESCRIPTOR_LENGTH:
            yield _parse_descriptor(kind, page, raw)


def _parse_descriptor(kind: ElementKind, page: dict[str, int], raw: bytes) -> Element:
    """Read one descriptor with its tags and identifier."""
    values = decode_fields(DESCRIPTOR, raw)
    rest = raw[DESCRIPTOR_LENGTH:]
    barcode = ""
    if page["primary_tag"]:
        barcode = clean_text(rest[:_VOLUME_IDENTIFIER_LENGTH])
        rest = rest[VOLUME_TAG_LENGTH:]
    if page["alternate_tag"]:
        rest = rest[VOLUME_TAG_LENGTH:]
    full = bool(values["full"])
    return Element(
        kind=kind,
        address=values["address"],
        full=full,
        barcode=barcode or None if full else None,
        source=values["source"] if full and values["source_valid"] else None,
        serial=_drive_serial(rest) if kind is ElementKind.DRIVE else None,
        accessible=bool(values["access"]),
        problem=_problem(values),
    )


def _problem(values: dict[str, int]) -> str | None:
    """Put an element's exception into words."""
    if not values["exception"]:
        return None
    code = (values["asc"], values["ascq"])
    text = ASC_TEXTS.get(code, "element in an abnormal state")
    return f"{text} ({code[0]:02x}/{code[1]:02x})"


def _drive_serial(identifier: bytes) -> str | None:
    """Return the serial number in a device identifier (SPC-4, 7.8.6), None if it holds none.

    Type 1 is "vendor(8) product(16) serial"; vendor-specific ones are, in practice, the bare serial.
    """
    if len(identifier) < _IDENTIFIER_HEADER:
        return None
    length = _IDENTIFIER_LENGTH.get(identifier)
    body = identifier[_IDENTIFIER_HEADER : _IDENTIFIER_HEADER + length]
    kind = _IDENTIFIER_TYPE.get(identifier)
    if kind == _TYPE_T10:
        return clean_text(body[_T10_SERIAL_OFFSET:]) or None
    return clean_text(body) or None if kind == _TYPE_VENDOR else None
