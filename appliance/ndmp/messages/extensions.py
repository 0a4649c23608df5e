"""Published extensions that DMAs may use: the echo test class and Cluster Aware Backup.

Their codes are class.message, 16 bits each (draft-skardal-ndmpv4-04, 2.5.4.2).
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from appliance.ndmp.declare import reply, request
from appliance.ndmp.enums import ErrorCode
from appliance.ndmp.types import Pval
from appliance.ndmp.xdr import U16, U32, Codec, Cursor, Opaque, Struct, XdrError, codec_of

ECHO_CLASS = 0x7FF0
"""The test class of the draft's appendix B, versions 1 and 2."""

IPV6_CLASS = 0x2051
"""TCP addresses of IPv6 (a filer vendor's class, version 1): an address type, no messages."""

CAB_CLASS = 0x2052
"""Cluster Aware Backup (a filer vendor's class, version 1)."""

_TEXT, _SHORT, _ERROR = codec_of(bytes), codec_of(U16), codec_of(ErrorCode)


class _EchoRequestCodec(Codec):
    """Version 1 has the string only, version 2 a number after it: which it is, the length tells."""

    def encode(self, value: Any, out: bytearray) -> None:
        _TEXT.encode(value.echo_msg, out)
        if value.echo_short is not None:
            _SHORT.encode(value.echo_short, out)

    def decode(self, cursor: Cursor) -> TestEchoRequest:
        text = cursor.opaque()
        return TestEchoRequest(text, None if cursor.at_end else _SHORT.decode(cursor))


class _EchoReplyCodec(Codec):
    def encode(self, value: Any, out: bytearray) -> None:
        _ERROR.encode(value.error, out)
        _REQUEST.encode(value, out)

    def decode(self, cursor: Cursor) -> TestEchoReply:
        error = _ERROR.decode(cursor)
        asked = _REQUEST.decode(cursor)
        return TestEchoReply(error, asked.echo_msg, asked.echo_short)


_REQUEST = _EchoRequestCodec()


@request(0x7FF00000)
class TestEchoRequest(Struct):
    """Ask for an echo; `echo_short` is None in version 1 of the class."""

    codec: ClassVar[Codec | None] = _REQUEST

    echo_msg: bytes = b""
    echo_short: int | None = None


@reply(0x7FF00000)
class TestEchoReply(Struct):
    """What was sent."""

    codec: ClassVar[Codec | None] = _EchoReplyCodec()

    error: ErrorCode = ErrorCode.NO_ERR
    echo_msg: bytes = b""
    echo_short: int | None = None


class _PrepareCodec(Codec):
    """As DATA_START_BACKUP.  One public DMA sends a word of 1 ahead of it; that is taken too."""

    _fields: tuple[Codec, Codec] = codec_of(bytes), codec_of(tuple[Pval, ...])

    def encode(self, value: Any, out: bytearray) -> None:
        self._fields[0].encode(value.butype_name, out)
        self._fields[1].encode(value.env, out)

    def decode(self, cursor: Cursor) -> CabDataConnPrepareRequest:
        start = cursor.position
        try:
            return self._whole(cursor)
        except XdrError:
            cursor.position = start
            if codec_of(U32).decode(cursor) != 1:
                raise
            return self._whole(cursor)

    def _whole(self, cursor: Cursor) -> CabDataConnPrepareRequest:
        found = CabDataConnPrepareRequest(*(field.decode(cursor) for field in self._fields))
        if not cursor.at_end:
            raise XdrError("bytes too many in the message")
        return found


@request(0x20520001)
class CabDataConnPrepareRequest(Struct):
    """Tell before DATA_LISTEN or DATA_CONNECT what will be backed up, so that the cluster can choose."""

    codec: ClassVar[Codec | None] = _PrepareCodec()

    butype_name: Opaque = b""
    env: tuple[Pval, ...] = dataclasses.field(default=())


@reply(0x20520001)
class CabDataConnPrepareReply(Struct):
    """Answer to CabDataConnPrepareRequest."""

    error: ErrorCode = ErrorCode.NO_ERR
