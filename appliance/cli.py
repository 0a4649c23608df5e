"""The command `spanreel`: finds subcommands, loads only the one called, turns errors into exit codes.

Guests start Python six times slower than the host, so nothing is imported before it is needed: the
list of commands is a table of names, and `spanreel jobs` imports the module of `jobs` and no other.
Packages outside the appliance (the harness) add commands through the entry point group
`spanreel.commands`, so the appliance never imports them by name.

A command function returns None or an ExitCode; errors for people are raised as SpanreelError.
"""

from __future__ import annotations

import importlib
import os
import select
import sys
import traceback
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import click

from appliance.errors import ExitCode, InfrastructureError, SpanreelError

ENTRY_POINT_GROUP: Final = "spanreel.commands"

# Set to anything, it adds the traceback below the line that people get.
TRACEBACK_VARIABLE: Final = "SPANREEL_TRACEBACK"

# The process's own, whatever sys.stdout is replaced with.
_STDOUT_DESCRIPTOR: Final = 1

# 128 + SIGINT, as a shell reports it.
EXIT_INTERRUPTED: Final = 130

_OWN_PACKAGES: Final = frozenset({"appliance", "tape", "harness"})


class Command(NamedTuple):
    """Where a subcommand lives, and its line in the help."""

    target: str
    summary: str


COMMANDS: Final[dict[str, Command]] = {
    "backup": Command("appliance.commands.backup:backup", "Back up global paths to tape."),
    "ca": Command("appliance.commands.ca:ca", "Make the cluster's certificates."),
    "catalogue": Command("appliance.commands.catalogue:catalogue", "Make a lost catalogue again from tape."),
    "config": Command("appliance.commands.config:config", "Print or check a node's configuration."),
    "gns": Command("appliance.commands.gns:gns", "Look at and change the global name space."),
    "jobs": Command("appliance.commands.jobs:jobs", "List backup jobs."),
    "ls": Command("appliance.commands.ls:ls", "List what a backup holds."),
    "pause": Command("appliance.commands.pause:pause", "Let no job begin for a while."),
    "restore": Command("appliance.commands.restore:restore", "Restore global paths from tape."),
    "session": Command("appliance.commands.session:session", "List and end a node's control sessions."),
    "serve": Command("appliance.commands.serve:serve", "Run one or more roles in the foreground."),
    "tape": Command("appliance.commands.tape:tape", "Look after tape libraries; run the library model."),
    "verify": Command("appliance.commands.verify:verify", "Compare every checksum of a backup on tape."),
}


@cache
def extensions() -> dict[str, Command]:
    """Return the commands that other packages add, by name.

    From a checkout that is not installed they are read from its pyproject.toml.
    """
    # Both imports cost tens of milliseconds and serve only help and extensions.
    from importlib.metadata import entry_points

    found = {point.name: point.value for point in entry_points(group=ENTRY_POINT_GROUP)}
    if not found:
        found = _checkout_entry_points()
    return {name: Command(target, f"See `spanreel {name} --help`.") for name, target in found.items()}


def _checkout_entry_points() -> dict[str, str]:
    import tomllib

    project_file = Path(__file__).resolve().parents[1] / "pyproject.toml"
    if not project_file.is_file():
        return {}
    project = tomllib.loads(project_file.read_text(encoding="utf-8"))
    points: dict[str, str] = project.get("project", {}).get("entry-points", {}).get(ENTRY_POINT_GROUP, {})
    return points


class LazyGroup(click.Group):
    """A group whose subcommands are imported when called, and listed without being imported."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  (click's signature)
        """Return the names of all commands."""
        return sorted({**extensions(), **COMMANDS})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the command `cmd_name`; None when there is no such command."""
        entry = COMMANDS.get(cmd_name) or extensions().get(cmd_name)
        return _load(cmd_name, entry) if entry else None

    def invoke(self, ctx: click.Context) -> object:
        """Run the command called.

        click would end any broken pipe with exit code 1 and not a word, be it stdout's or a peer's.
        """
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            return _leave_broken_pipe(error)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of commands from the names, importing none of them."""
        known = {**extensions(), **COMMANDS}
        with formatter.section("Commands"):
            formatter.write_dl([(name, known[name].summary) for name in self.list_commands(ctx)])


def _load(name: str, entry: Command) -> click.Command:
    module, _, attribute = entry.target.partition(":")
    try:
        command = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in _OWN_PACKAGES:
            raise
        raise click.ClickException(
            f"`spanreel {name}` needs the Python package {error.name}, which is not installed here; "
            f"`spanreel[{name}]` or `spanreel[lab]` brings it"
        ) from error
    assert isinstance(command, click.Command)
    return command


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
def spanreel() -> None:
    """One backup of one global name space over many file servers.

    Exit codes: 0 complete, 1 the job or a check failed, 2 usage or configuration,
    3 infrastructure, 4 complete with problems or incomplete.

    Example: spanreel gns ls
    """


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; expected errors become one line on stderr."""
    try:
        result = spanreel.main(args=arguments, prog_name="spanreel", standalone_mode=False)
        sys.stdout.flush()
    except SpanreelError as error:
        return _report(str(error), error.exit_code)
    except click.Abort:
        # click turns Ctrl-C and end of input at a prompt into Abort.
        return _report("interrupted", EXIT_INTERRUPTED)
    except KeyboardInterrupt:
        return _report("interrupted", EXIT_INTERRUPTED)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return ExitCode.USAGE
    except click.UsageError as error:
        return _report(
            f"{error.format_message().rstrip('.')}; see `{_command_path(error)} --help`", ExitCode.USAGE
        )
    except click.ClickException as error:
        return _report(error.format_message(), ExitCode.USAGE)
    except OSError as error:
        # What no command put into words: a full disk, a missing directory, a refused right.
        return _report(str(error), ExitCode.INFRASTRUCTURE)
    return result if isinstance(result, int) else ExitCode.COMPLETE


def _command_path(error: click.UsageError) -> str:
    return error.ctx.command_path if error.ctx is not None else "spanreel"


def _report(text: str, exit_code: int) -> int:
    click.echo(f"spanreel: {' '.join(text.split())}", err=True)
    if os.environ.get(TRACEBACK_VARIABLE):
        traceback.print_exc()
    return exit_code


def _leave_broken_pipe(error: BrokenPipeError) -> ExitCode:
    """End quietly when nobody reads stdout any more (`| head`); a peer that hung up is an error."""
    stdout = select.poll()
    stdout.register(_STDOUT_DESCRIPTOR, 0)
    if not any(events & select.POLLERR for _, events in stdout.poll(0)):
        raise InfrastructureError(f"a connection was closed by the other end: {error}") from error
    # Python would complain once more when it flushes stdout at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), _STDOUT_DESCRIPTOR)
    return ExitCode.COMPLETE


def main() -> None:
    """Run `spanreel` with the process's arguments and exit."""
    sys.exit(run())


if __name__ == "__main__":
    main()
