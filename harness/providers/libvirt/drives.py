"""Empty drives: a library forgets at a restart what was in them, so nothing may be."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

from harness.errors import CommandError, InfrastructureError
from harness.providers.base import Provider
from harness.topology import Library


def empty_drives(provider: Provider) -> None:
    """Bring every cartridge in a drive back to its slot.

    Raises InfrastructureError where one cannot be brought back, because a job uses the drive for one.
    """
    libraries = provider.topology.libraries
    with ThreadPoolExecutor(max(1, len(libraries))) as pool:
        list(pool.map(lambda library: _empty(provider, library), libraries))


def _empty(provider: Provider, library: Library) -> None:
    node, changer = provider.topology.node(library.node), ["--changer", library.changer]
    try:
        said = provider.run(node, ["spanreel", "tape", "inventory", *changer, "--json"]).stdout
        for element in json.loads(said):
            if element["kind"] == "drive" and element["full"]:
                provider.run(node, ["spanreel", "tape", "unload", element["drive"], *changer])
    except CommandError as error:
        raise InfrastructureError(
            f"the drives of {library.changer} cannot be emptied: {error.message}",
            hint="a checkpoint cannot be made while a job runs",
        ) from error
