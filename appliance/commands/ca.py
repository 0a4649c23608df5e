"""`spanreel ca`: the certificates by which nodes know each other."""

from __future__ import annotations

from pathlib import Path

import click

from appliance.commands._options import echo_json, json_option
from appliance.pki import REVOKED, create_authority, issue, parse_request, serial_text
from appliance.pki_register import listing, renew, revoke

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


@ca.command("renew")
@click.option("--ca", "authority", type=_DIRECTORY, required=True, metavar="DIR", help="From `ca init`.")
@click.option("--out", type=_DIRECTORY, required=True, metavar="DIR", help="Files go to DIR/NAME.")
@click.option("--new-key", is_flag=True, help="Make a new key too, which must go to the node as well.")
@click.argument("name")
def renew_node(authority: Path, out: Path, name: str, new_key: bool) -> None:
    """Make a new certificate for a node, for its present key.

    The old one counts until it runs out or is revoked.

    Example: spanreel ca renew --ca /root/ca --out /root/nodes fs1
    """
    directory, until = renew(authority, out, name, new_key=new_key)
    files = "node.pem and node.key" if new_key else "node.pem"
    click.echo(
        f"{directory}: put {files} into /etc/spanreel/tls on {name} and restart it; good until {until:%F}"
    )


@ca.command("revoke")
@click.option("--ca", "authority", type=_DIRECTORY, required=True, metavar="DIR", help="From `ca init`.")
@click.argument("what", metavar="NAME|SERIAL")
def revoke_node(authority: Path, what: str) -> None:
    """Have all certificates of a node, or one by its serial number, count no more.

    Nodes know of it once they have the new crl.pem, at the place that [cluster] revoked names.  They need no
    restart; sessions that are there go on (`spanreel session kill`).

    Example: spanreel ca revoke --ca /root/ca fs2
    """
    serials = revoke(authority, what)
    numbers = ", ".join(serial_text(serial) for serial in serials)
    click.echo(f"revoked {numbers}; copy {authority / REVOKED} to every node")


@ca.command("list")
@click.option("--ca", "authority", type=_DIRECTORY, required=True, metavar="DIR", help="From `ca init`.")
@json_option
def list_certificates(authority: Path, as_json: bool) -> None:
    """List the certificates made.

    Example: spanreel ca list --ca /root/ca
    """
    found = listing(authority)
    if as_json:
        echo_json({"certificates": [each.json() for each in found]})
        return
    for each in found:
        click.echo(
            f"{each.state:8}  {each.until:%F}  {each.name:16}  {'+'.join(each.roles):34}  {each.serial}"
        )
