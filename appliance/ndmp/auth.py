"""MD5 authentication, exactly as specified (draft-skardal-ndmpv4-04, 3.1.2)."""

from __future__ import annotations

import hashlib
import hmac

from appliance.ndmp.types import CHALLENGE_LENGTH

PASSWORD_LENGTH_MAX = 32
"""Bytes of a password that count; the rest is cut off."""


def digest(password: bytes, challenge: bytes) -> bytes:
    """The digest over password, zeros, challenge and password again: 128 bytes in all.

    The challenge starts at 64 - len(password), the second copy at 128 - len(password).
    """
    key = password[:PASSWORD_LENGTH_MAX]
    block = key + bytes(CHALLENGE_LENGTH - 2 * len(key)) + challenge[:CHALLENGE_LENGTH] + key
    return hashlib.md5(block, usedforsecurity=False).digest()


def verify(password: bytes, challenge: bytes, given: bytes) -> bool:
    """Whether `given` proves knowledge of `password`; an empty password proves nothing."""
    return bool(password) and hmac.compare_digest(digest(password, challenge), given)
