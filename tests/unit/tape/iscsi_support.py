"""An initiator made by hand: PDUs as bytes, for what no well-behaved initiator sends."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from tape.iscsi.pdu import RESPONSES, Decoder, Pdu
from tape.iscsi.session import Event, Session

TARGET = "iqn.2026-11.test:library"
PORTAL = "127.0.0.1:3260"
NAMES = {"InitiatorName": "iqn.2026-11.test:hand", "TargetName": TARGET, "SessionType": "Normal"}
OPERATIONAL = {
    "HeaderDigest": "None",
    "DataDigest": "None",
    "InitialR2T": "No",
    "ImmediateData": "Yes",
    "MaxRecvDataSegmentLength": "4096",
    "MaxBurstLength": "8192",
    "FirstBurstLength": "4096",
    "MaxOutstandingR2T": "4",
}


def request(
    opcode: int,
    flags: int = 0,
    *,
    data: bytes = b"",
    tag: int = 1,
    lun: int = 0,
    word5: int = 0,
    cmdsn: int = 0,
    tail: bytes = b"",
    immediate: bool = False,
    bytes23: int = 0,
) -> bytes:
    """One PDU, written down as RFC 7143, 11.2, draws it; `word5` is bytes 20 to 23, `tail` bytes 32 on."""
    header = bytes([opcode | (0x40 if immediate else 0), flags]) + bytes23.to_bytes(2, "big")
    header += bytes([0]) + len(data).to_bytes(3, "big") + bytes([0, lun]) + bytes(6)
    header += tag.to_bytes(4, "big") + word5.to_bytes(4, "big") + cmdsn.to_bytes(4, "big") + bytes(4)
    return header + tail.ljust(16, b"\0") + data + bytes(-len(data) % 4)


def text(pairs: dict[str, str]) -> bytes:
    """Text of these keys."""
    return b"".join(f"{key}={value}\0".encode() for key, value in pairs.items())


def login(pairs: dict[str, str], stage: int = 1, following: int | None = 3, cmdsn: int = 7) -> bytes:
    """A login request; `following` None keeps the stage."""
    flags = stage << 2 | (0x80 | following if following is not None else 0)
    isid = bytes([0x40, 0, 0, 0x2A, 0, 0]) + bytes(2)
    raw = bytearray(request(0x03, flags, data=text(pairs), tag=0xAA, cmdsn=cmdsn, immediate=True))
    raw[8:16] = isid
    return bytes(raw)


def command(
    cdb: bytes,
    *,
    tag: int,
    cmdsn: int,
    lun: int = 1,
    read: int = 0,
    write: int = 0,
    data: bytes = b"",
    final: bool = True,
) -> bytes:
    """A SCSI Command PDU that expects to read or write so many bytes."""
    flags = (0x80 if final else 0) | (0x40 if read else 0) | (0x20 if write else 0)
    return request(
        0x01, flags, data=data, tag=tag, lun=lun, word5=read or write, cmdsn=cmdsn, tail=cdb.ljust(16, b"\0")
    )


def data_out(data: bytes, *, tag: int, transfer: int, number: int, offset: int, final: bool) -> bytes:
    """A Data-Out PDU."""
    tail = bytes(4) + number.to_bytes(4, "big") + offset.to_bytes(4, "big") + bytes(4)
    return request(0x05, 0x80 if final else 0, data=data, tag=tag, lun=1, word5=transfer, tail=tail)


def answers(session: Session) -> list[Pdu]:
    """What the session wants to send, decoded."""
    return list(Decoder(1 << 24, RESPONSES).feed(b"".join(bytes(part) for part in session.output())))


def feed(session: Session, *units: bytes) -> list[Event]:
    """Let the session receive."""
    return [event for unit in units for event in session.receive(unit)]


def new_session(luns: Iterable[int] = (1, 2, 3)) -> Session:
    """A connection that has just been made."""
    return Session(TARGET, 5, PORTAL, frozenset(luns))


def logged_in(**changes: str) -> Session:
    """A session in the full feature phase, whose next command is number 7."""
    session = new_session()
    feed(session, login(NAMES | OPERATIONAL | changes))
    assert session.logged_in
    answers(session)
    return session


def connect(address: tuple[str, int]) -> socket.socket:
    """A connection that gives up after some seconds instead of hanging."""
    return socket.create_connection(address, timeout=20)


def receive_pdu(peer: socket.socket, decoder: Decoder) -> Pdu | None:
    """The next PDU; None when the target closed the connection."""
    for pdu in decoder.feed(b""):
        return pdu
    while True:
        try:
            data = peer.recv(65536)
        except ConnectionResetError:
            return None
        if not data:
            return None
        for pdu in decoder.feed(data):
            return pdu
