"""The node's configuration: what loads, and what the errors say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError

from appliance import cli, config
from appliance.config import NodeConfig, load, parse, read_accounts, read_password
from appliance.config_examples import example
from appliance.errors import ConfigurationError
from appliance.files import replace_file
from appliance.ndmp.accounts import Account
from appliance.ndmp.networks import Networks
from appliance.roles import FILE_SERVER, ROLES

SOURCE = Path("node.toml")


def _error(text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        parse(text, SOURCE)
    return str(caught.value)


def _file_server(old: str = "", new: str = "") -> str:
    text = example([FILE_SERVER])
    assert old in text
    return text.replace(old, new, 1)


@pytest.mark.parametrize("roles", [*([role] for role in ROLES), list(ROLES), list(reversed(ROLES))])
def test_each_example_loads_and_suffices_for_its_roles(roles: list[str]) -> None:
    """What `--example` prints is a valid configuration for the roles asked, alone and together."""
    loaded = parse(example(roles), SOURCE)
    loaded.check_roles(roles)


def test_an_example_of_one_role_does_not_pass_for_another() -> None:
    """check_roles names the role and the sections that are missing."""
    with pytest.raises(ConfigurationError, match=r"file-server needs \[ndmp\], \[cluster\], \[file_server\]"):
        parse(example(["backup-server"]), SOURCE).check_roles(["file-server"])
    with pytest.raises(ConfigurationError, match="no role 'tape'; allowed: file-server"):
        parse(example(["backup-server"]), SOURCE).check_roles(["tape"])
    with pytest.raises(ConfigurationError, match="no role 'tape'; allowed: file-server"):
        example(["tape"])


def _keys(model: Any) -> Iterator[str]:
    if isinstance(model, UnionType) or get_args(model):
        for argument in get_args(model):
            yield from _keys(argument)
    elif isinstance(model, type) and issubclass(model, BaseModel):
        for name, field in model.model_fields.items():
            yield field.alias or name
            yield from _keys(field.annotation)


def test_the_examples_show_every_key() -> None:
    """Nobody has to read the source to find a key."""
    text = example(ROLES)
    missing = [
        key for key in set(_keys(NodeConfig)) if not re.search(rf"^\[*([a-z_]+\.)?{key}\b", text, re.M)
    ]
    assert missing == []


def test_the_configuration_cannot_be_changed() -> None:
    """Roles share one configuration between threads; nobody writes to it."""
    loaded = parse(example([FILE_SERVER]), SOURCE)
    with pytest.raises(ValidationError, match="frozen"):
        loaded.node.log = "debug"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('log = "info"', 'log = "loud"', "node.log: 'loud' must be 'debug', 'info', 'warning' or 'error'"),
        ("port = 10000", "port = 99999", "ndmp.port: 99999 must be less than or equal to 65535"),
        ("port = 10000", 'port = "x"', "ndmp.port: 'x' must be a valid integer"),
        ('feed = "tls"', 'fed = "tls"', "cluster.fed: unknown key; allowed here: port, authority,"),
        ("[file_server]", "[fileserver]", "fileserver: unknown key; allowed here: schema, node, ndmp,"),
        (
            'name = "conn1"',
            'nome = "conn1"',
            "cluster.nodes[0].name: is missing; cluster.nodes[0].nome: unknown",
        ),
        (
            "schema = 1",
            "schema = 2",
            "a newer Spanreel wrote this configuration: it has schema 2, and this one",
        ),
        ("schema = 1", "schema = 0", "must have a key `schema` with a number up to 1"),
        ("schema = 1", "", "schema: is missing"),
        ('"10.77.0.11"', '"fs1.example"', "node.address: 'fs1.example' must be an IPv4 address"),
        ('"10.77.0.11:9700"', '"fs1:9700"', "node.metrics: 'fs1:9700' must be ADDRESS:PORT"),
        ('"10.77.0.11:9700"', '"10.77.0.11"', "node.metrics: '10.77.0.11' must be ADDRESS:PORT"),
        ("sessions_max = 256", "sessions_max = 0", "ndmp.sessions_max: 0 must be greater than or equal to 1"),
        ('"20000-20999"', '"20999-20000"', "ndmp.data_ports: '20999-20000' must be two ports"),
        ('"20000-20999"', '"1-99999"', "ndmp.data_ports: '1-99999' must be two ports"),
        ('allow = ["10.77.0.0/24"]', 'allow = ["fs1"]', "ndmp.allow: ['fs1'] must be networks such as"),
        ("accept_timeout = 600", "accept_timeout = 0", "ndmp.accept_timeout: 0 must be greater than 0"),
        ('"/srv/gns"', '"gns"', "file_server.export_root: 'gns' must be an absolute path"),
        ('export_root = "/srv/gns"', "", "file_server.export_root: must be given when nfs is true"),
        ('name = "fs1"', 'name = "FS 1"', "node.name: 'FS 1' must match ^[a-z0-9]"),
        ('clients = ["10.77.0.0/24"]', 'clients = ["a b"]', "file_server.clients[0]: 'a b' must be a host"),
        ("schema = 1", "schema = ", "not TOML: Invalid value (at line 4"),
    ],
)
def test_an_error_names_file_key_and_what_is_allowed(old: str, new: str, said: str) -> None:
    """One line leads to the mistake and to the way out."""
    error = _error(_file_server(old, new))
    assert error.startswith("node.toml: ")
    assert said in error
    assert "\n" not in error


@pytest.mark.parametrize(
    ("role", "old", "new", "said"),
    [
        (
            "media-server",
            'folder = "/var/lib/spanreel/model"',
            "",
            "media_server.libraries[1].folder: must be given when transport is 'model'",
        ),
        (
            "media-server",
            'transport = "model"',
            'transport = "sg"',
            "media_server.libraries[1].capacity, folder, slots: allowed only when transport is 'model'",
        ),
        ("media-server", '["MODELDRIVE1"]', "[]", "media_server.libraries[1].drives"),
        ("media-server", '"MOD002L5"]', '"MOD001L5"]', "must not name the same thing twice"),
        ("backup-server", "262144", "1000", "backup_server.record_size: 1000 must be a multiple of 512"),
        (
            "backup-server",
            'entry = "fs1"',
            'entry = "fs9"',
            "backup_server.entry: must be one of the servers: fs1, media1",
        ),
        (
            "backup-server",
            '[[backup_server.servers]]\nname = "media1"',
            '[[backup_server.servers]]\nname = "fs1"',
            "backup_server.servers: two servers have the same name",
        ),
    ],
)
def test_rules_between_keys_are_explained(role: str, old: str, new: str, said: str) -> None:
    """Keys that exclude or need each other are named together with the reason."""
    text = example([role])
    assert old in text
    assert said in _error(text.replace(old, new, 1))


def test_many_mistakes_stay_one_readable_line() -> None:
    """Some mistakes are shown, the rest are counted."""
    unknown = "".join(f"key{number} = 1\n" for number in range(14))
    assert _error(unknown + example([FILE_SERVER])).endswith("and 9 more")


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    """The newcomer's first error leads on."""
    with pytest.raises(ConfigurationError, match=r"none\.toml: cannot read .* --example"):
        load(tmp_path / "none.toml")


def test_sections_are_typed_and_missing_ones_are_named(tmp_path: Path) -> None:
    """`section` gives the model or says which section the file lacks."""
    file = tmp_path / "node.toml"
    file.write_text(example(["media-server"]))
    loaded = load(file)
    assert loaded.section(config.MediaServer).libraries[1].transport == "model"
    with pytest.raises(ConfigurationError, match=rf"{file}: section \[backup_server\] is missing"):
        loaded.section(config.BackupServer)


def test_peers_are_found_by_name_and_the_node_itself_is_one() -> None:
    """Owners may be the node itself: it is reached like any other."""
    loaded = parse(example([FILE_SERVER]), SOURCE)
    assert loaded.is_gns_writer
    assert (loaded.peer("fs1").address, loaded.peer("fs1").port) == ("10.77.0.11", 10001)
    assert loaded.peer("conn1").address == "10.77.0.21"
    with pytest.raises(ConfigurationError, match="has no 'fs9'; there are: fs1, conn1"):
        loaded.peer("fs9")


def test_servers_and_their_passwords(tmp_path: Path) -> None:
    """The DMA finds a server by name and its password in a 0600 file."""
    secret = tmp_path / "ndmp.password"
    text = example(["backup-server"]).replace("/etc/spanreel/ndmp.password", str(secret))
    server = parse(text, SOURCE).section(config.BackupServer).server("media1")
    replace_file(secret, b"secret\n", mode=0o600)
    assert server.password() == "secret"
    replace_file(secret, b"\n", mode=0o600)
    with pytest.raises(ConfigurationError, match="the password is empty"):
        read_password(secret)
    with pytest.raises(ConfigurationError, match="has no 'fs9'; there are: fs1, media1"):
        parse(text, SOURCE).section(config.BackupServer).server("fs9")


def test_an_accounts_table_says_what_a_user_may(tmp_path: Path) -> None:
    """Every right can be given by itself; paths are put in the form in which they are compared."""
    file = tmp_path / "accounts.toml"
    table = """[dma]
password = "secret"
text = true
subtrees = ["/projects/", "/home"]
restore = false
networks = ["10.77.0.0/24"]
"""
    replace_file(file, table.encode(), mode=0o600)
    networks = Networks(["10.77.0.0/24"])
    assert read_accounts(file) == {
        "dma": Account("secret", True, (b"/projects", b"/home"), restore=False, networks=networks)
    }


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("subtree = ['/a']", "allowed here: password, text, subtrees, restore, networks"),
        ("subtrees = ['a']", "must be an absolute global path"),
        ("subtrees = ['/a/../b']", "must be an absolute global path"),
        ("networks = ['10.77.0.1/24']", "must be networks"),
        ("networks = '10.77.0.1'", "must be a list of networks"),
        ("restore = 'perhaps'", "restore: "),
        ("password = 'secret two'", "not TOML"),
    ],
)
def test_a_wrong_accounts_table_is_told_without_its_password(tmp_path: Path, line: str, said: str) -> None:
    """The error names file, user and key, and shows no secret."""
    file = tmp_path / "accounts.toml"
    replace_file(file, f"[dma]\npassword = 'very secret'\n{line}\n".encode(), mode=0o600)
    with pytest.raises(ConfigurationError) as error:
        read_accounts(file)
    assert said in str(error.value)
    assert "accounts.toml" in str(error.value)
    assert "secret" not in str(error.value)


def test_data_connections_stay_where_dmas_are() -> None:
    """Without data_networks the allow list holds for them; without either, everybody may."""
    text = example([FILE_SERVER])
    allow = 'allow = ["10.77.0.0/24"]'
    wide = text.replace(allow, 'allow = ["10.77.0.0/24", "10.78.0.0/24"]')
    cut = re.sub(r"(?m)^data_networks.*\n", "", wide)
    bare = re.sub(r"(?m)^allow.*\n", "", cut)
    found = [parse(each, SOURCE).section(config.Ndmp).data_rules for each in (wide, cut, bare)]
    assert [rules.networks.holds("10.78.0.1") for rules in found] == [False, True, True]
    assert [rules.networks.holds("192.0.2.1") for rules in found] == [False, False, True]
    assert found[0].ports == range(20000, 21000)


@pytest.mark.parametrize("content", ["spanreel", "spanreel = 3", 'spanreel = ""', "[spanreel]\na = 'b'"])
def test_an_accounts_file_holds_users_and_passwords(tmp_path: Path, content: str) -> None:
    """Good accounts are read; anything else is refused by name."""
    file = tmp_path / "accounts.toml"
    replace_file(file, b'spanreel = "secret"\n"other user" = "x"\n', mode=0o600)
    assert read_accounts(file) == {"spanreel": Account("secret"), "other user": Account("x")}
    replace_file(file, content.encode(), mode=0o600)
    with pytest.raises(ConfigurationError, match=r"accounts\.toml: "):
        read_accounts(file)


def test_the_command_checks_a_file_and_its_secrets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`spanreel config ROLE --check FILE` passes only when the secrets are there and 0600."""
    secret = tmp_path / "ndmp.password"
    file = tmp_path / "node.toml"
    assert cli.run(["config", "backup-server", "--example"]) == 0
    file.write_text(capsys.readouterr().out.replace("/etc/spanreel/ndmp.password", str(secret)))
    assert cli.run(["config", "backup-server", "--check", str(file)]) == 2
    assert "ndmp.password: cannot read" in capsys.readouterr().err
    replace_file(secret, b"secret", mode=0o600)
    assert cli.run(["config", "backup-server", "--check", str(file)]) == 0
    replace_file(secret, b"secret", mode=0o644)
    assert cli.run(["config", "backup-server", "--check", str(file)]) == 2
    assert "chmod 600" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["file-server"], ["file-server", "--example", "--check", "x"], ["tape", "--example"]]
)
def test_wrong_use_of_the_command_is_a_usage_error(arguments: list[str]) -> None:
    """Neither or both of the options, or a role there is not, exit 2."""
    assert cli.run(["config", *arguments]) == 2
