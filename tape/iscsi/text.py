"""Text of login and text requests: key=value pairs, each ended by a NUL (RFC 7143, 6.1)."""

from __future__ import annotations

from collections.abc import Iterable

from tape.iscsi.errors import IscsiProtocolError

__all__ = ["TEXT_BYTES_MAX", "decode_text", "encode_text"]

TEXT_BYTES_MAX = 64 << 10
"""Bytes of one request's text over all its PDUs: RFC 7143, 6.1, asks for 8 KiB at least."""

_KEY_BYTES_MAX, _VALUE_BYTES_MAX = 63, 8192
"""RFC 7143, 6.1: a key name's limit, and a limit on values that holds every list of a login."""


def decode_text(data: bytes) -> list[tuple[str, str]]:
    """Return the pairs in order.

    Raises:
        IscsiProtocolError: a pair without "=", a key twice, bytes that are no UTF-8, or too long.

    """
    pairs: list[tuple[str, str]] = []
    for raw in data.split(b"\0"):
        if not raw:
            continue
        key, equals, value = raw.partition(b"=")
        if not equals or not 0 < len(key) <= _KEY_BYTES_MAX or len(value) > _VALUE_BYTES_MAX:
            raise IscsiProtocolError(f"malformed text {raw[:80]!r}")
        try:
            pairs.append((key.decode("ascii"), value.decode("utf-8")))
        except UnicodeDecodeError:
            raise IscsiProtocolError(f"malformed text {raw[:80]!r}") from None
    if len({key for key, _ in pairs}) < len(pairs):
        raise IscsiProtocolError("a key was sent twice in one request")
    return pairs


def encode_text(pairs: Iterable[tuple[str, str]]) -> bytes:
    """Return the text of these pairs."""
    return b"".join(f"{key}={value}".encode() + b"\0" for key, value in pairs)
