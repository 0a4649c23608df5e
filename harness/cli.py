"""`spanreel lab`: builds clusters, runs the main job on them, removes them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import click

from harness.commands.check import check
from harness.commands.checkpoint import checkpoint
from harness.commands.clean import clean
from harness.commands.down import down
from harness.commands.exec import execute
from harness.commands.history import history
from harness.commands.info import info
from harness.commands.inventory import inventory
from harness.commands.lease import lease
from harness.commands.nightly import nightly
from harness.commands.playbook import playbook
from harness.commands.run import run
from harness.commands.scenarios import scenarios
from harness.commands.shell import shell
from harness.commands.up import up
from harness.errors import HarnessError, TerminatedError


def _raise(_number: int, _frame: FrameType | None) -> None:
    raise TerminatedError


@contextmanager
def ending_like_ctrl_c() -> Iterator[None]:
    """Have SIGTERM do what Ctrl-C does: a run that a service manager or a CI job ends removes its lab."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may say what a signal does
        return
    before = signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class LabGroup(click.Group):
    """Turns expected errors into one line, a hint, and their exit code; ends well on SIGTERM."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand."""
        try:
            with ending_like_ctrl_c():
                return super().invoke(ctx)
        except HarnessError as error:
            click.echo(f"spanreel lab: {error.message}", err=True)
            if error.hint:
                click.echo(f"  {error.hint}", err=True)
            ctx.exit(error.exit_code)


@click.group(cls=LabGroup)
def lab() -> None:
    """Build a lab from a topology file, run the main job on it, look into it, remove it.

    Two labs live side by side under different names; a lab's name is its topology's unless --lab
    says otherwise.

    Exit codes: 0 complete, 1 a check failed, 2 usage, 3 infrastructure.

    Example: spanreel lab run --topology process
    """


for command in (
    up,
    run,
    scenarios,
    nightly,
    history,
    check,
    info,
    execute,
    shell,
    down,
    clean,
    lease,
    checkpoint,
    inventory,
    playbook,
):
    lab.add_command(command)
