"""MOVER interface (draft-skardal-ndmpv4-04, 3.6)."""

from __future__ import annotations

from appliance.ndmp.declare import reply, request
from appliance.ndmp.enums import (
    AddressType,
    ErrorCode,
    MoverHaltReason,
    MoverMode,
    MoverPauseReason,
    MoverState,
)
from appliance.ndmp.types import Address
from appliance.ndmp.xdr import U32, U64, Struct


@request(0xA00)
class MoverGetStateRequest(Struct):
    """Ask for the MOVER service's state."""


@reply(0xA00)
class MoverGetStateReply(Struct):
    """Answer to MoverGetStateRequest."""

    error: ErrorCode = ErrorCode.NO_ERR
    mode: MoverMode = MoverMode.NOACTION
    state: MoverState = MoverState.IDLE
    pause_reason: MoverPauseReason = MoverPauseReason.NA
    halt_reason: MoverHaltReason = MoverHaltReason.NA
    record_size: U32 = 0
    record_num: U32 = 0
    bytes_moved: U64 = 0
    seek_position: U64 = 0
    bytes_left_to_read: U64 = 0
    window_offset: U64 = 0
    window_length: U64 = 0
    data_connection_addr: Address = Address()


@request(0xA01)
class MoverListenRequest(Struct):
    """Wait for the data server's connection."""

    mode: MoverMode = MoverMode.READ
    addr_type: AddressType = AddressType.TCP


@reply(0xA01)
class MoverListenReply(Struct):
    """Answer to MoverListenRequest."""

    error: ErrorCode = ErrorCode.NO_ERR
    connect_addr: Address = Address()


@request(0xA02)
class MoverContinueRequest(Struct):
    """Go on after a pause."""


@reply(0xA02)
class MoverContinueReply(Struct):
    """Answer to MoverContinueRequest."""

    error: ErrorCode = ErrorCode.NO_ERR


@request(0xA03)
class MoverAbortRequest(Struct):
    """End the operation at once."""


@reply(0xA03)
class MoverAbortReply(Struct):
    """Answer to MoverAbortRequest."""

    error: ErrorCode = ErrorCode.NO_ERR


@request(0xA04)
class MoverStopRequest(Struct):
    """Return from HALTED to IDLE."""


@reply(0xA04)
class MoverStopReply(Struct):
    """Answer to MoverStopRequest."""

    error: ErrorCode = ErrorCode.NO_ERR


@request(0xA05)
class MoverSetWindowRequest(Struct):
    """Set the part of the image that this tape file holds."""

    offset: U64 = 0
    length: U64 = 0


@reply(0xA05)
class MoverSetWindowReply(Struct):
    """Answer to MoverSetWindowRequest."""

    error: ErrorCode = ErrorCode.NO_ERR


@request(0xA06)
class MoverReadRequest(Struct):
    """Send a part of the image to the data server."""

    offset: U64 = 0
    length: U64 = 0


@reply(0xA06)
class MoverReadReply(Struct):
    """Answer to MoverReadRequest."""

    error: ErrorCode = ErrorCode.NO_ERR


@request(0xA07)
class MoverCloseRequest(Struct):
    """Close the data connection while paused."""


@reply(0xA07)
class MoverCloseReply(Struct):
    """Answer to MoverCloseRequest."""

    error: ErrorCode = ErrorCode.NO_ERR


@request(0xA08)
class MoverSetRecordSizeRequest(Struct):
    """Set the bytes of a tape record."""

    length: U32 = 0


@reply(0xA08)
class MoverSetRecordSizeReply(Struct):
    """Answer to MoverSetRecordSizeRequest."""

    error: ErrorCode = ErrorCode.NO_ERR


@request(0xA09)
class MoverConnectRequest(Struct):
    """Connect to a listening data server."""

    mode: MoverMode = MoverMode.READ
    addr: Address = Address()


@reply(0xA09)
class MoverConnectReply(Struct):
    """Answer to MoverConnectRequest."""

    error: ErrorCode = ErrorCode.NO_ERR
