"""One end of a control connection, without I/O: bytes in, events out; messages in, bytes out.

Headers, sequence numbers and the coding of bodies live here; what a message means does not.
Requests, replies and posts of one end share one sequence counter (draft-skardal-ndmpv4-04, 2.7).
"""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from appliance.ndmp.declare import REGISTRY, Kind
from appliance.ndmp.dialect import VERSION_4, Dialect
from appliance.ndmp.enums import ErrorCode, MessageType
from appliance.ndmp.framing import RecordReader, frame
from appliance.ndmp.xdr import Struct, XdrError

_HEADER = struct.Struct(">6I")


@dataclass(frozen=True)
class Received:
    """A message from the peer.

    `raw` is its body in the words of `dialect`; `error` the header's error, with which no body comes.
    """

    sequence: int
    code: int
    kind: Kind
    reply_to: int
    error: int
    raw: bytes
    dialect: Dialect = VERSION_4

    @property
    def name(self) -> str:
        """The message's name, or its code in hexadecimal when it is not known."""
        cls = REGISTRY.get((self.kind, self.code))
        return cls.__name__ if cls else f"{self.kind.value} {self.code:#x}"

    def body(self) -> Struct:
        """The decoded body.  Raises XdrError, or RemoteFaultError(NOT_SUPPORTED) for an unknown message."""
        return self.dialect.body(self.kind, self.code, self.raw)


class Endpoint:
    """Sequence numbers and coding of one end.  Sending is safe from several threads.

    `dialect` is the version that is spoken; the messages before the choice are the same in all of them.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.dialect = VERSION_4
        self._clock = clock
        self._records = RecordReader()
        self._sequence = 0
        self._lock = threading.Lock()

    def limit(self, length: int) -> None:
        """Accept messages of at most `length` bytes from now on."""
        self._records.limit = length

    def receive(self, data: bytes) -> list[Received]:
        """The messages that `data` completes.  One whose header cannot be decoded is dropped (draft, 2.6).

        Raises RemoteFaultError for a record beyond all bounds: the connection cannot go on.
        """
        messages = []
        for record in self._records.feed(data):
            if len(record) < _HEADER.size:
                continue
            sequence, _, kind, code, reply_to, error = _HEADER.unpack_from(record)
            if kind not in (MessageType.REQUEST, MessageType.REPLY):
                continue
            messages.append(
                Received(
                    sequence,
                    code,
                    _kind_of(kind, code),
                    reply_to,
                    error,
                    record[_HEADER.size :],
                    self.dialect,
                )
            )
        return messages

    def request(self, body: Struct) -> tuple[int, bytes]:
        """A request's sequence number and bytes."""
        code = self.dialect.code(body, Kind.REQUEST)
        return self._message(code, MessageType.REQUEST, 0, 0, self.dialect.encode(body))

    def post(self, body: Struct) -> bytes:
        """A post's bytes."""
        code = self.dialect.code(body, Kind.POST)
        return self._message(code, MessageType.REQUEST, 0, 0, self.dialect.encode(body))[1]

    def raw_post(self, code: int, raw: bytes) -> bytes:
        """A post whose body was encoded elsewhere, as version 4: file history is passed on as it came."""
        return self._message(code, MessageType.REQUEST, 0, 0, self.dialect.translate_post(code, raw))[1]

    def reply(self, to: Received, body: Struct) -> bytes:
        """The reply to a request."""
        code = self.dialect.code(body, Kind.REPLY)
        return self._message(code, MessageType.REPLY, to.sequence, 0, self.dialect.encode(body))[1]

    def error_reply(self, to: Received, code: ErrorCode) -> bytes:
        """A reply that is a header with an error and no body (draft, 2.7)."""
        code = self.dialect.error(code)
        return self._message(to.code, MessageType.REPLY, to.sequence, code, b"")[1]

    def _message(
        self, code: int, kind: MessageType, reply_to: int, error: int, raw: bytes
    ) -> tuple[int, bytes]:
        with self._lock:
            self._sequence = self._sequence + 1 & 0xFFFFFFFF
            sequence = self._sequence
        head = _HEADER.pack(sequence, int(self._clock()) & 0xFFFFFFFF, kind, code, reply_to, error)
        return sequence, frame(head + raw)


def _kind_of(kind: int, code: int) -> Kind:
    if kind == MessageType.REPLY:
        return Kind.REPLY
    return Kind.POST if (Kind.POST, code) in REGISTRY else Kind.REQUEST


__all__ = ["Endpoint", "Received", "XdrError"]
