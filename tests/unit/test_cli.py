"""The command line: lazy loading, one line for expected errors, exit codes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import click
import pytest

from appliance import cli
from appliance.errors import (
    ConfigurationError,
    ExitCode,
    InfrastructureError,
    JobError,
    SpanreelError,
)

CHECKOUT = Path(__file__).resolve().parents[2]


def _raise(error: BaseException) -> Callable[[], ExitCode]:
    def body() -> ExitCode:
        raise error

    return body


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Return a function that makes `spanreel planted` run the given body."""

    def plant_body(body: Callable[[], object]) -> None:
        module = ModuleType("planted_command")
        module.planted = click.command("planted")(body)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "planted_command", module)
        monkeypatch.setitem(cli.COMMANDS, "planted", cli.Command("planted_command:planted", "For tests."))

    return plant_body


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ConfigurationError("a.toml: no such key"), 2, "spanreel: a.toml: no such key"),
        (JobError("job 7 failed"), 1, "spanreel: job 7 failed"),
        (InfrastructureError("fs2 does not answer"), 3, "spanreel: fs2 does not answer"),
        (SpanreelError("two\nlines"), 1, "spanreel: two lines"),
        (OSError(28, "No space left on device", "/x"), 3, "No space left on device: '/x'"),
        (BrokenPipeError(32, "Broken pipe"), 3, "closed by the other end"),
        (click.BadParameter("must be absolute"), 2, "must be absolute"),
        (KeyboardInterrupt(), 130, "spanreel: interrupted"),
    ],
)
def test_expected_errors_are_one_line_and_an_exit_code(
    plant: Callable[[Callable[[], object]], None],
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    line: str,
) -> None:
    """Every expected error ends as one line on stderr and the exit code that issue 2 fixes."""
    plant(_raise(error))
    assert cli.run(["planted"]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert line in captured.err
    assert "Traceback" not in captured.err
    assert len(captured.err.strip().splitlines()) == 1


@pytest.mark.parametrize("result", [None, *ExitCode])
def test_a_command_returns_its_exit_code(
    plant: Callable[[Callable[[], object]], None], result: ExitCode | None
) -> None:
    """What a command returns is what the shell sees; nothing means complete."""
    plant(lambda: result)
    assert cli.run(["planted"]) == (result or 0)


def test_a_bug_keeps_its_traceback(plant: Callable[[Callable[[], object]], None]) -> None:
    """Errors nobody expected are not hidden."""
    plant(_raise(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        cli.run(["planted"])


def test_a_missing_optional_package_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without cryptography, `spanreel ca` says what to install instead of a traceback."""
    monkeypatch.setitem(cli.COMMANDS, "planted", cli.Command("nowhere_to_be_found:planted", "For tests."))
    assert cli.run(["planted"]) == 2
    assert "nowhere_to_be_found, which is not installed" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["nonsense"], ["--nonsense"], []])
def test_usage_errors_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown command or option, or none at all, is a usage error."""
    assert cli.run(arguments) == 2
    assert capsys.readouterr().err


def _loaded_after(*arguments: str) -> set[str]:
    program = (
        "import sys; from appliance import cli; code = cli.run(sys.argv[1:]); "
        "print('MODULES', *sorted(sys.modules)); sys.exit(code)"
    )
    process = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    return set(process.stdout.splitlines()[-1].split()[1:])


def test_help_lists_all_commands_and_imports_none() -> None:
    """`spanreel --help` costs no import of any command, nor of what only commands need."""
    process = subprocess.run(
        [sys.executable, "-m", "appliance.cli", "--help"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert all(f"\n  {name} " in process.stdout for name in [*cli.COMMANDS, "lab"])
    loaded = _loaded_after("--help")
    assert not {name for name in loaded if name.startswith(("appliance.commands.", "harness"))}
    assert not loaded & {"pydantic", "cryptography", "structlog", "rich"}


def test_one_command_imports_no_other() -> None:
    """`spanreel gns --help` loads the module of `gns` only, and not pydantic."""
    loaded = _loaded_after("gns", "--help")
    commands = {name for name in loaded if name.startswith("appliance.commands.")}
    shared = {"appliance.commands._options", "appliance.commands._table"}
    assert commands == {"appliance.commands.gns", *shared}
    assert not loaded & {"pydantic", "cryptography"}


@pytest.mark.parametrize("name", sorted(cli.COMMANDS.keys() - {"serve"}))
def test_only_servers_import_what_logs(name: str) -> None:
    """Every command but `serve` begins without structlog and rich, which take as long as all the rest."""
    assert not _loaded_after(name, "--help") & {"structlog", "rich", "asyncio"}


@pytest.mark.parametrize("name", sorted(cli.COMMANDS))
def test_every_command_has_help_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The table names commands that exist, and each shows how it is used."""
    assert cli.run([name, "--help"]) == 0
    assert "Example" in capsys.readouterr().out


def test_a_reader_that_leaves_early_is_no_error() -> None:
    """A command whose output nobody reads any more ends quietly, as complete."""
    with subprocess.Popen(
        [sys.executable, "-m", "appliance.cli", "config", "file-server", "--example"],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait() == 0
