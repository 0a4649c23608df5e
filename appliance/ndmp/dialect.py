"""What the versions of NDMP differ in, on the wire only: services speak version 4's messages.

A dialect turns those into the bytes of its version and back.  Most messages are the same in both; the
others, and what a version does not have, are in its own module (`version3`).
"""

from __future__ import annotations

from appliance.ndmp.declare import CODES, REGISTRY, Kind
from appliance.ndmp.enums import ErrorCode
from appliance.ndmp.errors import LocalMisuseError, RemoteFaultError
from appliance.ndmp.xdr import Struct

OBSOLETE = frozenset({0x203, 0x205})
"""SCSI_SET_TARGET and SCSI_RESET_BUS: version 3 has them, version 4 not any more (draft, 3.3)."""


class Dialect:
    """Version 4 itself, and the base of others."""

    version = 4

    def message(self, kind: Kind, code: int) -> type[Struct] | None:
        """The message of that kind and code; None when this version has none."""
        return None if code in OBSOLETE else REGISTRY.get((kind, code))

    def decode(self, cls: type[Struct], raw: bytes) -> Struct:
        """The message whose body is `raw`.  Raises XdrError."""
        return cls.from_bytes(raw)

    def encode(self, body: Struct) -> bytes:
        """The bytes of a message.  Raises LocalMisuseError for what does not fit its fields."""
        return body.to_bytes()

    def error(self, code: ErrorCode) -> ErrorCode:
        """An error as this version can say it."""
        return code

    def translate_post(self, code: int, raw: bytes) -> bytes:
        """A post that was encoded as version 4 elsewhere."""
        del code
        return raw

    # What is the same in all of them.

    def code(self, body: Struct, kind: Kind) -> int:
        """The code of a message that is to be sent.  Raises LocalMisuseError when it is no `kind`."""
        declared = CODES.get(type(body))
        if declared is None or declared[0] is not kind:
            raise LocalMisuseError(f"{type(body).__name__} is no {kind.value}")
        return declared[1]

    def body(self, kind: Kind, code: int, raw: bytes) -> Struct:
        """The decoded body.  Raises XdrError, or RemoteFaultError(NOT_SUPPORTED) for an unknown message."""
        cls = self.message(kind, code)
        if cls is None:
            raise RemoteFaultError(f"message {code:#x} is not known", ErrorCode.NOT_SUPPORTED)
        return self.decode(cls, raw)


VERSION_4 = Dialect()
