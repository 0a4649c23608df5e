"""`spanreel lab check`."""

from __future__ import annotations

import click

from harness import topology as topologies


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME|FILE]...")
def check(names: tuple[str, ...]) -> None:
    """Check topology files; an error names file, line and field. Without a name: those that are shipped.

    Example: spanreel lab check ./mine.yaml
    """
    for name in names or topologies.shipped():
        found = topologies.read(topologies.find(name))
        drives = sum(len(library.drives) for library in found.libraries)
        parts = f"{len(found.nodes)} nodes, {len(found.gns)} parts, {drives} drives"
        click.echo(f"{found.file}: {found.name} ({found.provider}): {parts}")
