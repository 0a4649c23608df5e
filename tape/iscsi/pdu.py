"""Protocol data units of iSCSI, as tables of fields (RFC 7143, section 11).

A unit is a basic header segment of 48 bytes, additional header segments, and a data segment padded to
four bytes.  `Decoder` turns received bytes into units, `Layout.build` makes one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tape.fields import Field, decode_fields, encode_fields
from tape.iscsi.errors import IscsiProtocolError

__all__ = ["BHS_LENGTH", "NO_TAG", "REQUESTS", "RESPONSES", "Decoder", "Layout", "Pdu", "padding"]

BHS_LENGTH = 48
# "Reserved" tag: no task, no transfer (RFC 7143, 11.2.1.8).
NO_TAG = 0xFFFFFFFF

_AHS_LENGTH, _DATA_LENGTH = Field(0xFF, 4), Field(0xFFFFFF, 5)
_OPCODE = Field(0x3F, 0)

_HEAD = {
    "immediate": Field(0x40, 0),
    "final": Field(0x80, 1),
    "lun": Field(0xFFFFFFFFFFFFFFFF, 8),
    "itt": Field(0xFFFFFFFF, 16),
}
_TTT = {"ttt": Field(0xFFFFFFFF, 20)}
# Sequence numbers of requests and of responses (11.2.2.1, 11.4.8).
_SENT = {"cmdsn": Field(0xFFFFFFFF, 24), "expstatsn": Field(0xFFFFFFFF, 28)}
_ANSWERED = {
    "statsn": Field(0xFFFFFFFF, 24),
    "expcmdsn": Field(0xFFFFFFFF, 28),
    "maxcmdsn": Field(0xFFFFFFFF, 32),
}
_STAGES = {
    "transit": Field(0x80, 1),
    "continue": Field(0x40, 1),
    "csg": Field(0x0C, 1),
    "nsg": Field(0x03, 1),
    "isid": Field(0xFFFFFFFFFFFF, 8),
    "tsih": Field(0xFFFF, 14),
}


def padding(length: int) -> int:
    """Return the bytes that fill a segment to a multiple of four."""
    return -length % 4


@dataclass(frozen=True, slots=True)
class Layout:
    """Layout of one kind of unit."""

    name: str
    opcode: int
    fields: Mapping[str, Field]

    def build(self, data: bytes | bytearray | memoryview = b"", **values: int) -> list[bytes | memoryview]:
        """Return the unit as buffers to be sent in order; `data` is not copied."""
        header = encode_fields(BHS_LENGTH, self.fields, values)
        header[0] |= self.opcode
        _DATA_LENGTH.put(header, len(data))
        parts: list[bytes | memoryview] = [bytes(header)]
        if len(data):
            parts.append(memoryview(data))
            if padding(len(data)):
                parts.append(bytes(padding(len(data))))
        return parts


def _layouts(*layouts: Layout) -> dict[int, Layout]:
    return {layout.opcode: layout for layout in layouts}


REQUESTS = _layouts(
    Layout("NOP-Out", 0x00, {**_HEAD, **_TTT, **_SENT}),
    Layout(
        "SCSI Command",
        0x01,
        {
            **_HEAD,
            "read": Field(0x40, 1),
            "write": Field(0x20, 1),
            "attributes": Field(0x07, 1),
            "expected_length": Field(0xFFFFFFFF, 20),
            **_SENT,
        },
    ),
    Layout(
        "Task Management Request",
        0x02,
        {**_HEAD, "function": Field(0x7F, 1), "referenced": Field(0xFFFFFFFF, 20), **_SENT},
    ),
    Layout(
        "Login Request",
        0x03,
        {
            **_HEAD,
            **_STAGES,
            "version_max": Field(0xFF, 2),
            "version_min": Field(0xFF, 3),
            "cid": Field(0xFFFF, 20),
            **_SENT,
        },
    ),
    Layout("Text Request", 0x04, {**_HEAD, "continue": Field(0x40, 1), **_TTT, **_SENT}),
    Layout(
        "Data-Out",
        0x05,
        {
            **_HEAD,
            **_TTT,
            "expstatsn": Field(0xFFFFFFFF, 28),
            "datasn": Field(0xFFFFFFFF, 36),
            "offset": Field(0xFFFFFFFF, 40),
        },
    ),
    Layout("Logout Request", 0x06, {**_HEAD, "reason": Field(0x7F, 1), "cid": Field(0xFFFF, 20), **_SENT}),
    Layout("SNACK Request", 0x10, {**_HEAD, **_TTT, **_SENT}),
)

RESPONSES = _layouts(
    Layout("NOP-In", 0x20, {**_HEAD, **_TTT, **_ANSWERED}),
    Layout(
        "SCSI Response",
        0x21,
        {
            **_HEAD,
            "overflow": Field(0x04, 1),
            "underflow": Field(0x02, 1),
            "response": Field(0xFF, 2),
            "status": Field(0xFF, 3),
            **_ANSWERED,
            "expdatasn": Field(0xFFFFFFFF, 36),
            "residual": Field(0xFFFFFFFF, 44),
        },
    ),
    Layout("Task Management Response", 0x22, {**_HEAD, "response": Field(0xFF, 2), **_ANSWERED}),
    Layout(
        "Login Response",
        0x23,
        {
            **_HEAD,
            **_STAGES,
            "version_max": Field(0xFF, 2),
            "version_active": Field(0xFF, 3),
            **_ANSWERED,
            "status": Field(0xFFFF, 36),
        },
    ),
    Layout("Text Response", 0x24, {**_HEAD, "continue": Field(0x40, 1), **_TTT, **_ANSWERED}),
    Layout(
        "Data-In",
        0x25,
        {
            **_HEAD,
            "overflow": Field(0x04, 1),
            "underflow": Field(0x02, 1),
            "has_status": Field(0x01, 1),
            "status": Field(0xFF, 3),
            **_TTT,
            **_ANSWERED,
            "datasn": Field(0xFFFFFFFF, 36),
            "offset": Field(0xFFFFFFFF, 40),
            "residual": Field(0xFFFFFFFF, 44),
        },
    ),
    Layout(
        "Logout Response",
        0x26,
        {
            **_HEAD,
            "response": Field(0xFF, 2),
            **_ANSWERED,
            "wait": Field(0xFFFF, 40),
            "retain": Field(0xFFFF, 42),
        },
    ),
    Layout(
        "R2T",
        0x31,
        {
            **_HEAD,
            **_TTT,
            **_ANSWERED,
            "r2tsn": Field(0xFFFFFFFF, 36),
            "offset": Field(0xFFFFFFFF, 40),
            "desired": Field(0xFFFFFFFF, 44),
        },
    ),
    Layout("Reject", 0x3F, {**_HEAD, "reason": Field(0xFF, 2), **_ANSWERED}),
)


@dataclass(frozen=True, slots=True)
class Pdu:
    """One unit that was received.

    Attributes:
        layout: which kind.
        values: its fields.
        header: the basic header segment itself; a SCSI command's CDB is in it, a Reject returns it.
        data: the data segment without padding.

    """

    layout: Layout
    values: Mapping[str, int]
    header: bytes
    data: bytes

    def __getitem__(self, name: str) -> int:
        return self.values[name]


class Decoder:
    """Collects received bytes into units.

    Args:
        limit: bytes of the longest data segment that is accepted; may be changed between units.
        layouts: what may come; a test's initiator passes RESPONSES.

    """

    def __init__(self, limit: int, layouts: Mapping[int, Layout] = REQUESTS) -> None:
        self.limit = limit
        self._layouts = layouts
        self._buffer = bytearray()

    def feed(self, data: bytes | memoryview) -> Iterator[Pdu]:
        """Yield the units that `data` completes, in order.

        Raises:
            IscsiProtocolError: a segment longer than the limit, or an opcode that nobody defined.

        """
        self._buffer += data
        while (unit := self._next()) is not None:
            yield unit

    def _next(self) -> Pdu | None:
        buffer = self._buffer
        if len(buffer) < BHS_LENGTH:
            return None
        length = _DATA_LENGTH.get(buffer)
        if length > self.limit:
            raise IscsiProtocolError(f"a data segment of {length} bytes; {self.limit} were agreed on")
        layout = self._layouts.get(_OPCODE.get(buffer))
        if layout is None:
            raise IscsiProtocolError(f"a PDU with opcode {_OPCODE.get(buffer):02x}, which no initiator sends")
        start = BHS_LENGTH + 4 * _AHS_LENGTH.get(buffer)
        end = start + length + padding(length)
        if len(buffer) < end:
            return None
        header = bytes(buffer[:BHS_LENGTH])
        with memoryview(buffer) as view:
            segment = bytes(view[start : start + length])
        del buffer[:end]
        return Pdu(layout, decode_fields(layout.fields, header), header, segment)
