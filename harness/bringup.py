"""From nothing to a lab that is ready: machines, configuration, roles, name space; and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed

from harness import nodeconfig, secretstore
from harness.errors import EXIT_USAGE, CommandError
from harness.providers.base import Provider
from harness.topology import FILE_SERVER, Node

# Nodes are few and mostly wait; more at once would only make two cores thrash.
PARALLEL = 8


def up(provider: Provider) -> None:
    """Bring the lab up, or the parts of it that do not run."""
    lab, events = provider.lab, provider.events
    alive = provider.alive() if lab.state != "off" else {}
    if lab.state in ("ready", "seeded") and all(alive.values()):
        events.step("", "up", "skipped", "the lab is running already")
        _take_leases(provider)
        return
    with events.stepping("", "check this host"):
        provider.check()
    lab.state = "booted"  # From here on there may be something for `down` to end.
    lab.save()
    if provider.has_libraries_before:
        provider.reach_libraries()
        _take_leases(provider)
    provider.up()
    _take_leases(provider)
    with events.stepping("", "certificates"):
        secretstore.make_certificates(provider.topology, lab)
    _each(provider.topology.nodes, lambda node: provider.install(node, nodeconfig.files(provider, node)))
    # A role whose configuration has changed must be started again, so all are.
    _each(provider.serving(), provider.start)
    add_junctions(provider)
    lab.state = "ready"
    lab.save()


def _take_leases(provider: Provider) -> None:
    """Wait for the turn of whoever brings the lab up, if it said who it is (`session.holding`)."""
    if provider.leases is not None:
        provider.leases.take()


def add_junctions(provider: Provider) -> None:
    """Give the name space's writer the map; doing it twice changes nothing.

    A map that was changed since the lab was made (`gns move`) is left as it is.
    """
    writer = provider.topology.only(FILE_SERVER)
    text = json.dumps(nodeconfig.gns_map(provider)).encode()
    with provider.events.stepping(
        writer.name, "name space", f"{len(provider.topology.gns)} junctions"
    ) as tell:
        try:
            provider.run(writer, ["spanreel", "gns", "add", "--file", "/dev/stdin"], stdin=text)
        except CommandError as error:
            present = json.loads(provider.run(writer, ["spanreel", "gns", "ls", "--json"]).stdout)
            if error.code != EXIT_USAGE or not present["junctions"]:
                raise
            tell(f"changed since the lab was made, left as it is: generation {present['generation']}")


def down(provider: Provider) -> None:
    """End everything the lab runs."""
    if provider.leases is not None and not provider.has_libraries_before:
        provider.leases.release()  # they end with the machines they lie on
    with provider.events.stepping("", "down"):
        provider.down()
    provider.lab.state = "off"
    provider.lab.save()


def _each(nodes: Iterable[Node], work: Callable[[Node], None]) -> None:
    """Do work for all nodes in parallel; the first error is raised after all have ended."""
    with ThreadPoolExecutor(PARALLEL) as pool:
        futures = [pool.submit(work, node) for node in nodes]
        first: BaseException | None = None
        for future in as_completed(futures):
            error = future.exception()
            first = first or error
    if first is not None:
        raise first
