"""LOG interface (draft-skardal-ndmpv4-04, 4.2)."""

from __future__ import annotations

from appliance.ndmp.declare import post
from appliance.ndmp.enums import LogType, RecoveryStatus
from appliance.ndmp.xdr import U32, Opaque, Struct


@post(0x602)
class LogFilePost(Struct):
    """How the restore of one requested name ended."""

    name: Opaque = b""
    recovery_status: RecoveryStatus = RecoveryStatus.SUCCESSFUL


@post(0x603)
class LogMessagePost(Struct):
    """A line for the DMA's log."""

    log_type: LogType = LogType.NORMAL
    message_id: U32 = 0
    entry: Opaque = b""
    associated_valid: U32 = 0
    associated_sequence: U32 = 0
