"""DATA interface (draft-skardal-ndmpv4-04, 3.5)."""

from __future__ import annotations

from appliance.ndmp.declare import reply, request
from appliance.ndmp.enums import AddressType, DataHaltReason, DataOperation, DataState, ErrorCode
from appliance.ndmp.types import Address, Name, Pval
from appliance.ndmp.xdr import U32, U64, Opaque, Struct


@request(0x400)
class DataGetStateRequest(Struct):
    """Ask for the DATA service's state."""


@reply(0x400)
class DataGetStateReply(Struct):
    """Answer to DataGetStateRequest; `unsupported` are DataUnsupported bits and precede the error."""

    unsupported: U32 = 0
    error: ErrorCode = ErrorCode.NO_ERR
    operation: DataOperation = DataOperation.NOACTION
    state: DataState = DataState.IDLE
    halt_reason: DataHaltReason = DataHaltReason.NA
    bytes_processed: U64 = 0
    est_bytes_remain: U64 = 0
    est_time_remain: U32 = 0
    data_connection_addr: Address = Address()
    read_offset: U64 = 0
    read_length: U64 = 0


@request(0x401)
class DataStartBackupRequest(Struct):
    """Start a backup."""

    butype_name: Opaque = b""
    env: tuple[Pval, ...] = ()


@reply(0x401)
class DataStartBackupReply(Struct):
    """Answer to DataStartBackupRequest."""

    error: ErrorCode = ErrorCode.NO_ERR


@request(0x402)
class DataStartRecoverRequest(Struct):
    """Start a restore."""

    env: tuple[Pval, ...] = ()
    nlist: tuple[Name, ...] = ()
    butype_name: Opaque = b""


@reply(0x402)
class DataStartRecoverReply(Struct):
    """Answer to DataStartRecoverRequest."""

    error: ErrorCode = ErrorCode.NO_ERR


@request(0x403)
class DataAbortRequest(Struct):
    """End the operation at once."""


@reply(0x403)
class DataAbortReply(Struct):
    """Answer to DataAbortRequest."""

    error: ErrorCode = ErrorCode.NO_ERR


@request(0x404)
class DataGetEnvRequest(Struct):
    """Ask for the environment after or during an operation."""


@reply(0x404)
class DataGetEnvReply(Struct):
    """Answer to DataGetEnvRequest."""

    error: ErrorCode = ErrorCode.NO_ERR
    env: tuple[Pval, ...] = ()


@request(0x407)
class DataStopRequest(Struct):
    """Return from HALTED to IDLE."""


@reply(0x407)
class DataStopReply(Struct):
    """Answer to DataStopRequest."""

    error: ErrorCode = ErrorCode.NO_ERR


@request(0x409)
class DataListenRequest(Struct):
    """Wait for the mover's connection."""

    addr_type: AddressType = AddressType.TCP


@reply(0x409)
class DataListenReply(Struct):
    """Answer to DataListenRequest."""

    error: ErrorCode = ErrorCode.NO_ERR
    connect_addr: Address = Address()


@request(0x40A)
class DataConnectRequest(Struct):
    """Connect to the mover."""

    addr: Address = Address()


@reply(0x40A)
class DataConnectReply(Struct):
    """Answer to DataConnectRequest."""

    error: ErrorCode = ErrorCode.NO_ERR


@request(0x40B)
class DataStartRecoverFilehistRequest(Struct):
    """Rebuild file history from an image."""

    env: tuple[Pval, ...] = ()
    nlist: tuple[Name, ...] = ()
    butype_name: Opaque = b""


@reply(0x40B)
class DataStartRecoverFilehistReply(Struct):
    """Answer to DataStartRecoverFilehistRequest."""

    error: ErrorCode = ErrorCode.NO_ERR
