"""SCSI interface (draft-skardal-ndmpv4-04, 3.3)."""

from __future__ import annotations

from appliance.ndmp.declare import reply, request
from appliance.ndmp.enums import ErrorCode
from appliance.ndmp.xdr import U8, U16, U32, Opaque, Struct


@request(0x200)
class ScsiOpenRequest(Struct):
    """Open a changer for this session."""

    device: Opaque = b""


@reply(0x200)
class ScsiOpenReply(Struct):
    """Answer to ScsiOpenRequest."""

    error: ErrorCode = ErrorCode.NO_ERR


@request(0x201)
class ScsiCloseRequest(Struct):
    """Give the changer back."""


@reply(0x201)
class ScsiCloseReply(Struct):
    """Answer to ScsiCloseRequest."""

    error: ErrorCode = ErrorCode.NO_ERR


@request(0x202)
class ScsiGetStateRequest(Struct):
    """Ask for the address of the open device."""


@reply(0x202)
class ScsiGetStateReply(Struct):
    """Answer to ScsiGetStateRequest."""

    error: ErrorCode = ErrorCode.NO_ERR
    target_controller: U16 = 0
    target_id: U16 = 0
    target_lun: U16 = 0


@request(0x203)
class ScsiSetTargetRequest(Struct):
    """Choose a device by its address on a bus; version 3 only."""

    device: Opaque = b""
    target_controller: U16 = 0
    target_id: U16 = 0
    target_lun: U16 = 0


@reply(0x203)
class ScsiSetTargetReply(Struct):
    """Answer to ScsiSetTargetRequest."""

    error: ErrorCode = ErrorCode.NO_ERR


@request(0x205)
class ScsiResetBusRequest(Struct):
    """Reset the open device's bus; version 3 only."""


@reply(0x205)
class ScsiResetBusReply(Struct):
    """Answer to ScsiResetBusRequest."""

    error: ErrorCode = ErrorCode.NO_ERR


@request(0x204)
class ScsiResetDeviceRequest(Struct):
    """Reset the open device."""


@reply(0x204)
class ScsiResetDeviceReply(Struct):
    """Answer to ScsiResetDeviceRequest."""

    error: ErrorCode = ErrorCode.NO_ERR


@request(0x206)
class ScsiExecuteCdbRequest(Struct):
    """Run one SCSI command; `timeout` in milliseconds, 0 for ever."""

    flags: U32 = 0
    timeout: U32 = 0
    datain_length: U32 = 0
    cdb: Opaque = b""
    dataout: Opaque = b""


@reply(0x206)
class ScsiExecuteCdbReply(Struct):
    """Answer to ScsiExecuteCdbRequest."""

    error: ErrorCode = ErrorCode.NO_ERR
    status: U8 = 0
    dataout_length: U32 = 0
    datain: Opaque = b""
    ext_sense: Opaque = b""
