"""What goes to the feeds, put together: one call of the kernel for many small members."""

from __future__ import annotations

from collections.abc import Callable, Collection

__all__ = ["PIECE_BYTES", "Gather"]

PIECE_BYTES = 256 * 1024
"""What waits for one feed is sent when it is so much.  A larger piece is sent as it is, without a copy."""


class Gather:
    """Bytes on their way to feeds, by their numbers.  `send` takes all of a piece before it returns.

    Whoever gathers flushes before it waits for anything else, so that no feed waits for what is here.
    """

    def __init__(self, send: Callable[[int, bytes | memoryview], None]) -> None:
        self._send = send
        self._waiting: dict[int, bytearray] = {}

    def add(self, numbers: Collection[int], data: bytes | memoryview) -> None:
        """Send `data` to each of the feeds, soon."""
        for number in numbers:
            if len(data) >= PIECE_BYTES:
                self._flush(number)
                self._send(number, data)
                continue
            waiting = self._waiting.setdefault(number, bytearray())
            waiting += data
            if len(waiting) >= PIECE_BYTES:
                self._flush(number)

    def flush(self) -> None:
        """Send all that is here."""
        for number in list(self._waiting):
            self._flush(number)

    def _flush(self, number: int) -> None:
        waiting = self._waiting.pop(number, None)
        if waiting:
            self._send(number, memoryview(waiting))
