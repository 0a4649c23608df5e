"""Only listed libraries, drives and cartridges are touched, and none that somebody else uses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.mediaserver.backends import Hold
from appliance.ndmp import messages as m
from appliance.ndmp.client import Client
from appliance.ndmp.enums import ALL_ONES, ErrorCode, MoverMode, MtioOp, TapeOpenMode
from tape.changer import Changer, Inventory
from tape.commands import (
    EXCHANGE_MEDIUM,
    MOVE_MEDIUM,
    PREVENT_ALLOW,
    RELEASE_6,
    RESERVE_6,
    TEST_UNIT_READY,
    Command,
)
from tape.errors import DeviceHeldError
from tape.model.faults import CartridgeFault
from tape.sense import Sense, SenseKey
from tape.transport import Completion, ScsiStatus
from tests.unit.mediaserver.support import (
    CARTRIDGES,
    CHANGER,
    DRIVE,
    WAIT_S,
    ExampleLibrary,
    GatedBackend,
    NdmpTransport,
    Site,
    error_of,
    mover,
    mtio,
    write,
)

ONE, TWO, FOREIGN = CARTRIDGES


@pytest.fixture
def narrow(tmp_path: Path) -> Iterator[Site]:
    """A media server whose configuration lists one of two drives, two of three cartridges."""
    made = Site(tmp_path / "library", config=ExampleLibrary(drives=("DRV1",), readable=()))
    yield made
    made.close()


def inventory(site: Site) -> Inventory:
    """What is where, by the library itself."""
    with Changer(site.model.transport("CHG1")) as changer:
        return changer.inventory()


def where(site: Site, barcode: str) -> int:
    """The element that holds a cartridge."""
    element = inventory(site).find(barcode)
    assert element is not None
    return element.address


def robot(site: Site) -> Client:
    """A DMA that has the changer open."""
    client = site.client()
    client.do(m.ScsiOpenRequest(CHANGER))
    return client


def send(client: Client, command: Command, **fields: int) -> ErrorCode | Completion:
    """A changer command, as a DMA sends it; the refusal, or how it ended."""
    request = m.ScsiExecuteCdbRequest(cdb=command.cdb(**fields))
    code = error_of(client, request)
    if code is not ErrorCode.NO_ERR:
        return code
    return Completion(ScsiStatus.GOOD)


def move(client: Client, source: int, destination: int) -> ErrorCode | Completion:
    """MOVE MEDIUM."""
    return send(client, MOVE_MEDIUM, source=source, destination=destination)


def test_a_cartridge_that_is_not_listed_is_not_moved(narrow: Site) -> None:
    """Neither by MOVE MEDIUM nor as one of the two of EXCHANGE MEDIUM; the robot hears nothing."""
    client, before = robot(narrow), inventory(narrow)
    drive = before.drives[0].address
    free = next(slot.address for slot in before.slots if not slot.full)
    foreign, listed = where(narrow, FOREIGN), where(narrow, ONE)
    assert move(client, foreign, drive) is ErrorCode.PERMISSION
    assert move(client, foreign, free) is ErrorCode.PERMISSION
    for source, first in ((foreign, listed), (listed, foreign)):
        fields = {"source": source, "first_destination": first, "second_destination": free}
        assert send(client, EXCHANGE_MEDIUM, **fields) is ErrorCode.PERMISSION
    assert inventory(narrow) == before
    assert not {MOVE_MEDIUM.opcode, EXCHANGE_MEDIUM.opcode} & set(narrow.backend.gates["CHG1"].opcodes)
    assert move(client, listed, drive) == Completion(ScsiStatus.GOOD)


def test_a_drive_that_is_not_listed_is_another_hosts(narrow: Site) -> None:
    """A library may be shared: no cartridge is brought to or taken from drives of others."""
    client, drives = robot(narrow), inventory(narrow).drives
    assert move(client, where(narrow, ONE), drives[1].address) is ErrorCode.PERMISSION
    narrow.operator_moves(TWO, 1)
    free = next(slot.address for slot in inventory(narrow).slots if not slot.full)
    assert move(client, drives[1].address, free) is ErrorCode.PERMISSION
    assert move(client, where(narrow, ONE), drives[0].address) == Completion(ScsiStatus.GOOD)


def test_a_cartridge_without_label_is_not_moved(narrow: Site) -> None:
    """What it is cannot be known, so it is none of the listed ones."""
    narrow.model.faults.add(CartridgeFault(ONE, shown_as=""))
    client, drives = robot(narrow), inventory(narrow).drives
    unlabelled = next(slot for slot in inventory(narrow).slots if slot.full and not slot.barcode)
    assert move(client, unlabelled.address, drives[0].address) is ErrorCode.PERMISSION


def test_what_may_be_read_may_be_moved_and_not_written(site: Site) -> None:
    """`readable` is for old tapes and cleaning cartridges."""
    client = robot(site)
    assert move(client, where(site, FOREIGN), inventory(site).drives[0].address) == Completion(
        ScsiStatus.GOOD
    )
    assert error_of(client, m.TapeOpenRequest(DRIVE, TapeOpenMode.RDWR)) is ErrorCode.PERMISSION
    assert error_of(client, m.TapeOpenRequest(DRIVE, TapeOpenMode.READ)) is ErrorCode.NO_ERR


@pytest.mark.parametrize("action", [0x08, 0x0A, 0x0C])
def test_labels_cannot_be_given_by_a_dma(site: Site, action: int) -> None:
    """A SEND VOLUME TAG that asserts, replaces or removes a tag would make any cartridge a listed one."""
    cdb = bytes([0xB6, 0, 0, 0, 0, action, 0, 0, 0, 0, 0, 0])
    assert error_of(robot(site), m.ScsiExecuteCdbRequest(cdb=cdb)) is ErrorCode.ILLEGAL_ARGS
    assert 0xB6 not in site.backend.gates["CHG1"].opcodes


def test_a_cartridge_is_not_taken_from_under_a_stream(site: Site) -> None:
    """Some robots have the drive rewind and eject by itself: while a mover runs, its drive is left alone."""
    client = site.opened()
    client.do(m.MoverSetRecordSizeRequest(1000))
    client.do(m.MoverSetWindowRequest(0, ALL_ONES))
    site.listen(client, MoverMode.READ)
    other = robot(site)
    drive, free = inventory(site).drives[0].address, inventory(site).slots[0].address
    assert move(other, drive, free) is ErrorCode.DEVICE_BUSY
    client.do(m.MoverAbortRequest())
    assert mover(client).state.name == "HALTED"
    assert move(other, drive, free) == Completion(ScsiStatus.GOOD)


def test_a_dma_hears_of_moved_cartridges_even_if_we_asked_before(site: Site) -> None:
    """Unit attention 28h tells a DMA that its inventory is old; our own questions do not swallow it."""
    client = robot(site)
    with Changer(NdmpTransport(client)) as changer:
        seen = changer.inventory()
        site.libraries.libraries[0].inventory()
        told = Sense(SenseKey.UNIT_ATTENTION, 0x28, 0x01)
        gate = site.backend.gates["CHG1"]
        gate.fail(0xB8, Completion(ScsiStatus.CHECK_CONDITION, sense=told.encode()))
        site.libraries.libraries[0].inventory()
        source, drive = seen.find(ONE), seen.drives[0].address
        assert source is not None
        cdb = MOVE_MEDIUM.cdb(transport=1, source=source.address, destination=drive)
        reply = client.call(m.ScsiExecuteCdbRequest(cdb=cdb), m.ScsiExecuteCdbReply, WAIT_S)
        assert reply.status == ScsiStatus.CHECK_CONDITION
        assert Sense.parse(reply.ext_sense).code == told.code
        assert inventory(site).drives[0].full is False
        changer.move(source.address, drive)
    assert inventory(site).drives[0].barcode == ONE


def test_two_cartridges_with_one_barcode_are_not_written(site: Site) -> None:
    """One of the two labels lies, and nobody can know which."""
    site.operator_moves(FOREIGN)
    site.model.faults.add(CartridgeFault(FOREIGN, shown_as=ONE))
    client = site.client()
    assert error_of(client, m.TapeOpenRequest(DRIVE, TapeOpenMode.RDWR)) is ErrorCode.PERMISSION
    assert error_of(client, m.TapeOpenRequest(DRIVE, TapeOpenMode.READ)) is ErrorCode.NO_ERR


def test_a_write_after_an_exchange_is_not_done(site: Site) -> None:
    """A drive that tells nothing of a new cartridge (tgt): who writes next has the old position in mind."""
    client = site.opened()
    write(client, b"first")
    site.libraries.libraries[0].inventory()
    other, seen = robot(site), inventory(site)
    drive, free = seen.drives[0].address, next(slot.address for slot in seen.slots if not slot.full)
    assert move(other, drive, free) == Completion(ScsiStatus.GOOD)
    assert move(other, where(site, TWO), drive) == Completion(ScsiStatus.GOOD)
    with site.model.transport("DRV1") as transport:
        transport.execute(TEST_UNIT_READY.cdb())
    assert error_of(client, m.TapeWriteRequest(b"meant for the first")) is ErrorCode.IO
    mtio(client, MtioOp.REW)
    write(client, b"meant for the second")


# -- other hosts and programs --------------------------------------------------------------------------
def test_a_drive_that_another_host_has_reserved_is_left_alone(site: Site) -> None:
    """TAPE_OPEN is DEVICE_BUSY while the reservation stands."""
    site.operator_moves(ONE)
    client = site.client()
    with site.model.transport("DRV1", "another host") as other:
        assert other.execute(TEST_UNIT_READY.cdb()).status != ScsiStatus.RESERVATION_CONFLICT
        assert other.execute(RESERVE_6.cdb()).status == ScsiStatus.GOOD
        assert error_of(client, m.TapeOpenRequest(DRIVE)) is ErrorCode.DEVICE_BUSY
        assert other.execute(RELEASE_6.cdb()).status == ScsiStatus.GOOD
        assert error_of(client, m.TapeOpenRequest(DRIVE)) is ErrorCode.NO_ERR


def test_an_open_drive_is_reserved(site: Site) -> None:
    """No other host gets at it before TAPE_CLOSE."""
    client = site.opened()
    with site.model.transport("DRV1", "another host") as other:
        # The first command of a host is answered with the unit attention that waits for it.
        other.execute(TEST_UNIT_READY.cdb())
        assert other.execute(TEST_UNIT_READY.cdb()).status == ScsiStatus.RESERVATION_CONFLICT
        client.do(m.TapeCloseRequest())
        assert other.execute(TEST_UNIT_READY.cdb()).status != ScsiStatus.RESERVATION_CONFLICT


@pytest.mark.parametrize("reserve", [True, False])
def test_drives_without_reservations_are_used_without(tmp_path: Path, reserve: bool) -> None:
    """A drive that does not know RESERVE (tgt) is opened all the same; with reserve = false none is sent."""
    made = Site(tmp_path / "library", config=ExampleLibrary(reserve=reserve))
    try:
        sense = Sense(SenseKey.ILLEGAL_REQUEST, 0x20, 0x00).encode()
        made.gate.fail(RESERVE_6.opcode, Completion(ScsiStatus.CHECK_CONDITION, sense=sense))
        made.opened().do(m.TapeCloseRequest())
        assert (RESERVE_6.opcode in made.gate.opcodes) is reserve
        assert RELEASE_6.opcode not in made.gate.opcodes
    finally:
        made.close()


def test_a_drive_that_another_program_uses_is_left_alone(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """An open st node, or another process, is DEVICE_BUSY; the session can open the drive later."""
    held, given_back = [True], [0]

    class Given:
        def close(self) -> None:
            given_back[0] += 1

    def hold(_backend: GatedBackend, serial: str) -> Hold:
        if held[0]:
            raise DeviceHeldError("in use: another program has /dev/nst0 open", device=serial)
        return Given()

    monkeypatch.setattr(GatedBackend, "hold", hold)
    site.operator_moves(ONE)
    client = site.client()
    assert error_of(client, m.TapeOpenRequest(DRIVE)) is ErrorCode.DEVICE_BUSY
    assert error_of(client, m.ScsiOpenRequest(CHANGER)) is ErrorCode.DEVICE_BUSY
    assert TEST_UNIT_READY.opcode not in site.gate.opcodes
    held[0] = False
    client.do(m.TapeOpenRequest(DRIVE))
    client.do(m.TapeCloseRequest())
    assert given_back == [1]


# -- what a session leaves -----------------------------------------------------------------------------
def test_what_a_dma_locked_in_is_let_go_with_its_session(site: Site) -> None:
    """PREVENT and RESERVE end with the session, on drives and changers, however it ends."""
    client = site.opened()
    client.do(m.TapeExecuteCdbRequest(cdb=PREVENT_ALLOW.cdb(prevent=1)))
    changer = robot(site)
    changer.do(m.ScsiExecuteCdbRequest(cdb=RESERVE_6.cdb()))
    drive, free = inventory_addresses(changer)
    assert move(changer, drive, free) == Completion(ScsiStatus.GOOD)
    assert where_through(changer, ONE) == drive
    site.drop(client)
    assert move(changer, drive, free) == Completion(ScsiStatus.GOOD)
    assert where_through(changer, ONE) == free
    site.drop(changer)
    with site.model.transport("CHG1", "another host") as other:
        other.execute(TEST_UNIT_READY.cdb())
        assert other.execute(TEST_UNIT_READY.cdb()).status == ScsiStatus.GOOD


def test_what_a_dma_undid_itself_is_not_undone_again(site: Site) -> None:
    """A DMA that cleans up behind itself sees no command of ours."""
    changer = robot(site)
    for cdb in (PREVENT_ALLOW.cdb(prevent=1), PREVENT_ALLOW.cdb(prevent=0), RESERVE_6.cdb(), RELEASE_6.cdb()):
        changer.do(m.ScsiExecuteCdbRequest(cdb=cdb))
    sent = len(site.backend.gates["CHG1"].opcodes)
    changer.do(m.ScsiCloseRequest())
    assert len(site.backend.gates["CHG1"].opcodes) == sent


def inventory_addresses(client: Client) -> tuple[int, int]:
    """The first drive and a free slot, asked through a session."""
    with Changer(NdmpTransport(client)) as changer:
        seen = changer.inventory()
    return seen.drives[0].address, next(slot.address for slot in seen.slots if not slot.full)


def where_through(client: Client, barcode: str) -> int:
    """The element that holds a cartridge, asked through a session."""
    with Changer(NdmpTransport(client)) as changer:
        element = changer.inventory().find(barcode)
    assert element is not None
    return element.address
