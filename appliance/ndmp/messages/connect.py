"""CONNECT interface (draft-skardal-ndmpv4-04, 3.1)."""

from __future__ import annotations

from appliance.ndmp.declare import reply, request
from appliance.ndmp.enums import ErrorCode
from appliance.ndmp.types import AuthAttr, AuthData
from appliance.ndmp.xdr import U16, Struct


@request(0x900)
class ConnectOpenRequest(Struct):
    """Choose the protocol version."""

    protocol_version: U16 = 4


@reply(0x900)
class ConnectOpenReply(Struct):
    """Answer to ConnectOpenRequest."""

    error: ErrorCode = ErrorCode.NO_ERR


@request(0x901)
class ConnectClientAuthRequest(Struct):
    """Authenticate the client."""

    auth_data: AuthData = AuthData()


@reply(0x901)
class ConnectClientAuthReply(Struct):
    """Answer to ConnectClientAuthRequest."""

    error: ErrorCode = ErrorCode.NO_ERR


@request(0x902)
class ConnectCloseRequest(Struct):
    """End the session; it has no reply on the wire."""


@request(0x903)
class ConnectServerAuthRequest(Struct):
    """Ask the server to authenticate itself."""

    client_attr: AuthAttr = AuthAttr()


@reply(0x903)
class ConnectServerAuthReply(Struct):
    """Answer to ConnectServerAuthRequest."""

    error: ErrorCode = ErrorCode.NO_ERR
    server_result: AuthData = AuthData()
