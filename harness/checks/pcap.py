"""Reads packet captures: which TCP connections were made, and what was said in them.

Classic pcap as tcpdump writes it, Ethernet, IPv4, TCP.  Anything else in the file is passed over; a
damaged file is an error, because a check must not pass on half a capture.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.checks.connections import Connection, Endpoint
from harness.errors import InfrastructureError

# Magic numbers by byte order and unit of time; both units are the same to us.
MAGIC = {
    b"\xd4\xc3\xb2\xa1": "<",
    b"\x4d\x3c\xb2\xa1": "<",
    b"\xa1\xb2\xc3\xd4": ">",
    b"\xa1\xb2\x3c\x4d": ">",
}
GLOBAL_HEADER = 24
RECORD_HEADER = 16
LINK_ETHERNET = 1
ETHERNET_HEADER = 14
TYPE_IPV4 = 0x0800
PROTOCOL_TCP = 6
FLAG_FIN, FLAG_SYN, FLAG_ACK = 0x01, 0x02, 0x10
SEQUENCE_MASK = 0xFFFFFFFF
# Half of the sequence space: what lies further "ahead" is behind.
SEQUENCE_HALF = 1 << 31


@dataclass(frozen=True)
class Segment:
    """One TCP segment."""

    source: Endpoint
    target: Endpoint
    sequence: int
    flags: int
    payload: bytes


def segments(path: Path) -> Iterator[Segment]:
    """Yield the TCP segments of a capture in order."""
    with path.open("rb") as file:
        header = file.read(GLOBAL_HEADER)
        order = MAGIC.get(header[:4])
        if order is None or len(header) < GLOBAL_HEADER:
            raise InfrastructureError(f"{path} is no packet capture")
        (link,) = struct.unpack(order + "I", header[20:24])
        if link != LINK_ETHERNET:
            raise InfrastructureError(f"{path}: link type {link}, only Ethernet is understood")
        while record := file.read(RECORD_HEADER):
            if len(record) < RECORD_HEADER:
                raise InfrastructureError(f"{path} ends within a packet")
            captured, real = struct.unpack(order + "II", record[8:])
            packet = file.read(captured)
            if len(packet) < captured:
                raise InfrastructureError(f"{path} ends within a packet")
            segment = _segment(packet)
            if segment is not None:
                if captured < real and segment.payload:
                    raise InfrastructureError(f"{path}: a packet is cut off: {captured} of {real} bytes")
                yield segment


def connections(path: Path) -> set[Connection]:
    """Return the connections that were made: those whose SYN was answered."""
    return {
        Connection.between(item.source, item.target)
        for item in segments(path)
        if item.flags & FLAG_SYN and item.flags & FLAG_ACK
    }


def streams(path: Path) -> dict[tuple[Endpoint, Endpoint], bytes]:
    """Return for each (source, target) the bytes said in that direction, reassembled."""
    pieces: dict[tuple[Endpoint, Endpoint], list[tuple[int, bytes]]] = {}
    first: dict[tuple[Endpoint, Endpoint], int] = {}
    for item in segments(path):
        key = (item.source, item.target)
        if item.flags & FLAG_SYN:
            first[key] = (item.sequence + 1) & SEQUENCE_MASK
        if item.payload:
            base = first.setdefault(key, item.sequence)
            pieces.setdefault(key, []).append(((item.sequence - base) & SEQUENCE_MASK, item.payload))
    return {key: _join(found) for key, found in pieces.items()}


def _segment(packet: bytes) -> Segment | None:
    """Take one Ethernet frame apart; None if it is no TCP over IPv4."""
    if len(packet) < ETHERNET_HEADER + 20 or int.from_bytes(packet[12:14], "big") != TYPE_IPV4:
        return None
    ip = packet[ETHERNET_HEADER:]
    header, total = (ip[0] & 0x0F) * 4, int.from_bytes(ip[2:4], "big")
    if ip[9] != PROTOCOL_TCP or len(ip) < header + 20:
        return None
    # A length of 0 stands in packets that the network card was to cut up.
    tcp = ip[header : total or None]
    source_port, target_port, sequence = struct.unpack(">HHI", tcp[:8])
    source, target = _address(ip[12:16]), _address(ip[16:20])
    payload = tcp[(tcp[12] >> 4) * 4 :]
    return Segment((source, source_port), (target, target_port), sequence, tcp[13], payload)


def _address(octets: bytes) -> str:
    """Four octets as text."""
    return ".".join(map(str, octets))


def _join(pieces: list[tuple[int, bytes]]) -> bytes:
    """Put segments in order; what was sent again is taken once, what is missing is left as it is.

    A segment before the first byte (a keep-alive probe) says nothing.
    """
    joined = bytearray()
    end = 0
    for offset, data in sorted(piece for piece in pieces if piece[0] < SEQUENCE_HALF):
        fresh = data[max(0, end - offset) :]
        joined += fresh
        end = max(end, offset + len(data))
    return bytes(joined)
