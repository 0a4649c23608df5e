"""`spanreel lab`: help, exit codes, clear lines."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from harness_support import fast_topology

import harness
from harness import guest
from harness import lab as labs
from harness.cli import lab
from harness.commands.exec import split


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.mark.parametrize("name", sorted(lab.commands))
def test_every_command_has_an_example(name: str) -> None:
    """--help of each command shows how it is used."""
    result = CliRunner().invoke(lab, [name, "--help"])
    assert result.exit_code == 0
    assert "Example" in result.output
    assert f"spanreel lab {name}" in result.output
    assert "\\b" not in result.output, "click's mark for a paragraph it must not wrap is shown"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["up", "--topology", "nowhere"], 2, "neither a shipped one nor a file"),
        (["up", "--lab", "../x", "--topology", "process"], 2, "not allowed"),
        (["clean", "--lab", ""], 2, "lab name '' is not allowed"),
        (["info"], 3, "no lab is running"),
        (["info", "--lab", "one"], 3, "lab one is not running"),
        (["exec", "fs1"], 2, "no command given"),
        (["exec", "--host", "--"], 2, "no command given"),
        (["exec", "--lab", "one", "fs1", "--", "true"], 3, "spanreel lab up --lab one"),
        (["down", "--lab", "one"], 0, "there is no lab one"),
        (["clean", "--lab", "one"], 0, ""),
    ],
)
def test_mistakes_are_one_line_and_a_code(words: list[str], code: int, said: str) -> None:
    """Expected errors end with their exit code and a line, never with a traceback."""
    result = CliRunner().invoke(lab, words)
    assert result.exit_code == code, result.output
    assert said in result.output
    assert "Traceback" not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)


@pytest.mark.parametrize(
    ("words", "host", "expected"),
    [
        (("fs1", "--", "ls", "-l"), False, ("fs1", ["ls", "-l"])),
        (("fs1", "ls", "--", "x"), False, ("fs1", ["ls", "--", "x"])),
        (("--", "ip", "a"), True, ("", ["ip", "a"])),
        (("ip", "a"), True, ("", ["ip", "a"])),
    ],
)
def test_exec_takes_its_words_apart(
    words: tuple[str, ...], host: bool, expected: tuple[str, list[str]]
) -> None:
    """NODE, an optional --, and a command whose own options stay its own."""
    assert split(words, host) == expected


def test_unknown_node_names_the_nodes(tmp_path: Path) -> None:
    """A misspelt node is a usage error that lists those there are."""
    made = labs.create("one", fast_topology(tmp_path))
    made.state = "ready"
    made.save()
    result = CliRunner().invoke(lab, ["exec", "--lab", "one", "fs9", "--", "true"])
    assert result.exit_code == 2
    assert "nodes: fs1, fs2, conn1, media1, backup1" in result.output


def test_two_running_labs_must_be_told_apart(tmp_path: Path) -> None:
    """Without options a command means the only running lab; with two it asks which."""
    topology = fast_topology(tmp_path)
    for name in ("one", "two"):
        made = labs.create(name, topology)
        made.state = "ready"
        made.save()
    result = CliRunner().invoke(lab, ["info"])
    assert result.exit_code == 2
    assert "--lab one or two" in result.output


def modules(folder: Path) -> list[Path]:
    """All modules of the harness."""
    return sorted(folder.rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Top-level packages a module imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


HARNESS = Path(harness.__file__).parent


@pytest.mark.parametrize("path", modules(HARNESS), ids=lambda path: str(path.relative_to(HARNESS)))
def test_harness_never_imports_what_it_checks(path: Path) -> None:
    """The harness reaches the appliance from outside only."""
    assert not imported(path) & {"appliance", "tape"}


SCRIPTS = [path for path in modules(Path(guest.__file__).parent) if path.name != "__init__.py"]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_guest_scripts_need_nothing_but_python(path: Path) -> None:
    """Scripts for nodes import the standard library only."""
    assert imported(path) <= sys.stdlib_module_names
