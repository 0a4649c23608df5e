"""Structures that several messages share, and the unions (draft-skardal-ndmpv4-04, 2.12 and 4.3)."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from appliance.ndmp.enums import (
    ALL_ONES,
    AddressType,
    AuthType,
    FileStatUnsupported,
    FileType,
    FsType,
)
from appliance.ndmp.xdr import (
    U16,
    U32,
    U64,
    Codec,
    Cursor,
    Opaque,
    Struct,
    XdrError,
    codec_of,
    member_of,
    struct,
)

CHALLENGE_LENGTH = 64
"""Bytes of an MD5 challenge (draft, 3.1.2)."""

IPV6_LENGTH = 16
"""Bytes of an IPv6 address."""

DIGEST_LENGTH = 16
"""Bytes of an MD5 digest."""


@struct
class Pval(Struct):
    """A name and its value: an environment variable, a capability."""

    name: Opaque
    value: Opaque


@struct
class TcpAddress(Struct):
    """One IPv4 endpoint; `addr_env` carries what a peer must know about it."""

    ip: U32
    port: U16
    addr_env: tuple[Pval, ...] = ()


class _Tcp6AddressCodec(Codec):
    def encode(self, value: Any, out: bytearray) -> None:
        out += value.ip
        codec_of(U16).encode(value.port, out)
        codec_of(tuple[Pval, ...]).encode(value.addr_env, out)

    def decode(self, cursor: Cursor) -> Tcp6Address:
        ip = _fixed(cursor, IPV6_LENGTH)
        return Tcp6Address(ip, codec_of(U16).decode(cursor), codec_of(tuple[Pval, ...]).decode(cursor))


@dataclasses.dataclass(frozen=True)
class Tcp6Address(Struct):
    """One IPv6 endpoint (extension class 0x2051); `ip` has 16 bytes."""

    codec: ClassVar[Codec | None] = _Tcp6AddressCodec()

    ip: bytes
    port: int
    addr_env: tuple[Pval, ...] = ()


def _number(cursor: Cursor) -> int:
    end = cursor.position + 4
    if end > len(cursor.data):
        raise XdrError("the message is too short")
    value = int.from_bytes(cursor.data[cursor.position : end], "big")
    cursor.position = end
    return value


def _fixed(cursor: Cursor, length: int) -> bytes:
    end = cursor.position + length
    if end > len(cursor.data):
        raise XdrError("the message is too short")
    value = cursor.data[cursor.position : end]
    cursor.position = end
    return value


def _discriminant(cursor: Cursor, enum: Any) -> Any:
    return member_of(enum, _number(cursor))


class _AddressCodec(Codec):
    def encode(self, value: Any, out: bytearray) -> None:
        out += int(value.type).to_bytes(4, "big")
        if value.type is AddressType.TCP:
            codec_of(tuple[TcpAddress, ...]).encode(value.tcp, out)
        elif value.type is AddressType.IPC:
            codec_of(bytes).encode(value.ipc, out)
        elif value.type is AddressType.TCP_IPV6:
            codec_of(tuple[Tcp6Address, ...]).encode(value.tcp6, out)

    def decode(self, cursor: Cursor) -> Address:
        kind = _discriminant(cursor, AddressType)
        if kind is AddressType.TCP:
            return Address(kind, codec_of(tuple[TcpAddress, ...]).decode(cursor))
        if kind is AddressType.IPC:
            return Address(kind, (), cursor.opaque())
        if kind is AddressType.TCP_IPV6:
            return Address(kind, tcp6=codec_of(tuple[Tcp6Address, ...]).decode(cursor))
        return Address(kind)


@dataclasses.dataclass(frozen=True)
class Address(Struct):
    """ndmp_addr (draft, 2.12): LOCAL, or the endpoints of a TCP data connection, the reachable one first."""

    codec: ClassVar[Codec | None] = _AddressCodec()

    type: AddressType = AddressType.LOCAL
    tcp: tuple[TcpAddress, ...] = ()
    ipc: bytes = b""
    tcp6: tuple[Tcp6Address, ...] = ()


def without_environment(address: Address) -> Address:
    """The same endpoints, without what a peer has to say about them."""
    ipv4 = tuple(dataclasses.replace(each, addr_env=()) for each in address.tcp)
    ipv6 = tuple(dataclasses.replace(each, addr_env=()) for each in address.tcp6)
    return dataclasses.replace(address, tcp=ipv4, tcp6=ipv6)


class _AuthDataCodec(Codec):
    def encode(self, value: Any, out: bytearray) -> None:
        out += int(value.type).to_bytes(4, "big")
        if value.type is AuthType.TEXT:
            codec_of(bytes).encode(value.user, out)
            codec_of(bytes).encode(value.password, out)
        elif value.type is AuthType.MD5:
            codec_of(bytes).encode(value.user, out)
            out += value.digest

    def decode(self, cursor: Cursor) -> AuthData:
        kind = _discriminant(cursor, AuthType)
        if kind is AuthType.TEXT:
            return AuthData(kind, cursor.opaque(), cursor.opaque())
        if kind is AuthType.MD5:
            return AuthData(kind, cursor.opaque(), b"", _fixed(cursor, DIGEST_LENGTH))
        return AuthData(kind)


@dataclasses.dataclass(frozen=True)
class AuthData(Struct):
    """ndmp_auth_data (draft, 3.1.2): who the client says it is, and the proof."""

    codec: ClassVar[Codec | None] = _AuthDataCodec()

    type: AuthType = AuthType.NONE
    user: bytes = b""
    password: bytes = dataclasses.field(default=b"", repr=False)
    digest: bytes = dataclasses.field(default=bytes(DIGEST_LENGTH), repr=False)


class _AuthAttrCodec(Codec):
    def encode(self, value: Any, out: bytearray) -> None:
        out += int(value.type).to_bytes(4, "big")
        if value.type is AuthType.MD5:
            out += value.challenge

    def decode(self, cursor: Cursor) -> AuthAttr:
        kind = _discriminant(cursor, AuthType)
        if kind is AuthType.MD5:
            return AuthAttr(kind, _fixed(cursor, CHALLENGE_LENGTH))
        return AuthAttr(kind)


@dataclasses.dataclass(frozen=True)
class AuthAttr(Struct):
    """ndmp_auth_attr (draft, 2.12): what an authentication needs, the MD5 challenge."""

    codec: ClassVar[Codec | None] = _AuthAttrCodec()

    type: AuthType = AuthType.NONE
    challenge: bytes = bytes(CHALLENGE_LENGTH)


@struct
class Name(Struct):
    """ndmp_name, one entry of an nlist (draft, 3.5.2.4)."""

    original_path: Opaque
    destination_path: Opaque
    name: Opaque = b""
    other_name: Opaque = b""
    node: U64 = ALL_ONES
    fh_info: U64 = ALL_ONES


class _FileNameCodec(Codec):
    def encode(self, value: Any, out: bytearray) -> None:
        out += int(value.fs_type).to_bytes(4, "big")
        codec_of(bytes).encode(value.path, out)
        if value.fs_type is FsType.NT:
            codec_of(bytes).encode(value.dos_path, out)

    def decode(self, cursor: Cursor) -> FileName:
        kind = _discriminant(cursor, FsType)
        path = cursor.opaque()
        return FileName(path, kind, cursor.opaque() if kind is FsType.NT else b"")


@dataclasses.dataclass(frozen=True)
class FileName(Struct):
    """ndmp_file_name (draft, 4.3): a name in one name space."""

    codec: ClassVar[Codec | None] = _FileNameCodec()

    path: bytes
    fs_type: FsType = FsType.UNIX
    dos_path: bytes = b""


@struct
class FileStat(Struct):
    """ndmp_file_stat (draft, 4.3): times in seconds since 1970, size in bytes, `fattr` the mode bits."""

    unsupported: U32 = int(FileStatUnsupported.ATIME | FileStatUnsupported.CTIME)
    fs_type: FsType = FsType.UNIX
    ftype: FileType = FileType.OTHER
    mtime: U32 = 0
    atime: U32 = 0
    ctime: U32 = 0
    owner: U32 = 0
    group: U32 = 0
    fattr: U32 = 0
    size: U64 = 0
    links: U32 = 0
