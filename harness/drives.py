"""Empty drives: for foreign tools, and for a checkpoint, as a restarted library forgets what was in them."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

from harness.errors import CommandError, InfrastructureError
from harness.providers.base import Provider
from harness.topology import Library


def empty_all(provider: Provider) -> None:
    """Bring every cartridge in a drive of the lab back to its slot.  Raises as `empty`."""
    libraries = provider.topology.libraries
    with ThreadPoolExecutor(max(1, len(libraries))) as pool:
        list(pool.map(lambda library: empty(provider, library), libraries))


def empty(provider: Provider, library: Library) -> None:
    """Bring every cartridge in a drive of a library back to its slot, by the product.

    Raises InfrastructureError where one cannot be brought back, because a job uses the drive for one.
    """
    node, changer = provider.topology.node(library.node), ["--changer", library.changer]
    try:
        said = provider.run(node, ["spanreel", "tape", "inventory", *changer, "--json"]).stdout
        for element in json.loads(said):
            if element["kind"] == "drive" and element["full"]:
                provider.run(node, ["spanreel", "tape", "unload", str(element["element"]), *changer])
    except CommandError as error:
        raise InfrastructureError(
            f"the drives of {library.changer} cannot be emptied: {error.message}",
            hint="wait until no job runs",
        ) from error
