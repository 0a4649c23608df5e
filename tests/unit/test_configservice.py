"""CONFIG, as file server and media server both answer it (draft-skardal-ndmpv4-04, 3.2)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.accounts import load_accounts
from appliance.configservice import ConfigService, host_id
from appliance.errors import ConfigurationError
from appliance.ndmp import messages as m
from appliance.ndmp.enums import AddressType, AuthType, ErrorCode
from appliance.ndmp.errors import RefusalError
from appliance.ndmp.xdr import Struct


def answer(service: ConfigService, request: Struct) -> Struct:
    """The reply to one request."""
    return service.handlers()[type(request)](request)


def test_host_and_connections_are_told() -> None:
    """Name, a host id that stays the same, and TCP."""
    service = ConfigService("media1")
    first, second = (answer(service, m.ConfigGetHostInfoRequest()) for _ in range(2))
    assert first == second
    assert isinstance(first, m.ConfigGetHostInfoReply)
    assert (first.hostname, len(first.hostid)) == (b"media1", 16)
    assert answer(service, m.ConfigGetConnectionTypeRequest()) == m.ConfigGetConnectionTypeReply(
        addr_types=(AddressType.TCP,)
    )


def test_the_host_id_does_not_give_the_machine_id_away(tmp_path: Path) -> None:
    """It follows the machine id, not the name, and cannot be read back; without one the name must do."""
    machine = tmp_path / "machine-id"
    machine.write_text("0123456789abcdef0123456789abcdef\n")
    assert host_id("a", machine) == host_id("b", machine)
    assert host_id("a", machine) not in machine.read_text()
    absent = tmp_path / "absent"
    assert host_id("a", absent) == host_id("a", absent) != host_id("b", absent)


def test_strangers_are_told_only_how_to_log_in() -> None:
    """Vendor, product and revision stay hidden before the login (draft, 3.2.2)."""
    known = False
    service = ConfigService("media1", authorized=lambda: known)
    assert answer(service, m.ConfigGetServerInfoRequest()) == m.ConfigGetServerInfoReply(
        auth_types=(AuthType.MD5,)
    )
    known = True
    told = answer(service, m.ConfigGetServerInfoRequest())
    assert isinstance(told, m.ConfigGetServerInfoReply)
    assert told.vendor_name
    assert told.product_name
    assert told.revision_number


@pytest.mark.parametrize(
    "request_",
    [
        m.ConfigGetButypeInfoRequest,
        m.ConfigGetFsInfoRequest,
        m.ConfigGetTapeInfoRequest,
        m.ConfigGetScsiInfoRequest,
    ],
)
def test_an_interface_that_is_not_there_is_not_supported(request_: Callable[[], Struct]) -> None:
    """A server without tapes says so, instead of an empty list that looks like broken hardware."""
    with pytest.raises(RefusalError) as refusal:
        answer(ConfigService("fs1"), request_())
    assert refusal.value.code is ErrorCode.NOT_SUPPORTED


def test_lists_are_asked_for_each_time() -> None:
    """Devices that come later are in the next answer."""
    devices: list[m.DeviceInfo] = []
    service = ConfigService("media1", tapes=lambda: devices)
    assert answer(service, m.ConfigGetTapeInfoRequest()) == m.ConfigGetTapeInfoReply()
    devices.append(m.DeviceInfo(b"HP Ultrium 5", (m.DeviceCapability(b"drive:X"),)))
    assert answer(service, m.ConfigGetTapeInfoRequest()) == m.ConfigGetTapeInfoReply(tape_info=tuple(devices))


def test_accounts_must_be_secret(tmp_path: Path) -> None:
    """A file that others can read is refused; a private one gives the passwords."""
    path = tmp_path / "accounts.toml"
    path.write_text('dma = "secret"\n')
    path.chmod(0o640)
    with pytest.raises(ConfigurationError, match="0600"):
        load_accounts(path)
    path.chmod(0o600)
    assert load_accounts(path).passwords == {"dma": "secret"}
    assert load_accounts(path).types() == (AuthType.MD5,)
