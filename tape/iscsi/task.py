"""One SCSI command on its way: its data as it arrives, and the PDUs that end it (RFC 7143, 11.3 to 11.8)."""

from __future__ import annotations

from dataclasses import dataclass, field

from tape.iscsi.errors import IscsiProtocolError
from tape.iscsi.pdu import NO_TAG, Pdu

__all__ = ["TRANSFER_BYTES_MAX", "Burst", "Task"]

TRANSFER_BYTES_MAX = 16 << 20
"""Expected data transfer length: no record of a 24-bit length is longer (READ(6), WRITE(6))."""


@dataclass(slots=True)
class Burst:
    """A stretch of data that is being sent to us: asked for by one R2T, or unsolicited (tag NO_TAG)."""

    ttt: int
    offset: int
    end: int
    datasn: int = 0


@dataclass(slots=True)
class Task:
    """One command.

    Attributes:
        itt: the initiator's tag.
        lun: logical unit number.
        cdb: 16 bytes, as they came.
        expected: bytes the initiator means to send or receive.
        is_read: the data comes from the device.
        data: what was received of it.
        received: how many bytes of `data` are valid.
        burst: what is being sent now; None while the target is to act.
        r2t_count: R2Ts sent so far.
        aborted: the initiator gave it up: it gets no answer any more.

    """

    itt: int
    lun: int
    cdb: bytes
    expected: int
    is_read: bool
    data: bytes | bytearray = b""
    received: int = 0
    burst: Burst | None = None
    r2t_count: int = 0
    aborted: bool = False
    attributes: int = field(default=0)

    @property
    def complete(self) -> bool:
        """All data the device needs is here."""
        return self.is_read or self.received >= self.expected

    def begin(self, pdu: Pdu, *, immediate_allowed: bool, unsolicited: int) -> None:
        """Take the data that came with the command itself, and expect what is announced with it.

        Args:
            pdu: the command.
            immediate_allowed: ImmediateData was agreed on.
            unsolicited: bytes that may come without an R2T: FirstBurstLength, or 0 where InitialR2T.

        Raises:
            IscsiProtocolError: data where none was agreed on, or more than that.

        """
        if self.is_read or not self.expected:
            if pdu.data:
                raise IscsiProtocolError("immediate data with a command that sends none")
            return
        if pdu.data and (not immediate_allowed or len(pdu.data) > self.expected):
            raise IscsiProtocolError("immediate data that was not agreed on")
        if len(pdu.data) == self.expected:
            # The usual case: the whole record in one PDU, which is not copied again.
            self.data, self.received = pdu.data, self.expected
            return
        self.data = bytearray(self.expected)
        self.data[: len(pdu.data)] = pdu.data
        self.received = len(pdu.data)
        if not pdu["final"]:
            end = min(unsolicited, self.expected)
            if end <= self.received:
                raise IscsiProtocolError("unsolicited data was announced and not agreed on")
            self.burst = Burst(NO_TAG, self.received, end)

    def solicit(self, ttt: int, most: int) -> Burst:
        """Return the next stretch to ask for."""
        self.burst = Burst(ttt, self.received, min(self.received + most, self.expected))
        self.r2t_count += 1
        return self.burst

    def take(self, pdu: Pdu) -> bool:
        """Take a Data-Out; return True when its burst is over.

        Raises:
            IscsiProtocolError: not the data that was asked for, or out of order (DataPDUInOrder=Yes).

        """
        burst = self.burst
        if burst is None or pdu["ttt"] != burst.ttt:
            raise IscsiProtocolError("data that nobody asked for")
        end = burst.offset + len(pdu.data)
        if pdu["offset"] != burst.offset or pdu["datasn"] != burst.datasn or end > burst.end:
            raise IscsiProtocolError("data out of order, or more than was asked for")
        if not pdu.data and not pdu["final"]:
            raise IscsiProtocolError("a Data-Out without data")
        assert isinstance(self.data, bytearray)
        self.data[burst.offset : end] = pdu.data
        burst.offset, burst.datasn = end, burst.datasn + 1
        self.received = end
        if not pdu["final"]:
            return False
        if burst.ttt != NO_TAG and end < burst.end:
            raise IscsiProtocolError("less data than was asked for")
        self.burst = None
        return True
