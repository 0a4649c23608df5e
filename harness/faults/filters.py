"""Packet filters as classic BPF programs: which arriving segments of a socket are lost.

The kernel runs such a program on every TCP segment before the socket sees it (socket(7), SO_ATTACH_FILTER);
what it returns is how much of the segment is kept.  A lost segment is a lost packet: it is not
acknowledged, and sent again.  Only IPv4 is known here; labs have nothing else.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Sequence
from dataclasses import dataclass

# linux/filter.h.  SKF_NET_OFF and SKF_AD_OFF are negative offsets, seen as 32 bits without a sign.
_NETWORK = 0x1_0000_0000 - 0x10_0000
_RANDOM = 0x1_0000_0000 - 0x1000 + 56
_LOAD_WORD, _LOAD_HALF, _JUMP_EQUAL, _JUMP_GREATER, _RETURN = 0x20, 0x28, 0x15, 0x25, 0x06
_SOURCE_ADDRESS = _NETWORK + 12  # of the IPv4 header
_SOURCE_PORT = 0  # of the TCP header, at which the program's data begins
_KEEP, _DROP = 0xFFFF_FFFF, 0
_CERTAIN = 1.0

Instruction = tuple[int, int, int, int]


@dataclass(frozen=True)
class Rule:
    """Which segments are meant.

    Attributes:
        source: address they come from; None for any.
        port: port they come from; None for any.
        others: those are meant that do not come from `source`.

    """

    source: str | None = None
    port: int | None = None
    others: bool = False


EVERYTHING = Rule()


def program(rules: Sequence[Rule], loss: float = _CERTAIN) -> list[Instruction]:
    """Return a filter that loses segments of any of these rules, with this probability from 0 to 1."""
    code: list[Instruction] = []
    for rule in rules:
        code += _match(rule)
    code.append((_RETURN, 0, 0, _KEEP))
    code = _resolved(code, len(code))
    if loss < _CERTAIN:
        code += [
            (_LOAD_WORD, 0, 0, _RANDOM),
            (_JUMP_GREATER, 0, 1, int(loss * 0xFFFF_FFFF)),
            (_RETURN, 0, 0, _KEEP),
        ]
    return [*code, (_RETURN, 0, 0, _DROP)]


def packed(code: Sequence[Instruction]) -> bytes:
    """Return a program as an array of `struct sock_filter`."""
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


# Stands in a jump for "lose it"; `_resolved` puts the distance in its place.
_LOSE = 0xFF


def _match(rule: Rule) -> list[Instruction]:
    """Go to the loss where a segment is meant; fall through where it is not."""
    if rule.source is None:
        # X is never read: both branches of a comparison are the loss.
        return [(_JUMP_EQUAL, _LOSE, _LOSE, 0)]
    address = int(ipaddress.IPv4Address(rule.source))
    load = (_LOAD_WORD, 0, 0, _SOURCE_ADDRESS)
    if rule.others:
        return [load, (_JUMP_EQUAL, 0, _LOSE, address)]
    if rule.port is None:
        return [load, (_JUMP_EQUAL, _LOSE, 0, address)]
    port = [(_LOAD_HALF, 0, 0, _SOURCE_PORT), (_JUMP_EQUAL, _LOSE, 0, rule.port)]
    return [load, (_JUMP_EQUAL, 0, len(port), address), *port]


def _resolved(code: list[Instruction], target: int) -> list[Instruction]:
    """Put distances in the place of `_LOSE`."""
    return [
        (op, *(target - at - 1 if step == _LOSE else step for step in (true, false)), value)  # type: ignore[misc]
        for at, (op, true, false, value) in enumerate(code)
    ]
