"""ONC RPC record marking (RFC 5531, section 11): one NDMP message is one record of one or more fragments."""

from __future__ import annotations

from appliance.ndmp.errors import RemoteFaultError

RECORD_LENGTH_MAX = 64 << 20
"""Bytes of one message.  Filers put 4,096 file history entries, several hundred KiB, in one; SCSI and TAPE
messages carry a tape record.  64 MiB is far above both and still bounds what a stranger can make us hold."""

RECEIVE_SIZE = 256 << 10
"""Bytes asked of the kernel at once: a tape record in a SCSI or TAPE message arrives in one or two calls."""

_LAST_FRAGMENT = 0x80000000


def frame(message: bytes) -> bytes:
    """`message` as a record of one fragment."""
    return (_LAST_FRAGMENT | len(message)).to_bytes(4, "big") + message


class RecordReader:
    """Collects received bytes into whole records.

    Attributes:
        limit: bytes of the longest record that is accepted.

    """

    def __init__(self) -> None:
        self.limit = RECORD_LENGTH_MAX
        self._buffer = bytearray()
        self._fragments = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The records that `data` completes, in order.  Raises RemoteFaultError for one that is too long."""
        self._buffer += data
        records: list[bytes] = []
        position = 0
        while len(self._buffer) - position >= 4:
            mark = int.from_bytes(self._buffer[position : position + 4], "big")
            length = mark & ~_LAST_FRAGMENT
            if length + len(self._fragments) > self.limit:
                raise RemoteFaultError(f"a message of more than {self.limit} bytes was announced")
            if len(self._buffer) - position - 4 < length:
                break
            self._fragments += self._buffer[position + 4 : position + 4 + length]
            position += 4 + length
            if mark & _LAST_FRAGMENT:
                records.append(bytes(self._fragments))
                self._fragments.clear()
        del self._buffer[:position]
        return records
