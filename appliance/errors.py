"""The errors people see, and the exit codes scripts see.

    SpanreelError
    ├── ConfigurationError    exit 2: the command line or a file says something that is not allowed
    ├── JobError              exit 1: a backup, a restore or a check failed
    └── InfrastructureError   exit 3: a machine, network, disk or tool did not do its part

The text of each is one line: what happened, to what, what to do.  The command line prints it without
a traceback, so whoever raises one owes the reader all three.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """What every command of Spanreel ends with."""

    COMPLETE = 0
    FAILED = 1
    USAGE = 2
    INFRASTRUCTURE = 3
    PROBLEMS = 4


class SpanreelError(Exception):
    """Something expected went wrong; the text is one line for people."""

    exit_code: ClassVar[ExitCode] = ExitCode.FAILED


class ConfigurationError(SpanreelError):
    """The command line, a configuration file or a request says something that is not allowed."""

    exit_code = ExitCode.USAGE


class JobError(SpanreelError):
    """A job or a check failed."""

    exit_code = ExitCode.FAILED


class InfrastructureError(SpanreelError):
    """A machine, a network, a disk or a tool did not do its part."""

    exit_code = ExitCode.INFRASTRUCTURE
