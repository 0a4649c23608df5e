"""What can go wrong in the lab, and the exit code each kind ends with.

    HarnessError                      shown as one line: what happened, to what; then what to do
    ├── UsageError              2     the command line or a file the user wrote is wrong
    │   └── TopologyError       2     names file, line and field
    ├── InfrastructureError     3     the machine, the hypervisor, the network: not the product
    │   ├── MissingToolError         3     a program or library of the host is not there
    │   ├── LabBusyError             3     somebody else holds the lab; names the holder
    │   ├── LabNotRunningError       3     the command needs a lab that is up
    │   └── NotPossibleError         3     this lab, or this host, cannot do what a scenario asks for
    └── CheckError             1     the product did not do what it promises

`CommandError` is the odd one: a command on a node ended badly, and only the caller knows whether
that is the product's fault; it counts as infrastructure until the caller says otherwise.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

EXIT_COMPLETE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INFRASTRUCTURE = 3
EXIT_PROBLEMS = 4

# Enough of a failed command's last words to understand it, few enough to stay readable.
LAST_WORDS_BYTES = 800


class HarnessError(Exception):
    """An expected error: printed as one line and a hint, never as a traceback."""

    exit_code = EXIT_INFRASTRUCTURE

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class UsageError(HarnessError):
    """The user asked for something that cannot be, or wrote a file that is wrong."""

    exit_code = EXIT_USAGE


class TopologyError(UsageError):
    """A topology file is wrong at one line and field."""

    def __init__(self, file: Path | str, line: int, field: str, message: str, *, hint: str = "") -> None:
        where = f"{file}:{line}: {field}: " if field else f"{file}:{line}: "
        super().__init__(where + message, hint=hint)
        self.file = Path(file)
        self.line = line
        self.field = field


class InfrastructureError(HarnessError):
    """The machine under the lab failed; nothing is said about the product."""

    exit_code = EXIT_INFRASTRUCTURE


class TerminatedError(KeyboardInterrupt):
    """SIGTERM: as Ctrl-C, but the commands that run did not get it."""


class MissingToolError(InfrastructureError):
    """A program or library of the host is missing; the hint is the command that installs it."""

    def __init__(self, tool: str, *, needed_for: str, install: str) -> None:
        super().__init__(f"{tool} is missing; it is needed for {needed_for}", hint=f"install it: {install}")
        self.tool = tool
        self.install = install


class LabBusyError(InfrastructureError):
    """Another process holds the lab's lock."""


class LabNotRunningError(InfrastructureError):
    """The command needs a running lab."""


class NotPossibleError(InfrastructureError):
    """The lab cannot do it: who asked leaves it out, and says so."""


class CommandError(InfrastructureError):
    """A command on a node or the host ended with an exit code nobody expected."""

    def __init__(self, node: str, argv: Sequence[str], code: int, output: bytes = b"") -> None:
        words = output[-LAST_WORDS_BYTES:].decode("utf-8", "backslashreplace").strip()
        tail = f": {words}" if words else ""
        super().__init__(f"{node}: `{shlex.join(argv)[:300]}` ended with exit code {code}{tail}")
        self.node = node
        self.argv = list(argv)
        self.code = code
        self.output = output


class CheckError(HarnessError):
    """A check of the product did not hold."""

    exit_code = EXIT_FAILED
