"""Record marking: whatever TCP does to the bytes, the messages come out whole and in order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.ndmp.errors import RemoteFaultError
from appliance.ndmp.framing import RECORD_LENGTH_MAX, RecordReader, frame

MESSAGES = st.lists(st.binary(max_size=40), max_size=5)
LAST = 0x80000000


def fragment(data: bytes, *, last: bool) -> bytes:
    """One fragment (RFC 5531, section 11)."""
    return (len(data) | (LAST if last else 0)).to_bytes(4, "big") + data


def test_a_record_is_one_last_fragment() -> None:
    """The mark is the length with the top bit set."""
    assert frame(b"abcde") == b"\x80\0\0\x05abcde"


@given(MESSAGES, st.integers(1, 50))
def test_records_survive_any_segments(messages: list[bytes], step: int) -> None:
    """Messages come out whole and in order, however TCP cuts their bytes."""
    data = b"".join(map(frame, messages))
    reader = RecordReader()
    found = [record for at in range(0, len(data), step) for record in reader.feed(data[at : at + step])]
    assert found == messages


def test_a_split_at_every_byte() -> None:
    """Wherever two segments meet, in a mark or in the data, nothing is lost."""
    data = frame(b"first") + fragment(b"sec", last=False) + fragment(b"ond", last=True)
    for at in range(len(data) + 1):
        reader = RecordReader()
        assert reader.feed(data[:at]) + reader.feed(data[at:]) == [b"first", b"second"]


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=6))
def test_fragments_make_one_message(pieces: list[bytes]) -> None:
    """A message of several fragments, empty ones among them, is put together."""
    data = b"".join(fragment(piece, last=False) for piece in pieces[:-1]) + fragment(pieces[-1], last=True)
    assert RecordReader().feed(data) == [b"".join(pieces)]


def test_nothing_is_answered_before_the_record_is_complete() -> None:
    """Bytes of an unfinished message give no message yet."""
    reader = RecordReader()
    assert reader.feed(frame(b"abcdef")[:-1]) == []
    assert reader.feed(b"f") == [b"abcdef"]


def test_a_record_beyond_the_bound_is_refused_when_announced() -> None:
    """A length beyond the bound is the peer's fault at its mark: nothing of it is waited for."""
    with pytest.raises(RemoteFaultError, match=str(RECORD_LENGTH_MAX)):
        RecordReader().feed((LAST | RECORD_LENGTH_MAX + 1).to_bytes(4, "big"))


def test_fragments_count_together() -> None:
    """The bound is on the message, not on its fragments."""
    reader = RecordReader()
    reader.limit = 10
    assert reader.feed(fragment(b"12345", last=False)) == []
    with pytest.raises(RemoteFaultError, match="more than 10 bytes"):
        reader.feed(fragment(b"678901", last=True))


def test_a_message_of_the_greatest_length_passes() -> None:
    """The bound itself is allowed."""
    reader = RecordReader()
    reader.limit = 5
    assert reader.feed(frame(b"12345")) == [b"12345"]
