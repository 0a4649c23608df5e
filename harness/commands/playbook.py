"""`spanreel lab playbook`."""

from __future__ import annotations

import os
import subprocess

import click

from harness import lab as labs
from harness import session
from harness.commands.options import which_lab
from harness.deployment import playbook as playbooks
from harness.errors import MissingToolError
from harness.image.cache import Cache
from harness.image.product import ensure_product
from harness.image.recipe import checkout


@click.command(context_settings={"ignore_unknown_options": True})
@which_lab
@click.argument("name_of", metavar="PLAYBOOK")
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def playbook(
    ctx: click.Context, topology: str | None, name: str | None, name_of: str, options: tuple[str, ...]
) -> None:
    """Run one of ansible's playbooks on a lab's machines, from within its network.

    OPTIONS are those of ansible-playbook. The exit code is its own.

    Example: spanreel lab playbook --lab vms site.yml --limit conn1 --check
    """
    state = session.running(topology, name)
    provider = session.provider_of(state)
    with labs.locked(state.name):
        product = ensure_product(checkout(), Cache(), lambda _: None)
        folder = playbooks.prepare(provider.topology, state, product)
    command = provider.host_argv(playbooks.argv(folder, name_of, *options))
    try:
        code = subprocess.call(command, env={**os.environ, **playbooks.environment()})
    except FileNotFoundError as error:
        raise MissingToolError(command[0], needed_for="playbooks", install="bootstrap/install vms") from error
    ctx.exit(code)
