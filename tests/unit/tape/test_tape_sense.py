"""Promises of sense parsing and of the typed errors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tape_support import check_condition

from tape import errors
from tape.sense import Sense, error_for
from tape.transport import Completion, ScsiStatus


def test_fixed_format_of_a_short_read() -> None:
    """ILI with asked minus actual, as tape.md's drives send it, is read from fixed-format bytes."""
    sense = Sense.parse(bytes.fromhex("f00020 0003fc03 0a 00000000 0000 00000000".replace(" ", "")))
    assert (sense.key, sense.ili, sense.filemark, sense.eom) == (0, True, False, False)
    assert sense.information == 0x3FC03


def test_information_is_signed() -> None:
    """A record longer than the buffer gives a negative number."""
    sense = Sense.parse(bytes.fromhex("f00020fffffc000a00000000000000000000"))
    assert sense.information == -1024


def test_information_counts_only_when_valid() -> None:
    """Without the VALID bit the field means nothing."""
    assert Sense.parse(bytes.fromhex("700020fffffc000a00000000000000000000")).information is None


def test_descriptor_format() -> None:
    """The same facts are found in descriptors: information, and the stream bits."""
    raw = bytes.fromhex("72000001 00000010000a8000000000000000001004020080".replace(" ", ""))
    sense = Sense.parse(raw)
    assert (sense.key, sense.code, sense.filemark, sense.information) == (0, (0, 1), True, 16)
    assert not sense.deferred


def test_deferred_is_recognised_in_both_formats() -> None:
    """71h and 73h are about an earlier command."""
    assert Sense.parse(bytes.fromhex("710003000000000a000000000c0000000000")).deferred
    assert Sense.parse(bytes.fromhex("73030c0000000000")).deferred


@given(st.binary(max_size=96))
def test_garbage_is_never_an_error_of_ours(raw: bytes) -> None:
    """Any bytes at all make a report with a text and an error for it."""
    sense = Sense.parse(raw)
    assert sense.text
    error = error_for(Completion(ScsiStatus.CHECK_CONDITION, sense=raw), "x")
    assert error is None or str(error)


@given(
    st.builds(
        Sense,
        key=st.integers(0, 15),
        asc=st.integers(0, 255),
        ascq=st.integers(0, 255),
        filemark=st.booleans(),
        eom=st.booleans(),
        ili=st.booleans(),
        information=st.none() | st.integers(-(1 << 31), (1 << 31) - 1),
        deferred=st.booleans(),
    )
)
def test_encode_and_parse_agree(sense: Sense) -> None:
    """What the library model sends is what is read."""
    raw = sense.encode()
    parsed = Sense.parse(raw)
    assert parsed.raw == raw
    for name in ("key", "code", "filemark", "eom", "ili", "information", "deferred"):
        assert getattr(parsed, name) == getattr(sense, name), name


@pytest.mark.parametrize(
    ("sense", "kind"),
    [
        (Sense(0x2, 0x04, 0x01), errors.NotReadyError),
        (Sense(0x2, 0x3A, 0x00), errors.NoMediumError),
        (Sense(0x3, 0x11, 0x00), errors.MediumError),
        (Sense(0x3, 0x00, 0x02, eom=True), errors.EndOfMediumError),
        (Sense(0x4, 0x44, 0x00), errors.HardwareError),
        (Sense(0x5, 0x20, 0x00), errors.IllegalRequestError),
        (Sense(0x6, 0x29, 0x00), errors.UnitAttentionError),
        (Sense(0x7, 0x27, 0x00), errors.WriteProtectedError),
        (Sense(0x8, 0x00, 0x05), errors.BlankCheckError),
        (Sense(0x8, 0x00, 0x00, eom=True), errors.BlankCheckError),
        (Sense(0xD, 0x00, 0x02, eom=True), errors.EndOfMediumError),
        (Sense(0x0, 0x00, 0x01, filemark=True), errors.FilemarkError),
        (Sense(0x0, 0x00, 0x05), errors.BlankCheckError),
        (Sense(0x0, 0x00, 0x04, eom=True), errors.EndOfMediumError),
        (Sense(0x0, ili=True), errors.DeviceError),
        (Sense(0xB, 0x4B, 0x00), errors.DeviceError),
    ],
)
def test_each_report_has_its_error(sense: Sense, kind: type[errors.DeviceError]) -> None:
    """The sense key decides, the stream bits next; the error carries the report."""
    error = error_for(check_condition(sense), "drive", "READ(6)")
    assert type(error) is kind
    assert error.sense is not None
    assert error.sense.code == sense.code


@pytest.mark.parametrize("sense", [Sense(0), Sense(1, 0x37, 0x00)])
def test_nothing_wrong_is_no_error(sense: Sense) -> None:
    """NO SENSE and RECOVERED ERROR without stream bits: the command was carried out."""
    assert error_for(check_condition(sense), "drive") is None


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (ScsiStatus.RESERVATION_CONFLICT, errors.ReservationConflictError),
        (ScsiStatus.BUSY, errors.NotReadyError),
        (ScsiStatus.TASK_SET_FULL, errors.NotReadyError),
        (ScsiStatus.TASK_ABORTED, errors.DeviceError),
    ],
)
def test_other_statuses_have_errors(status: ScsiStatus, kind: type[errors.DeviceError]) -> None:
    """A status that is neither GOOD nor CHECK CONDITION is never taken for success."""
    assert type(error_for(Completion(status), "drive")) is kind


def test_errors_say_what_happened_to_what() -> None:
    """A message names device, command, cause in words, and the codes to look up."""
    error = error_for(check_condition(Sense(5, 0x3B, 0x0E)), "/dev/sg3", "MOVE MEDIUM")
    assert str(error) == (
        "/dev/sg3: MOVE MEDIUM: the device refuses the command "
        "[ILLEGAL REQUEST 05/3b/0e: medium source element empty]"
    )


def test_the_tree_in_the_docstring_is_complete() -> None:
    """Every exception of the package is drawn in the module's tree."""
    for name in errors.__all__:
        assert name in (errors.__doc__ or "")
