"""LOG SENSE and LOG SELECT over a table of pages (SPC-4, 6.7, 6.8 and 7.3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tape.commands import LOG_SENSE
from tape.model.commands import LOG_SELECT
from tape.model.outcome import INVALID_FIELD_IN_CDB, illegal
from tape.model.unit import LogicalUnit
from tape.transport import DataOut

__all__ = ["TAPE_ALERT_FLAGS", "LogPage", "Logs", "tape_alert_page"]

TAPE_ALERT_FLAGS = 64
_THRESHOLD, _CUMULATIVE, _DEFAULT_THRESHOLD, _DEFAULT_CUMULATIVE = range(4)
# Control byte of a parameter: a bounded data counter, or a binary or an ASCII list (7.3.2.2.2).
_COUNTER, _BINARY, _ASCII = 0x00, 0x03, 0x01
_COUNTER_BYTES = 8


@dataclass(frozen=True, slots=True)
class LogPage:
    """One page.

    Attributes:
        code: which.
        parameters: gives code and value of each parameter now: a number (8 bytes), text, or bytes.
        after: done once the page was read.
        reset: done by LOG SELECT with PCR.

    """

    code: int
    parameters: Callable[[], Mapping[int, int | str | bytes]]
    after: Callable[[], None] = lambda: None
    reset: Callable[[], None] = lambda: None

    def encode(self, first: int) -> bytes:
        """Return the page from parameter `first` on (PARAMETER POINTER)."""
        body = b""
        for code, value in sorted(self.parameters().items()):
            if code < first:
                continue
            control = _COUNTER if isinstance(value, int) else _ASCII if isinstance(value, str) else _BINARY
            if isinstance(value, int):
                raw = value.to_bytes(_COUNTER_BYTES, "big")
            else:
                raw = value.encode("ascii") if isinstance(value, str) else value
            body += code.to_bytes(2, "big") + bytes([control, len(raw)]) + raw
        return bytes([self.code, 0]) + len(body).to_bytes(2, "big") + body


def tape_alert_page(flags: set[int]) -> LogPage:
    """Return page 2Eh: a byte for each flag; reading it takes the flags down (SSC-4, 8.2.3)."""
    return LogPage(
        0x2E,
        lambda: {number: bytes([number in flags]) for number in range(1, TAPE_ALERT_FLAGS + 1)},
        after=flags.clear,
        reset=flags.clear,
    )


class Logs:
    """Answers LOG SENSE and LOG SELECT for a unit."""

    def __init__(self, unit: LogicalUnit, pages: list[LogPage]) -> None:
        self._pages = {page.code: page for page in pages}
        unit.register(LOG_SENSE, self._sense)
        unit.register(LOG_SELECT, self._select)

    def _sense(self, fields: dict[str, int], _data: DataOut) -> bytes:
        code = fields["page_code"]
        if fields["sp"] or fields["subpage_code"] or fields["pc"] not in (_THRESHOLD, _CUMULATIVE):
            raise illegal(INVALID_FIELD_IN_CDB)
        if code == 0:
            codes = bytes([0, *sorted(self._pages)])
            return (bytes(2) + len(codes).to_bytes(2, "big") + codes)[: fields["allocation_length"]]
        page = self._pages.get(code)
        first = fields["parameter_pointer"]
        if page is None or first > max(page.parameters()):
            raise illegal(INVALID_FIELD_IN_CDB)
        data = page.encode(first)
        page.after()
        return data[: fields["allocation_length"]]

    def _select(self, fields: dict[str, int], _data: DataOut) -> bytes:
        """LOG SELECT: PCR resets counters, of one page or of all; nothing can be set (SPC-4, 6.7)."""
        if fields["sp"] or fields["subpage_code"] or fields["parameter_list_length"]:
            raise illegal(INVALID_FIELD_IN_CDB)
        code = fields["page_code"]
        if code and code not in self._pages:
            raise illegal(INVALID_FIELD_IN_CDB)
        if fields["pcr"]:
            for page in self._pages.values():
                if code in (0, page.code):
                    page.reset()
        return b""
