"""The lab's name space as it is now: people move parts, and the topology does not know."""

from __future__ import annotations

import json

from harness import nodeconfig
from harness.errors import CheckError, UsageError
from harness.providers.base import Provider
from harness.topology import FILE_SERVER

Junctions = list[dict[str, str]]


def present(provider: Provider) -> Junctions:
    """Return the writer's map in the form of `nodeconfig.gns_map`.  Raises HarnessError."""
    writer = provider.topology.only(FILE_SERVER)
    done = provider.run(writer, ["spanreel", "gns", "ls", "--json", "--local"])
    try:
        junctions = json.loads(done.stdout)["junctions"]
        return [{key: junction[key] for key in ("path", "owner", "local")} for junction in junctions]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckError(f"{writer.name}: `spanreel gns ls --json` printed no map: {error!r}") from error


def require_as_in_topology(provider: Provider) -> None:
    """Raise UsageError when parts were moved: the main job would compare the wrong trees."""
    wanted, found = (_sorted(each) for each in (nodeconfig.gns_map(provider), present(provider)))
    if wanted != found:
        different = next(item for item in wanted + found if item not in wanted or item not in found)
        raise UsageError(
            f"the name space of lab {provider.lab.name} is not its topology's any more: {different['path']}",
            hint=f"begin anew: spanreel lab clean --lab {provider.lab.name}",
        )


def _sorted(junctions: Junctions) -> Junctions:
    return sorted(junctions, key=lambda junction: junction["path"])
