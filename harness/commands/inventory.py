"""`spanreel lab inventory`."""

from __future__ import annotations

from pathlib import Path

import click

from harness import lab as labs
from harness import secretstore, session
from harness.commands.options import which_lab
from harness.deployment import bundle
from harness.deployment import inventory as inventories
from harness.deployment.site import InstalledSite
from harness.image.cache import Cache
from harness.image.product import ensure_product
from harness.image.recipe import checkout


@click.command()
@which_lab
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where to write it, secrets included. Default: `ansible` in the lab's folder.",
)
@click.option(
    "--product",
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    metavar="FILE",
    help="A packed product to deploy. Default: that of this checkout, built if need be.",
)
def inventory(topology: str | None, name: str | None, output: Path | None, product: Path | None) -> None:
    """Write an ansible inventory of a topology's machines: hosts, configurations, certificates, secrets.

    Secrets are made once and kept with the lab. Files of secrets have the mode 0600; those that
    ansible-vault has encrypted meanwhile are left as they are.

    \b
    Example:
      spanreel lab inventory --topology room.yaml --output cluster
      ansible-playbook -i cluster/hosts.yml ansible/site.yml
    """
    lab, wanted = session.wanted(topology, name)
    with labs.locked(lab):
        state = labs.create(lab, wanted)
        site = InstalledSite(state.topology(), state)
        folder = (output or state.folder / "ansible").resolve()
        secretstore.make_certificates(site.topology, state)
        kept = inventories.write(site, folder, bundle.place(_product(product), folder))
    for path in kept:
        click.echo(f"{path}: encrypted, left as it is", err=True)
    click.echo(f"{folder}/{inventories.HOSTS}: {len(site.topology.nodes)} machines")
    click.echo(f"deploy: ansible-playbook -i {folder}/{inventories.HOSTS} {checkout().ansible}/site.yml")


def _product(file: Path | None) -> bundle.Bundle:
    """Return what is to be deployed."""
    if file is not None:
        return bundle.given(file)
    cache = Cache()
    return bundle.pack(ensure_product(checkout(), cache, lambda _: None), cache)
