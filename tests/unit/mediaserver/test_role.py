"""The role as `spanreel serve media-server` runs it: from a configuration to a listening server."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from appliance.config import NodeConfig, parse
from appliance.errors import ConfigurationError
from appliance.mediaserver.backends import SgBackend
from appliance.mediaserver.libraries import Libraries, Library
from appliance.mediaserver.role import MediaServerRole
from appliance.ndmp import messages as m
from appliance.ndmp.client import Client
from appliance.ndmp.enums import AuthType, ErrorCode, TapeOpenMode
from appliance.ndmp.errors import ReplyError
from appliance.ndmp.types import AuthData
from tape.commands import MOVE_MEDIUM
from tape.model import dump
from tape.transport import ScsiStatus
from tests.unit.mediaserver.support import CARTRIDGES, ExampleLibrary, Site


def free_port() -> int:
    """A port that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def configuration(folder: Path, port: int) -> NodeConfig:
    """A node with the role media-server and one model library."""
    accounts = folder / "accounts.toml"
    accounts.write_text('dma = "secret"\n')
    accounts.chmod(0o600)
    return parse(
        f"""
        schema = 1
        [node]
        name = "media1"
        address = "127.0.0.1"
        state = "{folder}"
        [ndmp]
        port = {port}
        accounts = "{accounts}"
        [media_server]
        [[media_server.libraries]]
        transport = "model"
        changer = "CHG1"
        drives = ["DRV1", "DRV2"]
        writable = ["VTL001L5"]
        folder = "{folder}/library"
        slots = ["VTL001L5", "VTL002L5"]
        """,
        folder / "spanreel.toml",
    )


def test_a_configured_node_serves_its_library(tmp_path: Path) -> None:
    """Devices are listed under their serial numbers, after a login with a configured account."""
    role = MediaServerRole(configuration(tmp_path, free_port()))
    (address,) = role.start()
    try:
        with Client.connect(address) as client:
            with pytest.raises(ReplyError) as refusal:
                client.login("dma", "wrong")
            assert refusal.value.code is ErrorCode.NOT_AUTHORIZED
        with Client.connect(address) as client:
            client.login("dma", "secret")
            tapes = client.call(m.ConfigGetTapeInfoRequest(), m.ConfigGetTapeInfoReply).tape_info
            changers = client.call(m.ConfigGetScsiInfoRequest(), m.ConfigGetScsiInfoReply).scsi_info
    finally:
        role.stop()
    assert [info.caplist[0].device for info in tapes] == [b"drive:DRV1", b"drive:DRV2"]
    assert [info.caplist[0].device for info in changers] == [b"changer:CHG1"]
    assert {info.model.split()[0] for info in (*tapes, *changers)} == {b"SPANREEL"}


@pytest.mark.parametrize("text", [False, True])
def test_clear_text_is_offered_where_the_configuration_says_so(tmp_path: Path, text: bool) -> None:
    """What CONFIG_GET_SERVER_INFO lists is what a login may use."""
    config = configuration(tmp_path, free_port())
    assert config.ndmp is not None
    config = config.model_copy(update={"ndmp": config.ndmp.model_copy(update={"text": text})})
    role = MediaServerRole(config)
    (address,) = role.start()
    data = AuthData(AuthType.TEXT, b"dma", b"secret")
    try:
        with Client.connect(address) as client:
            client.open()
            info = client.call(m.ConfigGetServerInfoRequest(), m.ConfigGetServerInfoReply)
            if text:
                client.do(m.ConnectClientAuthRequest(data))
            else:
                with pytest.raises(ReplyError, match="ILLEGAL_ARGS"):
                    client.do(m.ConnectClientAuthRequest(data))
    finally:
        role.stop()
    assert (AuthType.TEXT in info.auth_types) is text
    assert AuthType.MD5 in info.auth_types


def test_stopping_frees_port_and_library(tmp_path: Path) -> None:
    """The same configuration can be started again in the same process."""
    config = configuration(tmp_path, free_port())
    for _ in range(2):
        role = MediaServerRole(config)
        role.start()
        role.stop()


def test_stopping_waits_for_the_last_filemark(tmp_path: Path) -> None:
    """A session that is cut off by the stop still ends its tape properly, and the next start finds that."""
    config = configuration(tmp_path, free_port())
    role = MediaServerRole(config)
    (address,) = role.start()
    client = Client.connect(address)
    client.login("dma", "secret")
    client.do(m.ScsiOpenRequest(b"changer:CHG1"))
    client.ask(m.ScsiExecuteCdbRequest(cdb=bytes(6)))
    move = MOVE_MEDIUM.cdb(transport=1, source=4096, destination=256)
    assert client.call(m.ScsiExecuteCdbRequest(cdb=move), m.ScsiExecuteCdbReply).status == ScsiStatus.GOOD
    client.do(m.TapeOpenRequest(b"drive:DRV1", TapeOpenMode.RDWR))
    client.do(m.TapeWriteRequest(b"data"))
    role.stop()
    folder = tmp_path / "library"
    assert [list(dump(folder, "VTL001L5", number)) for number in (0, 1)] == [[b"data"], []]


def test_a_port_in_use_is_told(tmp_path: Path) -> None:
    """The system's error goes to `serve`, which names role and address; the library is free again."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        config = configuration(tmp_path, port)
        role = MediaServerRole(config)
        with pytest.raises(OSError, match="in use"):
            role.start()
        role.stop()
    role = MediaServerRole(config)
    role.start()
    role.stop()


def test_a_library_that_somebody_else_has_is_told(tmp_path: Path) -> None:
    """Two servers on one model folder would destroy cartridges: the second one does not start."""
    config = configuration(tmp_path, free_port())
    role = MediaServerRole(config)
    try:
        with pytest.raises(ConfigurationError, match="another process has the library"):
            MediaServerRole(config)
    finally:
        role.stop()


def test_devices_that_are_not_attached_are_told_and_not_opened() -> None:
    """An sg library whose devices are missing is served: listed as not attached, opened with IO."""
    library = Library(ExampleLibrary(transport="sg", changer="NOSUCH1", drives=("NOSUCH2",)), SgBackend())
    libraries = Libraries([library])
    assert [info.model for info in libraries.tape_info()] == [b"not attached"]
    assert [info.model for info in libraries.scsi_info()] == [b"not attached"]


def test_a_vanished_library_is_an_io_error(site: Site) -> None:
    """TAPE_OPEN of a drive that does not answer fails, and the drive is not left busy."""
    client = site.client()
    site.model.closed = True
    try:
        for _ in range(2):
            with pytest.raises(ReplyError) as refusal:
                client.do(m.TapeOpenRequest(b"drive:DRV1", TapeOpenMode.READ))
            assert refusal.value.code is ErrorCode.IO
    finally:
        site.model.closed = False


def test_drives_without_serials_go_by_their_order(site: Site) -> None:
    """Where the library does not tell which drive is which (no DVCID), the configuration's order counts."""
    site.operator_moves(CARTRIDGES[1], 1)
    library = site.libraries.libraries[0]
    assert [library.barcode_in(serial) for serial in ("DRV1", "DRV2")] == [None, CARTRIDGES[1]]
    gate = site.backend.gates["CHG1"]
    gate.mute = True
    assert [library.barcode_in(serial) for serial in ("DRV1", "DRV2")] == [None, CARTRIDGES[1]]
