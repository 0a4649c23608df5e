"""Errors of the protocol code.

    NdmpError
     ├── LocalMisuseError      we broke the protocol: a bug of ours
     ├── RemoteFaultError      the peer broke the protocol, or its connection broke
     │    └── ConnectionLostError
     ├── RefusalError             a request that we answer with an error code
     │    └── IllegalStateError
     └── ReplyError            a request of ours that the peer answered with an error code

Each carries `code`, the NDMP error to answer with (or that was answered).
"""

from __future__ import annotations

from appliance.ndmp.enums import ErrorCode

__all__ = [
    "ConnectionLostError",
    "IllegalStateError",
    "LocalMisuseError",
    "NdmpError",
    "RefusalError",
    "RemoteFaultError",
    "ReplyError",
]


class NdmpError(Exception):
    """Root of the tree; `code` is what to answer the peer with."""

    def __init__(self, text: str, code: ErrorCode = ErrorCode.UNDEFINED) -> None:
        super().__init__(text)
        self.code = code


class LocalMisuseError(NdmpError):
    """Our own code asked the protocol for something it does not allow.  File a bug."""


class RemoteFaultError(NdmpError):
    """The peer sent what the protocol does not allow."""


class ConnectionLostError(RemoteFaultError):
    """The control connection ended while an answer was still awaited."""


class RefusalError(NdmpError):
    """Raised by a service: answer the request with `code`; the text goes to the log only."""

    def __init__(self, code: ErrorCode, text: str = "") -> None:
        super().__init__(text or code.name, code)


class IllegalStateError(RefusalError):
    """The request is not legal in the machine's present state."""

    def __init__(self, machine: str, state: str, event: str) -> None:
        super().__init__(ErrorCode.ILLEGAL_STATE, f"{machine}: {event} is not legal in state {state}")


class ReplyError(NdmpError):
    """The peer answered a request of ours with an error code."""

    def __init__(self, message: str, code: ErrorCode, peer: str) -> None:
        super().__init__(f"{peer} answered {message} with {code.name}", code)
        self.message = message
        self.peer = peer
