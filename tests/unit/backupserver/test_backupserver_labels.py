from __future__ import annotations

import json

import pytest

from appliance.backupserver.labels import RECORD_BYTES, ForeignRecordError, Header, Label

LABEL = Label("VTL001L5", "u", "c", "default", "2026-11-22T00:00:00+00:00")
HEADER = Header(
    "c", "12", "i", 1, 2, 2**50, 262144, 0, b"/a\xff\n", "VTL001L5", "u", "2026-11-22T00:00:00+00:00"
)


def test_records_have_one_exact_length_and_survive() -> None:
    """A drive that must be asked for the exact record length can read them, and nothing is lost."""
    for record, back in ((LABEL.record(), Label.parse), (HEADER.record(), Header.parse)):
        assert len(record) == RECORD_BYTES
        assert back(record) in (LABEL, HEADER)
    assert Label.parse(LABEL.record()) == LABEL
    assert Header.parse(HEADER.record()) == HEADER


def test_a_person_can_read_them() -> None:
    """`dd bs=64k` shows text: JSON with a magic word."""
    document = json.loads(LABEL.record().rstrip(b"\0"))
    assert document["magic"] == "SPANREEL-LABEL"
    assert document["barcode"] == "VTL001L5"


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"\0" * RECORD_BYTES,
        b"VOL1",
        b'{"magic": "SPANREEL-LABEL"',
        b'{"magic": "SPANREEL-LABEL", "version": 1}',
        b'{"magic": "SPANREEL-LABEL", "version": 1, "barcode": 3}',
        b'["SPANREEL-LABEL"]',
        b'{"magic": "SPANREEL-LABEL", "version": 1}\xff\xfe',
        HEADER.record(),
        LABEL.record().replace(b'"version": 1', b'"version": 2'),
        LABEL.record()[:100],
    ],
)
def test_foreign_records_are_recognised(record: bytes) -> None:
    """Whatever is on a cartridge, it is either our label or refused; no other exception."""
    with pytest.raises(ForeignRecordError):
        Label.parse(record)


def test_a_later_version_is_named() -> None:
    """An operator learns that a newer Spanreel wrote the cartridge."""
    with pytest.raises(ForeignRecordError, match="version 7"):
        Label.parse(LABEL.record().replace(b'"version": 1', b'"version": 7'))


def test_a_header_with_a_broken_root_is_foreign() -> None:
    """Damage in a field is told apart from a crash."""
    record = json.dumps({**json.loads(HEADER.record().rstrip(b"\0")), "root_base64": "%"}).encode()
    with pytest.raises(ForeignRecordError, match="damaged"):
        Header.parse(record.ljust(RECORD_BYTES, b"\0"))
