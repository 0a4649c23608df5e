"""Node configuration: what the harness writes, the appliance reads."""

from __future__ import annotations

import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from harness_support import FakeProvider

from appliance import config as appliance_config
from harness import lab as labs
from harness import nodeconfig, secretstore
from harness import topology as topologies
from harness.events import Events
from harness.info import describe

NODES = ["fs1", "fs2", "conn1", "media1", "backup1"]


@pytest.fixture
def provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeProvider:
    """The shipped process topology on folders."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(secretstore, "make_certificates", lambda *_: None)
    made = secretstore.NodeCertificate(b"ca", b"certificate", b"key")
    monkeypatch.setattr(secretstore, "certificate", lambda *_: made)
    topology = topologies.read(topologies.find("process"))
    lab = labs.create("process", topology)
    return FakeProvider(lab.topology(), lab, Events())


@pytest.mark.parametrize("name", NODES)
def test_appliance_accepts_every_nodes_file(provider: FakeProvider, name: str, tmp_path: Path) -> None:
    """The appliance's own reader takes each file, with its unknown keys refused."""
    node = provider.topology.node(name)
    path = tmp_path / "node.toml"
    path.write_bytes(nodeconfig.files(provider, node)[0].content)
    loaded = appliance_config.load(path)
    assert loaded.node.name == name
    assert loaded.node.address == node.address


def test_secrets_are_marked_and_nowhere_else(provider: FakeProvider) -> None:
    """Passwords and keys are in secret files only, never in the configuration."""
    password = secretstore.password(provider.lab).encode()
    assert len(password) == 24
    for name in NODES:
        for item in nodeconfig.files(provider, provider.topology.node(name)):
            holds = password in item.content or item.content == b"key"
            assert holds == item.secret, item.path


def test_password_is_one_however_many_ask_at_once(provider: FakeProvider) -> None:
    """Nodes configured in parallel all get the same whole password."""
    with ThreadPoolExecutor(16) as pool:
        made = set(pool.map(lambda _: secretstore.password(provider.lab), range(64)))
    assert len(made) == 1
    assert len(made.pop()) == 24
    assert [path.name for path in provider.lab.secrets.glob("ndmp*")] == ["ndmp.password"]


def test_only_owners_know_local_roots(provider: FakeProvider) -> None:
    """No configuration file holds a local root: the map is given to its writer, at run time."""
    for name in NODES:
        for item in nodeconfig.files(provider, provider.topology.node(name)):
            assert provider.lab.token.encode() not in item.content
    assert all(provider.lab.token in item["local"] for item in nodeconfig.gns_map(provider))


def test_backup_server_reaches_servers_where_the_provider_says(provider: FakeProvider) -> None:
    """The DMA's list of servers has the recording relays' addresses, if the provider has relays."""
    provider.ndmp_reachable_at = lambda node: ("127.77.0.41", 11000 + int(node.address[-2:]))  # type: ignore[method-assign]
    content = nodeconfig.files(provider, provider.topology.node("backup1"))[0].content.decode()
    servers = tomllib.loads(content)["backup_server"]["servers"]
    assert [(server["name"], server["port"]) for server in servers] == [
        ("fs1", 11011),
        ("fs2", 11012),
        ("fs3", 11013),
        ("media1", 11031),
    ]


def test_toml_round_trip() -> None:
    """What is written reads back as it was, whatever is in the strings."""
    table = {
        "a": 1,
        "b": 'quo"te\\ \t ü',
        "c": {"d": ["x", "y"], "e": [{"f": True}, {"f": False, "g": []}]},
        "h": {},
    }
    assert tomllib.loads(nodeconfig.to_toml(table)) == table


def test_info_has_the_fixed_shape(provider: FakeProvider) -> None:
    """`lab info --json` has exactly the keys other tools rely on."""
    described = describe(provider)
    assert list(described) == ["lab", "topology", "state", "netns", "nodes", "gns", "tape"]
    node = described["nodes"][0]
    keys = ["name", "roles", "address", "ndmp_port", "ndmp_user", "ndmp_password", "local_root"]
    assert list(node) == keys
    assert (node["name"], node["address"], node["ndmp_port"]) == ("fs1", "127.77.0.11", 10000)
    assert list(described["gns"][0]) == ["global_path", "owner", "local_path"]
    assert described["tape"]["drives"][0] == {"ndmp_device": "drive:SPRDRV0001", "serial": "SPRDRV0001"}
    assert described["tape"]["changer"]["ndmp_device"] == "changer:SPRLIB0001"
    assert described["tape"]["slots"][0] == {"address": 4096, "barcode": "SPR001L5"}
    assert len(described["tape"]["slots"]) == 16
