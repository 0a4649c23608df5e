"""SCSI: the changer through a DMA's own commands (draft, 3.3)."""

from __future__ import annotations

import pytest

from appliance.ndmp import messages as m
from appliance.ndmp.enums import ErrorCode, TapeOpenMode
from appliance.ndmp.xdr import Struct
from tape.changer import Changer
from tape.commands import MOVE_MEDIUM
from tape.elements import ElementKind
from tape.sense import Sense
from tape.transport import ScsiStatus
from tests.unit.mediaserver.support import (
    CARTRIDGES,
    CHANGER,
    DRIVE,
    NdmpTransport,
    Site,
    error_of,
)


@pytest.mark.parametrize(
    "request_",
    [
        m.ScsiCloseRequest(),
        m.ScsiGetStateRequest(),
        m.ScsiResetDeviceRequest(),
        m.ScsiExecuteCdbRequest(cdb=bytes(6)),
    ],
    ids=lambda request: type(request).__name__,
)
def test_requests_without_a_changer(site: Site, request_: Struct) -> None:
    """Everything but SCSI_OPEN is DEV_NOT_OPEN before it."""
    assert error_of(site.client(), request_) is ErrorCode.DEV_NOT_OPEN


def test_opening_and_closing(site: Site) -> None:
    """One changer a session, one session a changer; closing and vanishing free it."""
    first, second = site.client(), site.client()
    assert error_of(first, m.ScsiOpenRequest(b"drive:DRV1")) is ErrorCode.NO_DEVICE
    assert error_of(first, m.ScsiOpenRequest(CHANGER)) is ErrorCode.NO_ERR
    assert error_of(first, m.ScsiOpenRequest(CHANGER)) is ErrorCode.DEVICE_OPENED
    assert error_of(second, m.ScsiOpenRequest(CHANGER)) is ErrorCode.DEVICE_BUSY
    assert error_of(first, m.ScsiResetDeviceRequest()) is ErrorCode.NOT_SUPPORTED
    assert error_of(first, m.ScsiCloseRequest()) is ErrorCode.NO_ERR
    assert error_of(second, m.ScsiOpenRequest(CHANGER)) is ErrorCode.NO_ERR
    site.drop(second)
    assert error_of(first, m.ScsiOpenRequest(CHANGER)) is ErrorCode.NO_ERR


def test_opening_does_no_io(site: Site) -> None:
    """The changer hears nothing before the DMA's first command (draft, 3.3.1)."""
    site.client().do(m.ScsiOpenRequest(CHANGER))
    assert site.backend.gates["CHG1"].opcodes == []


def test_a_dma_moves_cartridges_and_opens_the_drive(site: Site) -> None:
    """One session may have robot and tape open at once, as ndmjob does."""
    client = site.client()
    client.do(m.ScsiOpenRequest(CHANGER))
    with Changer(NdmpTransport(client)) as changer:
        inventory = changer.inventory()
        source = inventory.find(CARTRIDGES[1])
        assert source is not None
        changer.move(source.address, inventory.drives[0].address)
        client.do(m.TapeOpenRequest(DRIVE, TapeOpenMode.RDWR))
        assert [element.barcode for element in changer.inventory().drives] == [CARTRIDGES[1], None]


def test_a_failed_move_brings_its_sense(site: Site) -> None:
    """NO_ERR means delivered; status and sense tell what the robot thought of it."""
    client = site.client()
    client.do(m.ScsiOpenRequest(CHANGER))
    drives = site.model.spec.addresses(ElementKind.DRIVE)
    with Changer(NdmpTransport(client)) as changer:
        changer.inventory()
    empty = MOVE_MEDIUM.cdb(transport=1, source=drives[1], destination=drives[0])
    reply = client.call(m.ScsiExecuteCdbRequest(cdb=empty), m.ScsiExecuteCdbReply)
    assert reply.status == ScsiStatus.CHECK_CONDITION
    assert Sense.parse(reply.ext_sense).code == (0x3B, 0x0E)


@pytest.mark.parametrize("opcode", [0x3B, 0x0A, 0x5F, 0x04, 0xFF])
def test_commands_that_are_not_a_changers_business(site: Site, opcode: int) -> None:
    """What is not in the table of commands is ILLEGAL_ARGS and never sent."""
    client = site.client()
    client.do(m.ScsiOpenRequest(CHANGER))
    request = m.ScsiExecuteCdbRequest(cdb=bytes([opcode]) + bytes(9))
    assert error_of(client, request) is ErrorCode.ILLEGAL_ARGS
    assert site.backend.gates["CHG1"].opcodes == []


def test_a_move_through_the_server_is_noticed_without_unit_attention(site: Site) -> None:
    """Drives that do not tell of a new cartridge (tgt) are not written either when it is not listed."""
    client = site.opened()
    library, unit = site.libraries.drive(DRIVE)
    library.barcode_in("DRV1")
    robot = site.client()
    robot.do(m.ScsiOpenRequest(CHANGER))
    with Changer(NdmpTransport(robot)) as changer:
        inventory = changer.inventory()
        drive, free = inventory.drives[0].address, inventory.slots[0].address
        source = inventory.find(CARTRIDGES[2])
        assert source is not None
        changer.move(drive, free)
        changer.move(source.address, drive)
    # The drive tells of the change once; here that goes past the session that has it open.
    with site.model.transport("DRV1") as transport:
        transport.execute(bytes(6))
    assert unit.moves == 2
    assert error_of(client, m.TapeWriteRequest(b"data")) is ErrorCode.PERMISSION
