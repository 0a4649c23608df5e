"""The one way in which an initiator's bytes can end its connection."""

from __future__ import annotations

from tape.errors import TapeError

__all__ = ["IscsiProtocolError"]


class IscsiProtocolError(TapeError):
    """The initiator sent what RFC 7143 does not allow, or more than we hold; its connection ends."""
