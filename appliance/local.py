"""Where the DATA and MOVER services of one session meet, so that a DMA may join them by LOCAL.

A node that is file server and media server both serves DATA and MOVER on one control connection.  The files
may belong to other nodes all the same: the connection server still holds the one channel, and LOCAL only
means that the DMA need not carry its address, and that reads need not go through the DMA
(draft-skardal-ndmpv4-04, 2.3.3 and 4.1.5).
"""

from __future__ import annotations

from collections.abc import Callable

from appliance.ndmp.enums import ErrorCode
from appliance.ndmp.errors import RefusalError
from appliance.ndmp.types import Address


class LocalEnds:
    """What the two services of a session tell each other."""

    def __init__(self) -> None:
        self._listening: Address | None = None
        self._read: Callable[[int, int], None] | None = None

    def listen(self, address: Address) -> None:
        """One end listens at `address`, which is for the other end of this session only."""
        self._listening = address

    def take(self) -> Address:
        """Where the other end listens; once.  Raises RefusalError(CONNECT) when it does not."""
        address, self._listening = self._listening, None
        if address is None:
            raise RefusalError(ErrorCode.CONNECT, "LOCAL, but the session's other service does not listen")
        return address

    def serve_reads(self, read: Callable[[int, int], None]) -> None:
        """The mover reads for the data server by `read(offset, length)`, which may raise RefusalError."""
        self._read = read

    def read(self, offset: int, length: int) -> None:
        """Have the mover send a part of the image.  Raises RefusalError."""
        assert self._read is not None, "LOCAL is offered where there is a mover"
        self._read(offset, length)
