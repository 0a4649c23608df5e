"""Promises of Changer and of the element report's parser, with the oddities of real libraries."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tape_support import (
    BARCODES,
    CHANGER,
    FIRST_DRIVE,
    FIRST_PORT,
    FIRST_SLOT,
    Scripted,
    check_condition,
    spec,
)

from tape import errors
from tape.changer import ELEMENTS_PER_REQUEST, Changer
from tape.commands import READ_ELEMENT_STATUS
from tape.elements import ElementKind, parse_report
from tape.model import LibraryModel
from tape.sense import Sense
from tape.transport import Completion

GOOD = Completion(0)
ADDRESSES = bytes.fromhex("170000001d12000100011000000203000000010000010000")


def slot(address: int, barcode: bytes = b"", source: int | None = None) -> bytes:
    """A slot's descriptor with its volume tag, written by hand from SMC-3."""
    flags = 0x09 if barcode else 0x08
    origin = b"\x80" + source.to_bytes(2, "big") if source is not None else bytes(3)
    return address.to_bytes(2, "big") + bytes([flags]) + bytes(6) + origin + barcode.ljust(36, b" ")


def report(kind: int, *descriptors: bytes, voltag: int = 0x80) -> bytes:
    """A report of one page, written by hand from SMC-3."""
    body = b"".join(descriptors)
    length = len(descriptors[0]) if descriptors else 0
    page = bytes([kind, voltag]) + length.to_bytes(2, "big") + bytes(1) + len(body).to_bytes(3, "big") + body
    first = descriptors[0][:2] if descriptors else bytes(2)
    return first + len(descriptors).to_bytes(2, "big") + bytes(1) + len(page).to_bytes(3, "big") + page


def drive_element(address: int, identifier: bytes) -> bytes:
    """A drive's descriptor with its device identifier."""
    return slot(address) + identifier


T10 = bytes([0x02, 0x01, 0x00, 34]) + b"HP      Ultrium 5-SCSI  TGTDRV0001"


def test_slots_are_read() -> None:
    """Address, cartridge, barcode without padding, source slot."""
    full, empty = parse_report(report(2, slot(4096, b"VTL001L5", source=4099), slot(4097)))
    assert (full.kind, full.address, full.full) == (ElementKind.SLOT, 4096, True)
    assert (full.barcode, full.source, full.accessible) == ("VTL001L5", 4099, True)
    assert (empty.full, empty.barcode, empty.source) == (False, None, None)


def test_nuls_are_no_barcode() -> None:
    """Mhvtl leaves NULs in empty volume tags."""
    raw = slot(4096)[:12] + bytes(36)
    assert parse_report(report(2, raw))[0].barcode is None


@pytest.mark.parametrize(
    ("identifier", "serial"),
    [
        (T10, "TGTDRV0001"),
        (bytes([0x02, 0x00, 0x00, 34]) + b"HU1234ABCD".ljust(34), "HU1234ABCD"),
        (bytes([0x01, 0x03, 0x00, 8]) + bytes(30), None),
        (b"", None),
    ],
)
def test_drive_serials(identifier: bytes, serial: str | None) -> None:
    """The serial is found in T10 and vendor-specific identifiers, and nowhere else."""
    assert parse_report(report(4, drive_element(256, identifier)))[0].serial == serial


def test_a_report_cut_short_gives_what_is_whole() -> None:
    """Tgt's reports lack their last 8 bytes: the first elements are right, none is invented."""
    whole = report(4, drive_element(256, T10), drive_element(257, T10))
    found = parse_report(whole[:-8])
    assert [element.address for element in found] == [256, 257]
    assert found[0].serial == "TGTDRV0001"
    assert [element.address for element in parse_report(whole[:50])] == [256]


def test_an_exception_is_put_into_words() -> None:
    """A cartridge that the arm could not take is not hidden."""
    raw = bytearray(slot(4096, b"VTL001L5"))
    raw[2] |= 0x04
    raw[4:6] = b"\x3b\x11"
    assert parse_report(report(2, bytes(raw)))[0].problem == "medium magazine not accessible (3b/11)"


@given(st.binary(max_size=200))
def test_garbage_is_no_crash(raw: bytes) -> None:
    """Whatever a library answers, the parser ends and returns elements."""
    assert isinstance(parse_report(raw), list)


def answer_by_start(make: Callable[[int, int, int], bytes]) -> Callable[[bytes], Completion]:
    """Answer a READ ELEMENT STATUS from its kind, start and allocation length."""

    def answer(cdb: bytes) -> Completion:
        fields = READ_ELEMENT_STATUS.decode(cdb)
        room = fields["allocation_length"]
        return Completion(0, make(fields["element_type"], fields["start"], fields["dvcid"])[:room])

    return answer


def test_a_changer_that_ignores_the_count_is_read_once() -> None:
    """Tgt answers every request with all elements: none is listed twice, and asking ends."""

    def everything(kind: int, _start: int, _dvcid: int) -> bytes:
        return {
            1: report(1, slot(1)),
            2: report(2, slot(4096, b"VTL001L5"), slot(4097)),
            4: report(4, drive_element(256, T10)),
        }[kind]

    transport = Scripted(Completion(0, ADDRESSES), *[answer_by_start(everything)] * 3)
    inventory = Changer(transport).inventory()
    assert [element.address for element in inventory.elements] == [1, 4096, 4097, 256]
    assert inventory.ports == ()
    assert not transport.answers


def test_without_dvcid_the_drives_are_still_listed() -> None:
    """A library that refuses DVCID gives drives without serial numbers, not an error."""

    def elements(kind: int, start: int, _dvcid: int) -> bytes:
        return report(kind, slot(start), slot(start + 1)) if kind == 2 else report(kind, slot(start))

    answers = [answer_by_start(elements)] * 2
    transport = Scripted(
        Completion(0, ADDRESSES), *answers, check_condition(Sense(5, 0x24)), answer_by_start(elements)
    )
    drives = Changer(transport).inventory().drives
    assert [(drive.address, drive.serial) for drive in drives] == [(256, None)]


def test_an_answer_that_does_not_fit_is_asked_for_again() -> None:
    """Longer descriptors than foreseen cost a second request, not elements."""
    long = [slot(4096 + n, b"X") + bytes(300) for n in range(2)]

    def elements(kind: int, start: int, _dvcid: int) -> bytes:
        return report(2, *long) if kind == 2 else report(kind, slot(start))

    transport = Scripted(Completion(0, ADDRESSES), *[answer_by_start(elements)] * 4)
    assert len(Changer(transport).inventory().slots) == 2
    assert not transport.answers


def test_a_big_library_is_asked_in_portions(tmp_path: Path) -> None:
    """More slots than one request asks for are all there, in order."""
    count = 2 * ELEMENTS_PER_REQUEST + 3
    slots = tuple(f"B{n:05d}L5" if n in (0, count - 1) else None for n in range(count))
    with_library = LibraryModel(tmp_path, spec(slots=slots))
    found = Changer(with_library.transport(CHANGER)).inventory().slots
    with_library.close()
    assert [slot.address for slot in found] == list(range(FIRST_SLOT, FIRST_SLOT + count))
    assert found[-1].barcode == f"B{count - 1:05d}L5"


def test_a_changer_without_addresses_is_an_error() -> None:
    """Without the address page nothing can be driven, and the message says what was missing."""
    with pytest.raises(errors.DeviceError, match="address assignment"):
        Changer(Scripted(Completion(0, bytes(4)))).inventory()


def test_a_block_descriptor_before_the_page_is_passed_over() -> None:
    """Some changers send a block descriptor although asked not to."""
    with_descriptor = ADDRESSES[:3] + b"\x08" + bytes(8) + ADDRESSES[4:]
    transport = Scripted(Completion(0, with_descriptor), GOOD)
    Changer(transport).move(4096, 256)
    assert transport.cdbs[1].hex() == "a50000011000010000000000"


def test_moves_are_repeated_after_a_reset_but_not_after_a_change() -> None:
    """A reset means nothing to addresses; cartridges moved by somebody else mean everything."""
    reset, changed = check_condition(Sense(6, 0x29)), check_condition(Sense(6, 0x28, 0x01))
    changer = Changer(Scripted(Completion(0, ADDRESSES), reset, GOOD))
    changer.move(4096, 256)
    changer = Changer(Scripted(Completion(0, ADDRESSES), changed))
    with pytest.raises(errors.UnitAttentionError):
        changer.move(4096, 256)


def test_inventory_finds_cartridges_and_elements(tmp_path: Path) -> None:
    """A load changes slot and drive element, and the drive names the slot it came from."""
    library = LibraryModel(tmp_path, spec())
    changer = Changer(library.transport(CHANGER))
    changer.initialize()
    changer.move(FIRST_SLOT + 1, FIRST_DRIVE)
    changer.move(FIRST_SLOT, FIRST_PORT)
    inventory = changer.inventory()
    drive = inventory.at(FIRST_DRIVE)
    port = inventory.find(BARCODES[0])
    library.close()
    assert drive is not None
    assert port is not None
    assert (drive.barcode, drive.source) == (BARCODES[1], FIRST_SLOT + 1)
    assert (port.kind, port.address) == (ElementKind.PORT, FIRST_PORT)
    assert inventory.at(9999) is None
    assert inventory.find("NOSUCH") is None
