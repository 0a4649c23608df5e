"""MODE SENSE and MODE SELECT, in both lengths, over a table of pages (SPC-4, 6.11 to 6.14 and 7.5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tape.commands import MODE_SELECT_6, MODE_SENSE_6
from tape.model.commands import MODE_SELECT_10, MODE_SENSE_10
from tape.model.outcome import (
    INVALID_FIELD_IN_CDB,
    INVALID_FIELD_IN_LIST,
    MODE_CHANGED,
    PARAMETER_LIST_LENGTH,
    illegal,
)
from tape.model.unit import LogicalUnit
from tape.transport import DataOut

__all__ = ["ModePage", "Modes"]

SAVING_NOT_SUPPORTED = (0x39, 0x00)
_ALL_PAGES, _ALL_SUBPAGES = 0x3F, 0xFF
_CURRENT, _CHANGEABLE, _DEFAULT, _SAVED = range(4)
_SUBPAGE_FORMAT = 0x40
_DESCRIPTOR_LENGTH = 8


@dataclass(slots=True)
class ModePage:
    """One page; all bytes are those behind the page's length.

    Attributes:
        code, subcode: which; subcode 0 is the plain format.
        default: its bytes at power on.
        changeable: a mask of the bits that MODE SELECT may change.
        current: its bytes now.
        fresh: makes the current bytes anew each time, for a page that reports.

    """

    code: int
    default: bytes
    subcode: int = 0
    changeable: bytes = b""
    current: bytes = b""
    fresh: Callable[[], bytes] | None = field(default=None)

    def __post_init__(self) -> None:
        self.current = self.default
        self.changeable = self.changeable.ljust(len(self.default), b"\0")

    def encode(self, control: int) -> bytes:
        """Return the page with the values that PAGE CONTROL asks for."""
        now = self.fresh() if self.fresh is not None else self.current
        body = {_CURRENT: now, _CHANGEABLE: self.changeable, _DEFAULT: self.default}[control]
        if self.subcode:
            head = bytes([self.code | _SUBPAGE_FORMAT, self.subcode]) + len(body).to_bytes(2, "big")
        else:
            head = bytes([self.code, len(body)])
        return head + body

    def select(self, body: bytes) -> None:
        """Take new values; a bit that cannot be changed must stay (SPC-4, 6.11)."""
        if len(body) != len(self.current):
            raise illegal(PARAMETER_LIST_LENGTH)
        for new, old, mask in zip(body, self.current, self.changeable, strict=True):
            if (new ^ old) & ~mask & 0xFF:
                raise illegal(INVALID_FIELD_IN_LIST)
        self.current = body


class Modes:
    """Answers the four mode commands for a unit.

    Args:
        unit: whose they are.
        pages: the pages, in any order.
        header: gives the device-specific byte and the block descriptor of 8 bytes, or none.
        select_header: takes the device-specific byte and a descriptor (empty if there is none), or raises.

    """

    def __init__(
        self,
        unit: LogicalUnit,
        pages: list[ModePage],
        header: Callable[[], tuple[int, bytes]] = lambda: (0, b""),
        select_header: Callable[[int, bytes], None] = lambda _byte, _descriptor: None,
    ) -> None:
        self._unit = unit
        self._pages = {(page.code, page.subcode): page for page in pages}
        self._header = header
        self._select_header = select_header
        unit.register(MODE_SENSE_6, self._sense_6)
        unit.register(MODE_SENSE_10, self._sense_10)
        unit.register(MODE_SELECT_6, self._select_6)
        unit.register(MODE_SELECT_10, self._select_10)

    def page(self, code: int, subcode: int = 0) -> bytes:
        """Return the current values of a page."""
        return self._pages[code, subcode].current

    # -- MODE SENSE ----------------------------------------------------------------------------------
    def _sense_6(self, fields: dict[str, int], _data: DataOut) -> bytes:
        specific, descriptor, pages = self._sense(fields)
        rest = bytes([0, specific, len(descriptor)]) + descriptor + pages
        # A list longer than its length can say is one for MODE SENSE(10).
        return (bytes([min(len(rest), 0xFF)]) + rest)[: fields["allocation_length"]]

    def _sense_10(self, fields: dict[str, int], _data: DataOut) -> bytes:
        specific, descriptor, pages = self._sense(fields)
        rest = bytes([0, specific, 0, 0]) + len(descriptor).to_bytes(2, "big") + descriptor + pages
        return (len(rest).to_bytes(2, "big") + rest)[: fields["allocation_length"]]

    def _sense(self, fields: dict[str, int]) -> tuple[int, bytes, bytes]:
        if fields["pc"] == _SAVED:
            raise illegal(SAVING_NOT_SUPPORTED)
        pages = b"".join(page.encode(fields["pc"]) for page in self._asked(fields))
        specific, descriptor = self._header()
        return specific, b"" if fields["dbd"] else descriptor, pages

    def _asked(self, fields: dict[str, int]) -> list[ModePage]:
        """Return the pages asked for.  Page 0 is none: header and descriptor only, as st wants them."""
        code, subcode = fields["page_code"], fields["subpage_code"]
        if subcode not in (0, _ALL_SUBPAGES) and (code, subcode) not in self._pages:
            raise illegal(INVALID_FIELD_IN_CDB)
        found = [
            page
            for (page_code, page_subcode), page in sorted(self._pages.items())
            if code in (page_code, _ALL_PAGES) and subcode in (page_subcode, _ALL_SUBPAGES)
        ]
        if not found and code not in (0, _ALL_PAGES):
            raise illegal(INVALID_FIELD_IN_CDB)
        return found

    # -- MODE SELECT ---------------------------------------------------------------------------------
    def _select_6(self, fields: dict[str, int], data: DataOut) -> bytes:
        return self._select(fields, bytes(data), header=4)

    def _select_10(self, fields: dict[str, int], data: DataOut) -> bytes:
        return self._select(fields, bytes(data), header=8)

    def _select(self, fields: dict[str, int], data: bytes, header: int) -> bytes:
        length = fields["parameter_list_length"]
        if fields["sp"]:
            raise illegal(INVALID_FIELD_IN_CDB)
        if length == 0:
            return b""
        if length < header or length > len(data):
            raise illegal(PARAMETER_LIST_LENGTH)
        data = data[:length]
        specific, count = (data[2], data[3]) if header == 4 else (data[3], int.from_bytes(data[6:8], "big"))
        if count not in (0, _DESCRIPTOR_LENGTH):
            raise illegal(INVALID_FIELD_IN_LIST)
        if length < header + count:
            raise illegal(PARAMETER_LIST_LENGTH)
        chosen = self._chosen(data[header + count :])
        before = {key: page.current for key, page in self._pages.items()}
        try:
            for page, body in chosen:
                page.select(body)
            self._select_header(specific, data[header : header + count])
        except Exception:
            # All or nothing (SPC-4, 6.11).
            for key, page in self._pages.items():
                page.current = before[key]
            raise
        self._unit.attention(MODE_CHANGED, but=self._unit.nexus)
        return b""

    def _chosen(self, data: bytes) -> list[tuple[ModePage, bytes]]:
        """Split the list into pages."""
        chosen = []
        while data:
            has_subcode = bool(data[0] & _SUBPAGE_FORMAT)
            head = 4 if has_subcode else 2
            if len(data) < head:
                raise illegal(PARAMETER_LIST_LENGTH)
            length = int.from_bytes(data[2:4], "big") if has_subcode else data[1]
            page = self._pages.get((data[0] & 0x3F, data[1] if has_subcode else 0))
            if page is None:
                raise illegal(INVALID_FIELD_IN_LIST)
            if len(data) < head + length:
                raise illegal(PARAMETER_LIST_LENGTH)
            chosen.append((page, data[head : head + length]))
            data = data[head + length :]
        return chosen
