"""`spanreel ca`: the certificates by which nodes know each other."""

from __future__ import annotations

from pathlib import Path

import click

from appliance.pki import create_authority, issue, parse_request

_DIRECTORY = click.Path(file_okay=False, path_type=Path)


@click.group()
def ca() -> None:
    """Make the cluster's certificates.

    \b
    Example:
      spanreel ca init --out /root/ca
      spanreel ca issue --ca /root/ca --out /root/nodes fs1=file-server@10.77.0.11
    """


@ca.command()
@click.option("--out", "directory", type=_DIRECTORY, required=True, metavar="DIR", help="Where it is kept.")
def init(directory: Path) -> None:
    """Make the cluster's certificate authority.

    Keep DIR off the nodes: whoever has ca.key can be any node.

    Example: spanreel ca init --out /root/ca
    """
    create_authority(directory)
    click.echo(f"authority made in {directory}; ca.key there stays with you")


@ca.command("issue")
@click.option("--ca", "authority", type=_DIRECTORY, required=True, metavar="DIR", help="From `ca init`.")
@click.option("--out", type=_DIRECTORY, required=True, metavar="DIR", help="Files go to DIR/NAME.")
@click.argument("nodes", nargs=-1, required=True, metavar="NAME=ROLE[+ROLE][@ADDRESS]...")
def issue_nodes(authority: Path, out: Path, nodes: tuple[str, ...]) -> None:
    """Make keys and certificates for nodes.

    Each gets DIR/NAME with ca.pem, node.pem and node.key, to be put into /etc/spanreel/tls there.

    \b
    Example:
      spanreel ca issue --ca /root/ca --out /root/nodes \\
          fs1=file-server@10.77.0.11 conn1=connection-server@10.77.0.21
    """
    # All are parsed before any is made, so that a mistake in the last leaves nothing half done.
    for request in [parse_request(text) for text in nodes]:
        click.echo(str(issue(authority, out, request)))
