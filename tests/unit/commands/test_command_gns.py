"""`spanreel gns`, with a writer in this process in the place of the session to one."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from appliance import cli
from appliance.config import NodeConfig
from appliance.config_examples import example
from appliance.errors import InfrastructureError
from appliance.gns.change import apply_change, replace_change
from appliance.gns.map import GnsMap


class Writer:
    """Stands for the node with the writable map, and for appliance.gns.client which talks to it."""

    def __init__(self) -> None:
        self.map = GnsMap()
        self.reachable = True

    def fetch_map(self, config: NodeConfig) -> GnsMap:
        """Return the map."""
        if not self.reachable:
            raise InfrastructureError(f"{config.node.name}: the map cannot be had from fs1")
        return self.map

    def send_change(self, config: NodeConfig, change: Mapping[str, Any]) -> int:
        """Apply a change that went through JSON, as on the wire."""
        self.map = apply_change(self.map, json.loads(json.dumps(change)))
        return self.map.generation

    def move(self, config: NodeConfig, path: bytes, node: str, local: bytes) -> int:
        """Switch a junction over."""
        return self.send_change(config, replace_change(self.map.at(path), node, local))


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Writer:
    """Return the writer that the commands of this test talk to."""
    file = tmp_path / "spanreel.toml"
    file.write_text(example(["file-server"]))
    monkeypatch.setenv("SPANREEL_CONFIG", str(file))
    standing = Writer()
    module = ModuleType("appliance.gns.client")
    for name in ("fetch_map", "send_change", "move"):
        setattr(module, name, getattr(standing, name))
    monkeypatch.setitem(sys.modules, "appliance.gns.client", module)
    monkeypatch.setattr("appliance.gns.client", module, raising=False)
    return standing


def _run(*arguments: str) -> int:
    return cli.run(["gns", *arguments])


@pytest.mark.parametrize("role", ["connection-server", "backup-server"])
def test_on_a_node_without_files_the_place_to_ask_is_named(
    role: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On any other node it is one line that says where to go, not a failed connection."""
    file = tmp_path / "other.toml"
    file.write_text(example([role]))
    assert _run("ls", "--config", str(file)) == 2
    assert "on a file server" in capsys.readouterr().err


def test_a_junction_is_added_listed_resolved_moved_and_removed(
    writer: Writer, capsys: pytest.CaptureFixture[str]
) -> None:
    """The life of a junction, by commands; what people see has no local path unless asked for."""
    assert _run("add", "/projects/", "--owner", "fs1", "--local", "/data//secret/") == 0
    assert writer.map.at(b"/projects").local == b"/data/secret"
    assert _run("ls") == 0
    assert _run("resolve", "/projects/a/b") == 0
    shown = capsys.readouterr().out
    assert "/projects  fs1    1" in shown
    assert "/projects/a/b: fs1, part /projects" in shown
    assert "secret" not in shown
    assert _run("ls", "--local") == 0
    assert _run("resolve", "/projects/a", "--local") == 0
    assert "/data/secret/a" in capsys.readouterr().out
    assert _run("move", "/projects", "--to", "fs2", "--local", "/data/other") == 0
    assert writer.map.at(b"/projects").owner == "fs2"
    assert _run("rm", "/projects") == 0
    assert writer.map.junctions == ()


def test_paths_are_bytes(writer: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    """An argument that is not UTF-8 gets into the map as it is, and out again in base64."""
    raw = b"/caf\xe9".decode("utf-8", "surrogateescape")
    assert _run("add", raw, "--owner", "fs1", "--local", raw) == 0
    assert writer.map.at(b"/caf\xe9").local == b"/caf\xe9"
    capsys.readouterr()
    assert _run("ls", "--json", "--local") == 0
    listed = json.loads(capsys.readouterr().out)
    (junction,) = listed["junctions"]
    assert (listed["generation"], junction["path"], junction["path_base64"]) == (1, "/caf\\xe9", "L2NhZuk=")
    assert junction["local_base64"] == "L2NhZuk="
    assert _run("resolve", raw, "--json") == 0
    resolved = json.loads(capsys.readouterr().out)
    assert (resolved["path_base64"], resolved["junction"]["owner"]) == ("L2NhZuk=", "fs1")
    assert "local" not in resolved
    assert "local" not in resolved["junction"]


def test_a_file_of_junctions_is_added_at_once_and_again_changes_nothing(
    writer: Writer, tmp_path: Path
) -> None:
    """All entries make one generation; the same file again makes none."""
    file = tmp_path / "gns.json"
    entries = [
        {"path": "/projects", "owner": "fs1", "local": "/data/projects"},
        {"path_base64": "L2NhZuk=", "owner": "fs2", "local": "/data/media"},
    ]
    file.write_text(json.dumps(entries))
    for _ in range(2):
        assert _run("add", "--file", str(file)) == 0
        assert writer.map.generation == 1
        assert [each.path for each in writer.map.junctions] == [b"/caf\xe9", b"/projects"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[", "not JSON"),
        ("{}", "must be a list"),
        ("[3]", "[0]: must be an object"),
        (
            '[{"path": "/a", "owner": "fs1", "local": "/a", "lokal": 1}]',
            "[0]: unknown key 'lokal'; allowed: local",
        ),
        ('[{"path": "/a", "local": "/a"}]', "[0]: 'owner' must be"),
        ('[{"path": "/a", "owner": "fs1"}]', "[0]: 'local' must be"),
        ('[{"path": "a", "owner": "fs1", "local": "/a"}]', "'a' is not absolute"),
    ],
)
def test_a_mistake_in_a_file_is_named(
    writer: Writer, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, said: str
) -> None:
    """The line has the file or path and what is allowed; nothing is added."""
    file = tmp_path / "gns.json"
    file.write_text(content)
    assert _run("add", "--file", str(file)) == 2
    assert said in capsys.readouterr().err
    assert writer.map.generation == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["add"],
        ["add", "/a", "--owner", "fs1"],
        ["add", "/a", "--file", "x"],
        ["add", "--file", "/nonexistent"],
        ["add", "a", "--owner", "fs1", "--local", "/a"],
        ["add", "/a", "--owner", "fs1", "--local", "a"],
        ["add", "/../a", "--owner", "fs1", "--local", "/a"],
        ["resolve", ""],
        ["rm"],
        ["move", "/a", "--to", "fs2"],
        ["ls", "--config", "/nonexistent"],
    ],
)
def test_wrong_use_exits_2(writer: Writer, arguments: list[str]) -> None:
    """Usage and configuration errors are told apart from failures."""
    assert _run(*arguments) == 2
    assert writer.map.generation == 0


def test_what_is_not_there_exits_1_and_a_missing_writer_3(
    writer: Writer, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unknown path is a failed question; a writer that does not answer is infrastructure."""
    assert _run("resolve", "/nowhere") == 1
    assert _run("rm", "/nowhere") == 1
    assert "/nowhere" in capsys.readouterr().err
    writer.reachable = False
    assert _run("ls") == 3
