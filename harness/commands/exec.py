"""`spanreel lab exec`."""

from __future__ import annotations

import sys

import click

from harness import session
from harness.commands.options import which_lab
from harness.errors import UsageError

# A person ends a command, not the clock; a backup may take days.
LIMIT_SECONDS = 30 * 24 * 3600.0


@click.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@which_lab
@click.option("--host", is_flag=True, help="Run on this host, inside the lab's network.")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[NODE] -- COMMAND...")
@click.pass_context
def execute(
    ctx: click.Context, topology: str | None, name: str | None, host: bool, words: tuple[str, ...]
) -> None:
    """Run a command on a node; input, output and exit code pass through.

    The node's environment is set, so that `spanreel` there finds its configuration.

    \b
    Examples:
      spanreel lab exec --topology process backup1 -- spanreel jobs
      spanreel lab exec --host -- ip address
    """
    node_name, argv = split(words, host)
    provider = session.provider_of(session.running(topology, name))
    if host:
        ctx.exit(provider.exec_host(argv))
    node = provider.topology.node(node_name)
    sys.stdout.flush()
    ctx.exit(
        provider.exec(
            node,
            argv,
            stdin=sys.stdin.buffer,
            stdout=sys.stdout.buffer,
            stderr=sys.stderr.buffer,
            timeout=LIMIT_SECONDS,
        )
    )


def split(words: tuple[str, ...], host: bool) -> tuple[str, list[str]]:
    """Take NODE -- COMMAND apart; with `host` there is no node."""
    rest = list(words)
    node = "" if host or not rest else rest.pop(0)
    if rest and rest[0] == "--":
        rest.pop(0)
    if not rest:
        raise UsageError("no command given", hint="spanreel lab exec NODE -- COMMAND...")
    return node, rest
