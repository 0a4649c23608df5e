"""NOTIFY interface (draft-skardal-ndmpv4-04, 4.1)."""

from __future__ import annotations

from appliance.ndmp.declare import post
from appliance.ndmp.enums import ConnectionReason, DataHaltReason, MoverHaltReason, MoverPauseReason
from appliance.ndmp.xdr import U16, U64, Opaque, Struct


@post(0x501)
class NotifyDataHaltedPost(Struct):
    """The DATA service entered HALTED."""

    reason: DataHaltReason = DataHaltReason.NA


@post(0x502)
class NotifyConnectionStatusPost(Struct):
    """The server's first words, its refusal, or its shutdown."""

    reason: ConnectionReason = ConnectionReason.CONNECTED
    protocol_version: U16 = 4
    text_reason: Opaque = b""


@post(0x503)
class NotifyMoverHaltedPost(Struct):
    """The MOVER service entered HALTED."""

    reason: MoverHaltReason = MoverHaltReason.NA


@post(0x504)
class NotifyMoverPausedPost(Struct):
    """The MOVER service entered PAUSED."""

    reason: MoverPauseReason = MoverPauseReason.NA
    seek_position: U64 = 0


@post(0x505)
class NotifyDataReadPost(Struct):
    """The data server needs this part of the image."""

    offset: U64 = 0
    length: U64 = 0
