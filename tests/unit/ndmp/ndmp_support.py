"""What the NDMP tests share: values of every declared type, and headers written by hand."""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import IntEnum
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from appliance.ndmp import messages
from appliance.ndmp.enums import AddressType, AuthType, FsType
from appliance.ndmp.types import Address, AuthAttr, AuthData, FileName, TcpAddress
from appliance.ndmp.xdr import U8, U16, U32, U64, Struct

LARGEST = {U8: 0xFF, U16: 0xFFFF, U32: 0xFFFFFFFF, U64: 0xFFFFFFFFFFFFFFFF}
ECHOES = (messages.TestEchoRequest, messages.TestEchoReply)
WORDS = st.binary(max_size=9)


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Any value of a declared type."""
    if get_origin(hint) is Annotated:
        return st.integers(0, LARGEST[hint])
    if hint is bytes:
        return WORDS
    if get_origin(hint) is tuple:
        return st.lists(values(get_args(hint)[0]), max_size=3).map(tuple)
    if issubclass(hint, IntEnum):
        return st.sampled_from(hint)
    return UNIONS[hint]() if hint in UNIONS else structures(hint)


def structures(cls: type[Struct]) -> st.SearchStrategy[Struct]:
    """Any value of a declared structure."""
    hints = get_type_hints(cls, include_extras=True)
    hints.pop("codec", None)
    hints.pop("echo_short", None)
    more = {"echo_short": st.none() | values(U16)} if cls in ECHOES else {}
    return st.builds(cls, **{name: values(hint) for name, hint in hints.items()}, **more)


def _addresses() -> st.SearchStrategy[Any]:
    return st.one_of(
        st.sampled_from([Address(AddressType.LOCAL), Address(AddressType.RESERVED)]),
        st.builds(Address, st.just(AddressType.TCP), values(tuple[TcpAddress, ...])),
        st.builds(Address, st.just(AddressType.IPC), st.just(()), WORDS),
    )


def _auth_data() -> st.SearchStrategy[Any]:
    digests = st.binary(min_size=16, max_size=16)
    return st.one_of(
        st.just(AuthData()),
        st.builds(AuthData, st.just(AuthType.TEXT), WORDS, WORDS),
        st.builds(AuthData, st.just(AuthType.MD5), WORDS, st.just(b""), digests),
    )


def _auth_attr() -> st.SearchStrategy[Any]:
    challenges = st.binary(min_size=64, max_size=64)
    return st.one_of(
        st.sampled_from([AuthAttr(), AuthAttr(AuthType.TEXT)]),
        st.builds(AuthAttr, st.just(AuthType.MD5), challenges),
    )


def _file_names() -> st.SearchStrategy[Any]:
    return st.one_of(
        st.builds(FileName, WORDS, st.sampled_from([FsType.UNIX, FsType.OTHER])),
        st.builds(FileName, WORDS, st.just(FsType.NT), WORDS),
    )


UNIONS: dict[Any, Callable[[], st.SearchStrategy[Any]]] = {
    Address: _addresses,
    AuthData: _auth_data,
    AuthAttr: _auth_attr,
    FileName: _file_names,
}


def record(code: int, body: bytes = b"", *, sequence: int = 1, kind: int = 0, reply_to: int = 0) -> bytes:
    """One message as one record, made without the product's code."""
    message = struct.pack(">6I", sequence, 0, kind, code, reply_to, 0) + body
    return struct.pack(">I", 1 << 31 | len(message)) + message


def headers(data: bytes) -> list[tuple[int, ...]]:
    """Sequence, kind, code, reply to, error, bytes of body of each record, read without the product."""
    found: list[tuple[int, ...]] = []
    while data:
        length = struct.unpack(">I", data[:4])[0] & 0x7FFFFFFF
        sequence, _, kind, code, reply_to, error = struct.unpack(">6I", data[4:28])
        found.append((sequence, kind, code, reply_to, error, length - 24))
        data = data[4 + length :]
    return found
