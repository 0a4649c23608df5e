"""`spanreel config`: print a commented configuration, or check one."""

from __future__ import annotations

from pathlib import Path

import click

from appliance.config_examples import example


@click.command()
@click.argument("roles", metavar="ROLE[,ROLE…]")
@click.option("--example", "print_example", is_flag=True, help="Print a commented configuration that loads.")
@click.option(
    "--check",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Check FILE, and the secrets it names, for ROLE.",
)
def config(roles: str, print_example: bool, file: Path | None) -> None:
    """Print or check the configuration of a node.

    ROLE is file-server, connection-server, media-server or backup-server.

    \b
    Examples:
      spanreel config file-server --example > /etc/spanreel/spanreel.toml
      spanreel config file-server --check /etc/spanreel/spanreel.toml
    """
    wanted = roles.split(",")
    if print_example == (file is not None):
        raise click.UsageError("Give either --example or --check FILE.")
    if file is None:
        click.echo(example(wanted), nl=False)
        return
    # pydantic takes a while to import, and --example needs none of it.
    from appliance.config import load

    loaded = load(file)
    loaded.check_roles(wanted)
    loaded.check_secrets()
    click.echo(f"{file}: {loaded.node.name} can run as {', '.join(wanted)}")
