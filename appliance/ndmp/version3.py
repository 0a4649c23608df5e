"""NDMP version 3 on the wire, where it differs from version 4 (NDMP Version 3 document, section 3).

Each structure here stands for the message of version 4 that it names; fields of the same name carry the
same thing.  What version 3 cannot say is said by what comes nearest, and that is a table too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

from appliance.ndmp import messages as m
from appliance.ndmp.declare import REGISTRY, Kind
from appliance.ndmp.dialect import VERSION_4, Dialect
from appliance.ndmp.enums import (
    AddressType,
    ButypeAttr,
    DataHaltReason,
    DataOperation,
    DataState,
    ErrorCode,
    LogType,
    MoverHaltReason,
    MoverMode,
    MoverPauseReason,
    MoverState,
    RecoveryStatus,
    TapeUnsupported,
)
from appliance.ndmp.errors import LocalMisuseError
from appliance.ndmp.types import Address, Name, TcpAddress
from appliance.ndmp.xdr import (
    U16,
    U32,
    U64,
    Codec,
    Cursor,
    Opaque,
    Struct,
    UnknownValueError,
    codec_of,
    struct,
)

EXTENSION_CODES = range(0x10000, 1 << 32)
"""Extensions are version 4's: their codes do not fit the 16 bits that version 3 uses."""

NOT_IN_VERSION_3 = frozenset({0x109, 0x10A})
"""CONFIG_SET_EXT_LIST and CONFIG_GET_EXT_LIST."""

PARTITION_UNSUPPORTED = 0x40
"""Bit of `unsupported` in version 3's TAPE_GET_STATE: nobody here has partitions."""

BACKUP_FILE_HISTORY, RECOVER_FILE_HISTORY = 0x1, 0x200
"""Attributes of version 3 that say in one bit what version 4 says for each form of file history."""

_SHARED_ATTRIBUTES = 0x1FE
"""BACKUP_FILELIST to RECOVER_UTF8 are the same bits in both."""

ERRORS: Mapping[ErrorCode, ErrorCode] = {
    ErrorCode.SEQUENCE_NUM: ErrorCode.ILLEGAL_ARGS,
    ErrorCode.READ_IN_PROGRESS: ErrorCode.ILLEGAL_STATE,
    ErrorCode.PRECONDITION: ErrorCode.ILLEGAL_ARGS,
    ErrorCode.CLASS_NOT_SUPPORTED: ErrorCode.NOT_SUPPORTED,
    ErrorCode.VERSION_NOT_SUPPORTED: ErrorCode.NOT_SUPPORTED,
    ErrorCode.EXT_DUPL_CLASSES: ErrorCode.ILLEGAL_ARGS,
    ErrorCode.EXT_DANDN_ILLEGAL: ErrorCode.ILLEGAL_STATE,
}
"""Version 3 knows errors up to NDMP_CONNECT_ERR (23)."""

STATUSES: Mapping[RecoveryStatus, ErrorCode] = {
    RecoveryStatus.SUCCESSFUL: ErrorCode.NO_ERR,
    RecoveryStatus.FAILED_PERMISSION: ErrorCode.PERMISSION,
    RecoveryStatus.FAILED_NOT_FOUND: ErrorCode.FILE_NOT_FOUND,
    RecoveryStatus.FAILED_NO_DIRECTORY: ErrorCode.BAD_FILE,
    RecoveryStatus.FAILED_OUT_OF_MEMORY: ErrorCode.NO_MEM,
    RecoveryStatus.FAILED_IO_ERROR: ErrorCode.IO,
    RecoveryStatus.FAILED_UNDEFINED_ERROR: ErrorCode.UNDEFINED,
    RecoveryStatus.FAILED_FILE_PATH_EXISTS: ErrorCode.ILLEGAL_ARGS,
}
"""LOG_FILE carries an error in version 3."""


class _AddressCodec3(Codec):
    """ndmp_addr of version 3: one TCP endpoint without environment; FC has a loop identifier."""

    def encode(self, value: Any, out: bytearray) -> None:
        address: Address = value.address
        out += int(address.type).to_bytes(4, "big")
        if address.type is AddressType.TCP:
            if not address.tcp:
                raise LocalMisuseError("a TCP address without an endpoint", ErrorCode.XDR_ENCODE)
            out += address.tcp[0].ip.to_bytes(4, "big") + address.tcp[0].port.to_bytes(4, "big")
        elif address.type is AddressType.IPC:
            codec_of(bytes).encode(address.ipc, out)
        elif address.type is AddressType.RESERVED:
            out += bytes(4)

    def decode(self, cursor: Cursor) -> Address3:
        kind = codec_of(AddressType).decode(cursor)
        if kind is AddressType.TCP_IPV6:
            raise UnknownValueError("version 3 has no IPv6")
        if kind is AddressType.TCP:
            ip, port = codec_of(U32).decode(cursor), codec_of(U16).decode(cursor)
            return Address3(Address(kind, (TcpAddress(ip, port),)))
        if kind is AddressType.IPC:
            return Address3(Address(kind, (), cursor.opaque()))
        if kind is AddressType.RESERVED:
            codec_of(U32).decode(cursor)
        return Address3(Address(kind))


@dataclasses.dataclass(frozen=True)
class Address3(Struct):
    """An address as version 3 writes it."""

    codec: ClassVar[Codec | None] = _AddressCodec3()

    address: Address


Wire = TypeVar("Wire", bound=type[Struct])

WIRES: dict[type[Struct], type[Struct]] = {}
"""Version 4's message → the structure that stands for it in version 3."""


def _stands_for(message: type[Struct]) -> Callable[[Wire], Wire]:
    def declare(cls: Wire) -> Wire:
        WIRES[message] = cls
        return cls

    return declare


@_stands_for(m.DataGetStateReply)
@struct
class DataGetState3(Struct):
    """DATA_GET_STATE: another address."""

    unsupported: U32
    error: ErrorCode
    operation: DataOperation
    state: DataState
    halt_reason: DataHaltReason
    bytes_processed: U64
    est_bytes_remain: U64
    est_time_remain: U32
    data_connection_addr: Address3
    read_offset: U64
    read_length: U64


@_stands_for(m.DataListenReply)
@_stands_for(m.MoverListenReply)
@struct
class Listen3(Struct):
    """DATA_LISTEN and MOVER_LISTEN: another address."""

    error: ErrorCode
    connect_addr: Address3


@_stands_for(m.DataConnectRequest)
@struct
class DataConnect3(Struct):
    """DATA_CONNECT: another address."""

    addr: Address3


@_stands_for(m.MoverConnectRequest)
@struct
class MoverConnect3(Struct):
    """MOVER_CONNECT: another address."""

    mode: MoverMode
    addr: Address3


@_stands_for(m.MoverGetStateReply)
@struct
class MoverGetState3(Struct):
    """MOVER_GET_STATE: no mode, another address."""

    error: ErrorCode
    state: MoverState
    pause_reason: MoverPauseReason
    halt_reason: MoverHaltReason
    record_size: U32
    record_num: U32
    bytes_moved: U64
    seek_position: U64
    bytes_left_to_read: U64
    window_offset: U64
    window_length: U64
    data_connection_addr: Address3


@_stands_for(m.NotifyDataHaltedPost)
@struct
class DataHalted3(Struct):
    """NOTIFY_DATA_HALTED: with words."""

    reason: DataHaltReason
    text_reason: Opaque = b""


@_stands_for(m.NotifyMoverHaltedPost)
@struct
class MoverHalted3(Struct):
    """NOTIFY_MOVER_HALTED: with words."""

    reason: MoverHaltReason
    text_reason: Opaque = b""


@_stands_for(m.LogMessagePost)
@struct
class LogMessage3(Struct):
    """LOG_MESSAGE: no associated message."""

    log_type: LogType
    message_id: U32
    entry: Opaque


@_stands_for(m.LogFilePost)
@struct
class LogFile3(Struct):
    """LOG_FILE: an error in the place of a status."""

    name: Opaque
    recovery_status: ErrorCode


@_stands_for(m.TapeGetStateReply)
@struct
class TapeGetState3(Struct):
    """TAPE_GET_STATE: a partition at the end."""

    unsupported: U32
    error: ErrorCode
    flags: U32
    file_num: U32
    soft_errors: U32
    block_size: U32
    blockno: U32
    total_space: U64
    space_remain: U64
    partition: U32 = 0


def _down(value: Any) -> Any:
    """A field of version 4 as version 3 has it."""
    if isinstance(value, Address):
        return Address3(value)
    if isinstance(value, ErrorCode):
        return ERRORS.get(value, value)
    if isinstance(value, RecoveryStatus):
        return STATUSES[value]
    if value is MoverHaltReason.MEDIA_ERROR:
        return MoverHaltReason.INTERNAL_ERROR
    return value


def _status(error: ErrorCode) -> RecoveryStatus:
    """The status that an error of LOG_FILE means."""
    undefined = RecoveryStatus.FAILED_UNDEFINED_ERROR
    return next((status for status, known in STATUSES.items() if known is error), undefined)


def _text(reason: DataHaltReason | MoverHaltReason) -> bytes:
    return reason.name.lower().replace("_", " ").encode()


def _attributes_down(attributes: int) -> int:
    history = ButypeAttr.BACKUP_FH_FILE | ButypeAttr.BACKUP_FH_DIR
    rebuilt = ButypeAttr.RECOVER_FILEHIST | ButypeAttr.RECOVER_FH_FILE | ButypeAttr.RECOVER_FH_DIR
    return (
        (attributes & _SHARED_ATTRIBUTES)
        | (BACKUP_FILE_HISTORY if attributes & history else 0)
        | (RECOVER_FILE_HISTORY if attributes & rebuilt else 0)
    )


def _attributes_up(attributes: int) -> int:
    """Version 3 does not say which form of history; a DMA must take what comes."""
    history = int(ButypeAttr.BACKUP_FH_FILE | ButypeAttr.BACKUP_FH_DIR)
    return (
        (attributes & _SHARED_ATTRIBUTES)
        | (history if attributes & BACKUP_FILE_HISTORY else 0)
        | (int(ButypeAttr.RECOVER_FILEHIST) if attributes & RECOVER_FILE_HISTORY else 0)
    )


def _butypes(body: m.ConfigGetButypeInfoReply, convert: Callable[[int], int]) -> Struct:
    infos = (dataclasses.replace(info, attrs=convert(info.attrs)) for info in body.butype_info)
    return dataclasses.replace(body, butype_info=tuple(infos))


def _name_down(name: Name) -> Name:
    """An nlist entry: version 3 puts the original path after the directory when there is no new name."""
    target = name.destination_path + (b"/" + name.name if name.name else b"")
    original = name.original_path.lstrip(b"/")
    if not original:
        return dataclasses.replace(name, destination_path=target, name=b"")
    if target.endswith(b"/" + original):
        directory = target[: -len(original)].rstrip(b"/") or b"/"
        return dataclasses.replace(name, destination_path=directory, name=b"")
    return dataclasses.replace(name, destination_path=b"", name=target)


def _name_up(name: Name) -> Name:
    """The target is the directory and the new name, else the directory and the original path.

    DMAs put slashes into new names, with nothing in the directory (ndmjob).
    """
    below = (name.name or name.original_path).lstrip(b"/")
    directory = name.destination_path.rstrip(b"/")
    return dataclasses.replace(
        name, destination_path=directory + b"/" + below if below else directory or b"/", name=b""
    )


_RECOVER = (m.DataStartRecoverRequest, m.DataStartRecoverFilehistRequest)


def _to_wire(body: Struct) -> Struct:
    """The structure that says in version 3 what `body` says in version 4."""
    if isinstance(body, _RECOVER):
        return dataclasses.replace(body, nlist=tuple(map(_name_down, body.nlist)))
    if isinstance(body, m.ConfigGetButypeInfoReply):
        body = _butypes(body, _attributes_down)
    wire = WIRES.get(type(body))
    if wire is None:
        error = getattr(body, "error", None)
        if isinstance(error, ErrorCode) and error in ERRORS:
            return dataclasses.replace(body, error=ERRORS[error])  # type: ignore[type-var]
        return body
    names = {field.name for field in dataclasses.fields(wire)}  # type: ignore[arg-type]
    shared = [field.name for field in dataclasses.fields(body) if field.name in names]  # type: ignore[arg-type]
    values = {name: _down(getattr(body, name)) for name in shared}
    if isinstance(body, m.NotifyDataHaltedPost | m.NotifyMoverHaltedPost):
        values["text_reason"] = _text(body.reason)
    if isinstance(body, m.TapeGetStateReply):
        values["unsupported"] |= PARTITION_UNSUPPORTED
    return wire(**values)


def _from_wire(cls: type[Struct], found: Any) -> Struct:
    """Version 4's message for a structure of version 3."""
    if isinstance(found, m.ConfigGetButypeInfoReply):
        return _butypes(found, _attributes_up)
    if isinstance(found, _RECOVER):
        return dataclasses.replace(found, nlist=tuple(map(_name_up, found.nlist)))
    if type(found) is cls:
        return found
    names = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    values = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
    values = {name: value for name, value in values.items() if name in names}
    values = {name: value.address if isinstance(value, Address3) else value for name, value in values.items()}
    if isinstance(found, LogFile3):
        values["recovery_status"] = _status(found.recovery_status)
    if isinstance(found, TapeGetState3):
        values["unsupported"] &= sum(TapeUnsupported)
    return cls(**values)


class _Version3(Dialect):
    version = 3

    def message(self, kind: Kind, code: int) -> type[Struct] | None:
        if code in EXTENSION_CODES or code in NOT_IN_VERSION_3:
            return None
        return REGISTRY.get((kind, code))

    def decode(self, cls: type[Struct], raw: bytes) -> Struct:
        return _from_wire(cls, WIRES.get(cls, cls).from_bytes(raw))

    def encode(self, body: Struct) -> bytes:
        return _to_wire(body).to_bytes()

    def error(self, code: ErrorCode) -> ErrorCode:
        return ERRORS.get(code, code)

    def translate_post(self, code: int, raw: bytes) -> bytes:
        cls = REGISTRY.get((Kind.POST, code))
        if cls is None or cls not in WIRES:
            # File history, of which there is most, is the same in both.
            return raw
        return self.encode(VERSION_4.decode(cls, raw))


VERSION_3 = _Version3()

VERSIONS: Mapping[int, Dialect] = {dialect.version: dialect for dialect in (VERSION_4, VERSION_3)}
"""The versions that are spoken, the best one first; others are refused by negotiation (draft, 3.1.1)."""
