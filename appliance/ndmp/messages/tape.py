"""TAPE interface (draft-skardal-ndmpv4-04, 3.4)."""

from __future__ import annotations

from appliance.ndmp.declare import reply, request
from appliance.ndmp.enums import ErrorCode, MtioOp, TapeOpenMode
from appliance.ndmp.xdr import U8, U32, U64, Opaque, Struct


@request(0x300)
class TapeOpenRequest(Struct):
    """Open a drive for this session."""

    device: Opaque = b""
    mode: TapeOpenMode = TapeOpenMode.READ


@reply(0x300)
class TapeOpenReply(Struct):
    """Answer to TapeOpenRequest."""

    error: ErrorCode = ErrorCode.NO_ERR


@request(0x301)
class TapeCloseRequest(Struct):
    """Give the drive back."""


@reply(0x301)
class TapeCloseReply(Struct):
    """Answer to TapeCloseRequest."""

    error: ErrorCode = ErrorCode.NO_ERR


@request(0x302)
class TapeGetStateRequest(Struct):
    """Ask for the drive's state."""


@reply(0x302)
class TapeGetStateReply(Struct):
    """Answer to TapeGetStateRequest; `unsupported` are TapeUnsupported bits and precede the error."""

    unsupported: U32 = 0
    error: ErrorCode = ErrorCode.NO_ERR
    flags: U32 = 0
    file_num: U32 = 0
    soft_errors: U32 = 0
    block_size: U32 = 0
    blockno: U32 = 0
    total_space: U64 = 0
    space_remain: U64 = 0


@request(0x303)
class TapeMtioRequest(Struct):
    """Position the tape or write file marks."""

    tape_op: MtioOp = MtioOp.TUR
    count: U32 = 0


@reply(0x303)
class TapeMtioReply(Struct):
    """Answer to TapeMtioRequest."""

    error: ErrorCode = ErrorCode.NO_ERR
    resid_count: U32 = 0


@request(0x304)
class TapeWriteRequest(Struct):
    """Write one record."""

    data_out: Opaque = b""


@reply(0x304)
class TapeWriteReply(Struct):
    """Answer to TapeWriteRequest."""

    error: ErrorCode = ErrorCode.NO_ERR
    count: U32 = 0


@request(0x305)
class TapeReadRequest(Struct):
    """Read one record of at most `count` bytes."""

    count: U32 = 0


@reply(0x305)
class TapeReadReply(Struct):
    """Answer to TapeReadRequest."""

    error: ErrorCode = ErrorCode.NO_ERR
    data_in: Opaque = b""


@request(0x307)
class TapeExecuteCdbRequest(Struct):
    """Run one SCSI command; `timeout` in milliseconds, 0 for ever."""

    flags: U32 = 0
    timeout: U32 = 0
    datain_length: U32 = 0
    cdb: Opaque = b""
    dataout: Opaque = b""


@reply(0x307)
class TapeExecuteCdbReply(Struct):
    """Answer to TapeExecuteCdbRequest."""

    error: ErrorCode = ErrorCode.NO_ERR
    status: U8 = 0
    dataout_length: U32 = 0
    datain: Opaque = b""
    ext_sense: Opaque = b""
