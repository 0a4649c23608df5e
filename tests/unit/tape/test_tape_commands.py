"""Promises of the CDB tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tape import commands
from tape.commands import Command, name_of
from tape.errors import TapeMisuseError
from tape.fields import Field, encode_fields

ALL = [value for value in vars(commands).values() if isinstance(value, Command)]


@pytest.mark.parametrize("command", ALL, ids=lambda command: command.name)
@given(data=st.data())
def test_fields_survive_encoding(command: Command, data: st.DataObject) -> None:
    """Every value that fits into a field comes back from the CDB, whatever its neighbours hold."""
    values = {}
    for name, field in command.fields.items():
        low, high = 0, (1 << field.width) - 1
        if field.signed:
            low, high = -(1 << (field.width - 1)), (1 << (field.width - 1)) - 1
        values[name] = data.draw(st.integers(low, high), label=name)
    cdb = command.cdb(**values)
    assert len(cdb) == command.length
    assert cdb[0] == command.opcode
    assert command.decode(cdb) == values


@pytest.mark.parametrize("command", ALL, ids=lambda command: command.name)
def test_fields_do_not_overlap(command: Command) -> None:
    """No two fields of a command share a bit, nor one with the opcode or the control byte."""
    taken = 0xFF | 0xFF << 8 * (command.length - 1)
    for name, field in command.fields.items():
        bits = 0
        for index, byte in enumerate(field.mask.to_bytes(field.size, "big")):
            bits |= byte << 8 * (field.offset + index)
        assert not bits & taken, name
        taken |= bits


@pytest.mark.parametrize(
    ("cdb", "expected"),
    [
        (commands.READ_6.cdb(transfer_length=256 * 1024), "080004000000"),
        (commands.WRITE_6.cdb(transfer_length=512), "0a0000020000"),
        (commands.SPACE_6.cdb(code=1, count=-1), "1101ffffff00"),
        (commands.LOAD_UNLOAD.cdb(load=1), "1b0000000100"),
        (commands.LOCATE_10.cdb(block=0x01020304), "2b000001020304000000"),
        (commands.INQUIRY.cdb(evpd=1, page_code=0x80, allocation_length=255), "12018000ff00"),
        (commands.MODE_SENSE_6.cdb(dbd=1, page_code=0x1D, allocation_length=255), "1a081d00ff00"),
        (commands.MOVE_MEDIUM.cdb(transport=1, source=4096, destination=256), "a50000011000010000000000"),
        (
            commands.READ_ELEMENT_STATUS.cdb(
                voltag=1, element_type=4, start=256, count=4, dvcid=1, allocation_length=0x1234
            ),
            "b81401000004010012340000",
        ),
    ],
)
def test_cdbs_are_those_of_the_standards(cdb: bytes, expected: str) -> None:
    """The bytes agree with CDBs written down by hand from SPC-4, SSC-4 and SMC-3."""
    assert cdb.hex() == expected


def test_a_value_too_large_is_misuse() -> None:
    """A length beyond 24 bits is never cut silently: the message names command and value."""
    with pytest.raises(TapeMisuseError, match=r"READ\(6\): 16777216"):
        commands.READ_6.cdb(transfer_length=1 << 24)


def test_an_unknown_field_is_misuse() -> None:
    """A misspelt field is not ignored."""
    with pytest.raises(TapeMisuseError, match="no field 'lenght'"):
        commands.READ_6.cdb(lenght=1)


@pytest.mark.parametrize("cdb", [b"", b"\x08\x00", b"\x0a\0\0\0\0\0"])
def test_decoding_another_command_is_misuse(cdb: bytes) -> None:
    """A table reads CDBs of its own command only."""
    with pytest.raises(TapeMisuseError):
        commands.READ_6.decode(cdb)


def test_names_serve_messages() -> None:
    """Commands have names, also those that only pass through; others show their opcode."""
    assert name_of(b"\x08\0\0\0\0\0") == "READ(6)"
    assert name_of(b"\x4d") == "LOG SENSE"
    assert name_of(b"\xfe") == "command fe"
    assert name_of(b"") == "empty command"


@given(st.integers(0, 255), st.integers(0, 7))
def test_put_leaves_neighbours_alone(background: int, value: int) -> None:
    """Storing three bits changes these three bits."""
    field = Field(0x38, 1)
    data = bytearray([background] * 3)
    field.put(data, value)
    assert field.get(data) == value
    assert data[0] == data[2] == background
    assert data[1] & ~0x38 == background & ~0x38


def test_negative_into_unsigned_is_misuse() -> None:
    """Only signed fields take negative numbers."""
    with pytest.raises(TapeMisuseError):
        encode_fields(4, {"count": Field(0xFF, 0)}, {"count": -1})
