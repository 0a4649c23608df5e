"""MD5 authentication: the digest of the draft (3.1.2), byte for byte."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.ndmp.auth import digest, verify

CHALLENGE = bytes(range(64))


@pytest.mark.parametrize(
    ("password", "expected"),
    [
        # (printf ndmp; head -c 56 /dev/zero; challenge; printf ndmp) | md5sum
        (b"ndmp", "bc7d61077ebc1e1bf84a59827c26dd65"),
        (b"x", "f594120ce34d5a0535b61983b9d3c9aa"),
        (b"a" * 32, "1b7ec3677afacf82eacf4a68ec74fd6b"),
    ],
)
def test_known_digests(password: bytes, expected: str) -> None:
    """Digests computed with md5sum over the 128 bytes that the draft draws."""
    assert digest(password, CHALLENGE).hex() == expected


@given(st.binary(min_size=1, max_size=32), st.binary(min_size=64, max_size=64))
def test_where_each_piece_lies(password: bytes, challenge: bytes) -> None:
    """Password at 0, challenge at 64 - length, password again at 128 - length, zeros between."""
    block = bytearray(128)
    block[: len(password)] = password
    block[64 - len(password) : 128 - len(password)] = challenge
    block[128 - len(password) :] = password
    assert digest(password, challenge) == hashlib.md5(bytes(block)).digest()


def test_what_is_beyond_32_bytes_does_not_count() -> None:
    """A longer password is cut, on both sides alike."""
    assert verify(b"a" * 32 + b"ignored", CHALLENGE, digest(b"a" * 32 + b"other", CHALLENGE))


def test_only_the_right_proof_is_taken() -> None:
    """Another password, another challenge, a cut digest: all wrong."""
    good = digest(b"secret", CHALLENGE)
    assert verify(b"secret", CHALLENGE, good)
    assert not verify(b"Secret", CHALLENGE, good)
    assert not verify(b"secret", bytes(64), good)
    assert not verify(b"secret", CHALLENGE, good[:15])


def test_an_empty_password_proves_nothing() -> None:
    """The right digest of an empty password is refused (draft, 3.1.2)."""
    assert not verify(b"", CHALLENGE, digest(b"", CHALLENGE))
