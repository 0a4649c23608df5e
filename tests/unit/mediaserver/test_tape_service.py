"""TAPE: what each request is answered with, and where the tape stands then (draft, 3.4)."""

from __future__ import annotations

import pytest

from appliance.ndmp import messages as m
from appliance.ndmp.client import Client
from appliance.ndmp.enums import ErrorCode, MtioOp, TapeFlag, TapeOpenMode
from appliance.ndmp.errors import ReplyError
from appliance.ndmp.xdr import Struct
from tape.commands import READ_6, WRITE_6, WRITE_FILEMARKS_6
from tape.model import dump
from tape.sense import Sense, SenseKey
from tape.transport import Completion, ScsiStatus
from tests.unit.mediaserver.support import (
    CARTRIDGES,
    DRIVE,
    Site,
    error_of,
    mtio,
    place,
    read,
    write,
)

REQUESTS: dict[str, Struct] = {
    "CLOSE": m.TapeCloseRequest(),
    "MTIO": m.TapeMtioRequest(MtioOp.REW, 1),
    "TUR": m.TapeMtioRequest(MtioOp.TUR, 1),
    "EOF": m.TapeMtioRequest(MtioOp.EOF, 1),
    "WRITE": m.TapeWriteRequest(b"data"),
    "WRITE 0": m.TapeWriteRequest(b""),
    "READ": m.TapeReadRequest(1024),
    "READ 0": m.TapeReadRequest(0),
    "READ 2 GiB": m.TapeReadRequest(0x80000000),
    "CDB": m.TapeExecuteCdbRequest(cdb=bytes(6)),
    "OPEN": m.TapeOpenRequest(DRIVE, TapeOpenMode.READ),
}

MATRIX: dict[str, dict[str, ErrorCode]] = {
    "closed": dict.fromkeys(
        ("CLOSE", "MTIO", "TUR", "EOF", "WRITE", "WRITE 0", "READ", "READ 0", "CDB"), ErrorCode.DEV_NOT_OPEN
    ),
    "READ": {
        "OPEN": ErrorCode.DEVICE_OPENED,
        "MTIO": ErrorCode.NO_ERR,
        "TUR": ErrorCode.NO_ERR,
        "EOF": ErrorCode.PERMISSION,
        "WRITE": ErrorCode.PERMISSION,
        "WRITE 0": ErrorCode.PERMISSION,
        "READ": ErrorCode.EOM,
        "READ 0": ErrorCode.NO_ERR,
        "READ 2 GiB": ErrorCode.ILLEGAL_ARGS,
        "CDB": ErrorCode.NO_ERR,
        "CLOSE": ErrorCode.NO_ERR,
    },
    "RDWR": {
        "OPEN": ErrorCode.DEVICE_OPENED,
        "EOF": ErrorCode.NO_ERR,
        "WRITE": ErrorCode.NO_ERR,
        "WRITE 0": ErrorCode.NO_ERR,
        "READ": ErrorCode.EOM,
        "CLOSE": ErrorCode.NO_ERR,
    },
}


@pytest.mark.parametrize(
    ("state", "name"), [(state, name) for state, row in MATRIX.items() for name in row], ids=lambda v: v
)
def test_each_request_in_each_state_has_its_answer(site: Site, state: str, name: str) -> None:
    """A request is answered as the draft's lists of errors say, by open mode."""
    client = site.client() if state == "closed" else site.opened(TapeOpenMode[state])
    assert error_of(client, REQUESTS[name]) is MATRIX[state][name]


def test_the_state_of_no_drive_is_a_whole_reply(site: Site) -> None:
    """TAPE_GET_STATE without a drive says DEV_NOT_OPEN with every field marked as unsupported."""
    answer = site.client().ask(m.TapeGetStateRequest())
    reply = answer.body()
    assert answer.error == 0
    assert isinstance(reply, m.TapeGetStateReply)
    assert reply.error is ErrorCode.DEV_NOT_OPEN
    assert reply.unsupported == 0x3F


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (TapeOpenMode.READ, ErrorCode.NO_TAPE_LOADED),
        (TapeOpenMode.RDWR, ErrorCode.NO_TAPE_LOADED),
        (TapeOpenMode.RAW, ErrorCode.NO_ERR),
    ],
)
def test_an_empty_drive_opens_raw_only(site: Site, mode: TapeOpenMode, expected: ErrorCode) -> None:
    """Without a cartridge TAPE_OPEN fails but in raw mode (draft, 3.4.2), and the drive stays free."""
    client = site.client()
    assert error_of(client, m.TapeOpenRequest(DRIVE, mode)) is expected
    assert error_of(site.client(), m.TapeOpenRequest(DRIVE, TapeOpenMode.RAW)) is (
        ErrorCode.DEVICE_BUSY if expected is ErrorCode.NO_ERR else ErrorCode.NO_ERR
    )


@pytest.mark.parametrize("name", [b"drive:DRV9", b"changer:CHG1", b"/dev/nst0", b"DRV1", b"\xff", b""])
def test_only_configured_drives_can_be_opened(site: Site, name: bytes) -> None:
    """Whatever is not `drive:` and a listed serial number is no device."""
    assert error_of(site.client(), m.TapeOpenRequest(name, TapeOpenMode.READ)) is ErrorCode.NO_DEVICE


def test_a_drive_is_open_in_one_session_at_a_time(site: Site) -> None:
    """Another session gets DEVICE_BUSY until the drive is closed, or the first session just vanishes."""
    first, second = site.opened(), site.client()
    assert error_of(second, m.TapeOpenRequest(DRIVE)) is ErrorCode.DEVICE_BUSY
    site.drop(first)
    assert error_of(second, m.TapeOpenRequest(DRIVE)) is ErrorCode.NO_ERR
    second.do(m.TapeCloseRequest())
    assert error_of(site.client(), m.TapeOpenRequest(DRIVE)) is ErrorCode.NO_ERR


def test_a_cartridge_that_is_not_listed_can_be_read_only(site: Site) -> None:
    """RDWR is PERMISSION for a barcode that the configuration does not list, READ works."""
    site.operator_moves(CARTRIDGES[2])
    client = site.client()
    assert error_of(client, m.TapeOpenRequest(DRIVE, TapeOpenMode.RDWR)) is ErrorCode.PERMISSION
    assert error_of(client, m.TapeOpenRequest(DRIVE, TapeOpenMode.READ)) is ErrorCode.NO_ERR


@pytest.mark.parametrize(
    "request_",
    [
        m.TapeWriteRequest(b"data"),
        m.TapeMtioRequest(MtioOp.EOF, 1),
        m.TapeExecuteCdbRequest(flags=2, cdb=WRITE_6.cdb(transfer_length=4), dataout=b"data"),
        m.TapeExecuteCdbRequest(cdb=WRITE_FILEMARKS_6.cdb(count=1)),
    ],
    ids=["WRITE", "EOF", "CDB WRITE", "CDB WRITE FILEMARKS"],
)
def test_no_request_writes_a_cartridge_that_is_not_listed(site: Site, request_: Struct) -> None:
    """Raw mode opens on any cartridge, and no way of writing works then."""
    client = site.opened(TapeOpenMode.RAW, CARTRIDGES[2])
    assert error_of(client, request_) is ErrorCode.PERMISSION
    assert WRITE_6.opcode not in site.gate.opcodes
    assert WRITE_FILEMARKS_6.opcode not in site.gate.opcodes


def test_a_cartridge_swapped_behind_our_back_is_not_written(site: Site) -> None:
    """The list is asked again after every change, whatever was open before."""
    client = site.opened()
    mtio(client, MtioOp.OFF)
    site.operator_moves(CARTRIDGES[0], None)
    site.operator_moves(CARTRIDGES[2])
    assert error_of(client, m.TapeWriteRequest(b"data")) is ErrorCode.PERMISSION
    assert list(dump(site.folder, CARTRIDGES[2], 0)) == []


def test_a_set_tab_refuses_writing(site: Site) -> None:
    """RDWR is WRITE_PROTECT on a write-protected cartridge; READ shows the flag."""
    site.model.set_write_protected(CARTRIDGES[0], True)
    site.operator_moves(CARTRIDGES[0])
    client = site.client()
    assert error_of(client, m.TapeOpenRequest(DRIVE, TapeOpenMode.RDWR)) is ErrorCode.WRITE_PROTECT
    client.do(m.TapeOpenRequest(DRIVE, TapeOpenMode.READ))
    state = client.call(m.TapeGetStateRequest(), m.TapeGetStateReply)
    assert state.flags == TapeFlag.NOREWIND | TapeFlag.WR_PROT
    assert (state.block_size, state.unsupported) == (0, 0x32)


def test_reading_stops_before_a_filemark(site: Site) -> None:
    """EOF again and again until FSF skips the mark, then EOM again and again (draft, 3.4.7)."""
    client = site.opened()
    write(client, b"label" * 100)
    mtio(client, MtioOp.EOF)
    mtio(client, MtioOp.REW)
    assert read(client) == b"label" * 100
    assert [read(client), read(client)] == [ErrorCode.EOF] * 2
    assert place(client) == (0, -1)
    assert mtio(client, MtioOp.FSF) == 0
    assert place(client) == (1, 0)
    assert [read(client), read(client)] == [ErrorCode.EOM] * 2


def test_a_record_is_cut_to_what_was_asked(site: Site) -> None:
    """A longer record's end is thrown away, a shorter one comes whole, and each is passed."""
    client = site.opened()
    write(client, b"a" * 1000, b"b" * 10)
    mtio(client, MtioOp.REW)
    assert read(client, 300) == b"a" * 300
    assert read(client, 300) == b"b" * 10


def test_a_write_before_a_mark_that_was_met_replaces_it(site: Site) -> None:
    """After EOF the tape counts as standing before the mark, also for a write."""
    client = site.opened()
    write(client, b"one")
    mtio(client, MtioOp.EOF)
    mtio(client, MtioOp.REW)
    assert [read(client), read(client)] == [b"one", ErrorCode.EOF]
    write(client, b"two")
    mtio(client, MtioOp.REW)
    assert [read(client), read(client), read(client)] == [b"one", b"two", ErrorCode.EOF]


def test_a_mark_that_was_met_is_met_again_by_the_next_session(site: Site) -> None:
    """TAPE_CLOSE leaves the tape where it counts as standing."""
    client = site.opened()
    write(client, b"one")
    mtio(client, MtioOp.EOF)
    write(client, b"two")
    mtio(client, MtioOp.REW)
    assert [read(client), read(client)] == [b"one", ErrorCode.EOF]
    client.do(m.TapeCloseRequest())
    client.do(m.TapeOpenRequest(DRIVE, TapeOpenMode.READ))
    assert read(client) is ErrorCode.EOF


def files(client: Client, *sizes: int) -> None:
    """Write tape files of so many records each, and rewind; a record holds its file and number."""
    for number, count in enumerate(sizes):
        write(client, *(bytes([number, record]) * 70 for record in range(count)))
        mtio(client, MtioOp.EOF)
    mtio(client, MtioOp.REW)


# Operation and count, what is left, and where the tape then stands; starting at the beginning of a tape
# with files of 3, 0 and 5 records.
WALKS: dict[str, list[tuple[MtioOp, int, int, tuple[int, int]]]] = {
    "beginning": [(MtioOp.BSR, 100, 100, (0, 0)), (MtioOp.BSF, 100, 100, (0, 0))],
    "zero": [(MtioOp.FSR, 2, 0, (0, 2)), (MtioOp.FSR, 0, 0, (0, 2)), (MtioOp.BSF, 0, 0, (0, 2))],
    "records stop before a mark": [
        (MtioOp.FSR, 100, 97, (0, -1)),
        (MtioOp.FSR, 1, 1, (0, -1)),
        (MtioOp.BSR, 2, 0, (0, -1)),
        (MtioOp.FSF, 1, 0, (1, 0)),
    ],
    "records backwards stop behind a mark": [
        (MtioOp.FSF, 2, 0, (2, 0)),
        (MtioOp.FSR, 2, 0, (2, 2)),
        (MtioOp.BSR, 100, 98, (2, 0)),
        (MtioOp.BSR, 1, 1, (2, 0)),
    ],
    "empty file": [(MtioOp.FSF, 1, 0, (1, 0)), (MtioOp.FSR, 5, 5, (1, -1)), (MtioOp.FSF, 1, 0, (2, 0))],
    "files": [
        (MtioOp.FSF, 100, 97, (3, -1)),
        (MtioOp.BSF, 1, 0, (2, -1)),
        (MtioOp.FSR, 1, 1, (2, -1)),
        (MtioOp.BSF, 1, 0, (1, -1)),
        (MtioOp.BSF, 100, 99, (0, 0)),
    ],
    "mark met, files backwards": [
        (MtioOp.FSF, 2, 0, (2, 0)),
        (MtioOp.FSR, 6, 1, (2, -1)),
        (MtioOp.BSF, 1, 0, (1, -1)),
        (MtioOp.FSF, 2, 0, (3, 0)),
    ],
    "mark met, all the way back": [(MtioOp.FSR, 9, 6, (0, -1)), (MtioOp.BSF, 5, 5, (0, 0))],
}


@pytest.mark.parametrize("walk", WALKS.values(), ids=WALKS.keys())
def test_spacing_ends_where_the_draft_says(
    site: Site, walk: list[tuple[MtioOp, int, int, tuple[int, int]]]
) -> None:
    """What is left undone, and file and block number, after each step (draft, 3.4.4 and 3.4.5)."""
    client = site.opened()
    files(client, 3, 0, 5)
    for operation, count, left, where in walk:
        assert (mtio(client, operation, count), place(client)) == (left, where), f"{operation.name} {count}"


def test_a_record_after_spacing_is_the_right_one(site: Site) -> None:
    """Spacing really moves the tape: the next read gives the record that the numbers name."""
    client = site.opened()
    files(client, 3, 0, 5)
    mtio(client, MtioOp.FSF, 2)
    mtio(client, MtioOp.FSR, 3)
    assert read(client) == b"\2\3" * 70
    mtio(client, MtioOp.BSR, 2)
    assert read(client) == b"\2\2" * 70


@pytest.mark.parametrize("count", [0x800000, 0xFFFFFFFF])
def test_a_count_beyond_scsi_is_refused(site: Site, count: int) -> None:
    """A count that no command can carry is ILLEGAL_ARGS, not something shorter done silently."""
    client = site.opened()
    assert error_of(client, m.TapeMtioRequest(MtioOp.FSF, count)) is ErrorCode.ILLEGAL_ARGS


@pytest.mark.parametrize("ending", ["close", "rewind", "eject", "dropped"])
def test_data_is_followed_by_a_filemark(site: Site, ending: str) -> None:
    """Closing, rewinding, ejecting and vanishing write the mark that the DMA left out, once."""
    client = site.opened()
    write(client, b"data")
    match ending:
        case "close":
            client.do(m.TapeCloseRequest())
        case "rewind":
            mtio(client, MtioOp.REW)
            client.do(m.TapeCloseRequest())
        case "eject":
            mtio(client, MtioOp.OFF)
        case _:
            site.drop(client)
    assert site.gate.opcodes.count(WRITE_FILEMARKS_6.opcode) == 1
    assert [list(dump(site.folder, CARTRIDGES[0], number)) for number in (0, 1)] == [[b"data"], []]


def test_no_second_mark_follows_an_explicit_one(site: Site) -> None:
    """After MTIO EOF nothing is added."""
    client = site.opened()
    write(client, b"data")
    mtio(client, MtioOp.EOF)
    client.do(m.TapeCloseRequest())
    assert site.gate.opcodes.count(WRITE_FILEMARKS_6.opcode) == 1


def test_compat_spaces_without_a_mark(site: Site) -> None:
    """Profile compat: write, then BSR gives the record back (ndmjob's conformance test wants that)."""
    client = site.opened()
    write(client, b"x" * 512)
    assert mtio(client, MtioOp.BSR, 100) == 99
    assert mtio(client, MtioOp.FSR, 100) == 99
    assert mtio(client, MtioOp.FSR, 100) == 100
    assert mtio(client, MtioOp.FSF, 100) == 100


def test_strict_marks_before_spacing(strict_site: Site) -> None:
    """Profile strict: any MTIO but EOF and TUR writes the mark first (draft, 3.4.1)."""
    client = strict_site.opened()
    write(client, b"x" * 512)
    mtio(client, MtioOp.TUR)
    assert strict_site.gate.opcodes.count(WRITE_FILEMARKS_6.opcode) == 0
    assert mtio(client, MtioOp.BSR, 100) == 100
    assert place(client) == (1, 0)


def test_early_warning_fails_one_write(site: Site) -> None:
    """The write that meets early warning succeeds, the next one is EOM with nothing written, once."""
    client = site.opened()
    answers = [error_of(client, m.TapeWriteRequest(bytes(64 << 10))) for _ in range(14)]
    assert answers.count(ErrorCode.EOM) == 1
    assert set(answers) == {ErrorCode.NO_ERR, ErrorCode.EOM}
    assert mtio(client, MtioOp.EOF) == 0
    mtio(client, MtioOp.REW)
    assert len(list(dump(site.folder, CARTRIDGES[0], 0))) == 13


def test_the_physical_end_is_an_io_error(site: Site) -> None:
    """A full tape takes nothing more: IO, not EOM (draft, 3.4.6); rewinding still works."""
    client = site.opened()
    answers = [error_of(client, m.TapeWriteRequest(bytes(128 << 10))) for _ in range(12)]
    assert answers[-1] is ErrorCode.IO
    assert answers.count(ErrorCode.EOM) == 1
    assert mtio(client, MtioOp.REW) == 0


def test_a_second_close_does_no_io(site: Site) -> None:
    """A TAPE_CLOSE whose filemark fails leaves the drive open; one right after it closes (draft, 3.4.3)."""
    client = site.opened()
    write(client, b"data")
    sense = Sense(SenseKey.MEDIUM_ERROR, 0x0C, 0x00).encode()
    site.gate.fail(WRITE_FILEMARKS_6.opcode, Completion(ScsiStatus.CHECK_CONDITION, sense=sense))
    assert error_of(client, m.TapeCloseRequest()) is ErrorCode.IO
    assert error_of(client, m.TapeOpenRequest(DRIVE)) is ErrorCode.DEVICE_OPENED
    assert error_of(client, m.TapeCloseRequest()) is ErrorCode.NO_ERR
    assert error_of(client, m.TapeCloseRequest()) is ErrorCode.DEV_NOT_OPEN


def test_a_medium_error_shows_in_the_state(site: Site) -> None:
    """The ERROR flag is set by a medium error and cleared by the next operation (draft, 3.4.4)."""
    client = site.opened()
    sense = Sense(SenseKey.MEDIUM_ERROR, 0x11, 0x00).encode()
    site.gate.fail(READ_6.opcode, Completion(ScsiStatus.CHECK_CONDITION, sense=sense))
    assert read(client) is ErrorCode.IO
    flags = [client.call(m.TapeGetStateRequest(), m.TapeGetStateReply).flags]
    mtio(client, MtioOp.REW)
    flags.append(client.call(m.TapeGetStateRequest(), m.TapeGetStateReply).flags)
    assert [bool(value & TapeFlag.ERROR) for value in flags] == [True, False]


def test_an_ejected_drive_says_so(site: Site) -> None:
    """After OFF the drive is not ready, and a new load is met without a reopen."""
    client = site.opened()
    mtio(client, MtioOp.OFF)
    assert error_of(client, m.TapeMtioRequest(MtioOp.TUR)) is ErrorCode.NO_TAPE_LOADED
    site.operator_moves(CARTRIDGES[0], None)
    site.operator_moves(CARTRIDGES[1])
    assert mtio(client, MtioOp.REW) == 0
    write(client, b"second")
    mtio(client, MtioOp.REW)
    assert list(dump(site.folder, CARTRIDGES[1], 0)) == [b"second"]


def test_a_command_of_the_dma_reaches_the_drive(site: Site) -> None:
    """TAPE_EXECUTE_CDB brings data, status and sense back unchanged."""
    client = site.opened()
    inquiry = m.TapeExecuteCdbRequest(flags=1, datain_length=36, cdb=bytes([0x12, 0, 0, 0, 36, 0]))
    assert client.call(inquiry, m.TapeExecuteCdbReply).datain[8:16] == b"SPANREEL"
    reading = m.TapeExecuteCdbRequest(flags=1, datain_length=16, cdb=READ_6.cdb(transfer_length=16))
    reply = client.call(reading, m.TapeExecuteCdbReply)
    assert reply.status == ScsiStatus.CHECK_CONDITION
    assert Sense.parse(reply.ext_sense).key == SenseKey.BLANK_CHECK


@pytest.mark.parametrize(
    "request_",
    [
        m.TapeExecuteCdbRequest(cdb=b""),
        m.TapeExecuteCdbRequest(cdb=bytes(7)),
        m.TapeExecuteCdbRequest(cdb=bytes([0x3B]) + bytes(9)),
        m.TapeExecuteCdbRequest(flags=3, datain_length=1, cdb=bytes(6), dataout=b"x"),
        m.TapeExecuteCdbRequest(flags=1, datain_length=1 << 24, cdb=bytes(6)),
        m.TapeExecuteCdbRequest(cdb=bytes(6), dataout=b"x"),
    ],
    ids=["none", "odd length", "WRITE BUFFER", "both ways", "16 MiB", "no flag"],
)
def test_what_is_no_proper_command_never_reaches_the_drive(site: Site, request_: Struct) -> None:
    """Malformed commands, and those that change the drive itself, are ILLEGAL_ARGS."""
    client = site.opened(TapeOpenMode.READ)
    before = len(site.gate.opcodes)
    assert error_of(client, request_) is ErrorCode.ILLEGAL_ARGS
    assert len(site.gate.opcodes) == before


def test_a_vanished_drive_is_an_io_error(site: Site) -> None:
    """A drive that does not answer any more fails requests, and the session can still end."""
    client = site.opened()
    site.model.closed = True
    try:
        with pytest.raises(ReplyError) as refusal:
            mtio(client, MtioOp.REW)
        assert refusal.value.code is ErrorCode.IO
        assert error_of(client, m.TapeCloseRequest()) is ErrorCode.NO_ERR
    finally:
        site.model.closed = False
