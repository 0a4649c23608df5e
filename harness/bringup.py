"""From nothing to a lab that is ready, or seeded, along the graph of states; and back."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from harness import nodeconfig, secretstore, seed, states
from harness.checkpoints.keeper import Keeper
from harness.checkpoints.record import Record
from harness.errors import EXIT_USAGE, CommandError, NotPossibleError
from harness.providers.base import Provider
from harness.states import BOOTED, OFF, READY
from harness.topology import FILE_SERVER, Node
from harness.walk import walking

# Nodes are few and mostly wait; more at once would only make two cores thrash.
PARALLEL = 8


def up(provider: Provider, to: str = READY, *, fresh: bool = False, save: bool = False) -> None:
    """Bring the lab to a state, or the parts of it that do not run; a lab beyond that is left as it is.

    With `fresh` from off, cold, whatever is there and whatever is kept.  With `save` a state that was
    reached cold is kept as a checkpoint, where that is possible.
    """
    lab, keeper = provider.lab, Keeper(provider)
    at = _present(provider)
    behind = states.rank(at) < states.rank(to)
    steps = states.way(
        lab.state if fresh else at, to, keeper.fitting() if behind and not fresh else (), fresh=fresh
    )
    if not steps:
        provider.events.step("", "up", "skipped", "the lab is running already")
        _take_leases(provider)
        return
    for step in steps:
        _walk(provider, keeper, step)
    if save and to in states.KEPT and steps[-1] in states.EDGES and keeper.possible:
        keeper.save()


def revert(provider: Provider, keeper: Keeper, name: str, asked: Mapping[str, Any] | None = None) -> Record:
    """Put the lab back as it was at a checkpoint, whatever it is now."""
    kept = keeper.revert(name, asked)
    _take_leases(provider)
    return kept


def _present(provider: Provider) -> str:
    """Return the lab's state; one that is not whole counts as off, as all steps may be done twice."""
    state = provider.lab.state
    whole = state in states.KEPT and all(provider.alive().values())
    return state if whole else states.OFF


def _walk(provider: Provider, keeper: Keeper, step: states.Step) -> None:
    """Do one step."""
    if step.does == "revert":
        revert(provider, keeper, step.target)
        return
    if step.does == "down":
        down(provider)
        return
    with walking(provider, step):
        {states.BOOT: _boot, states.CONFIGURE: _configure, states.SEED: _seed}[step](provider)
        provider.lab.state = step.target
        provider.lab.save()


def _boot(provider: Provider) -> None:
    """From off to booted."""
    with provider.events.stepping("", "check this host"):
        provider.check()
    provider.lab.state = BOOTED  # From here on there may be something for `down` to end.
    provider.lab.save()
    if provider.has_libraries_before:
        provider.reach_libraries()
        _take_leases(provider)
    provider.up()
    with contextlib.suppress(NotPossibleError):
        # Of this moment: files may change while the lab runs.
        provider.lab.made_of = dict(provider.made_of())
    _take_leases(provider)


def _configure(provider: Provider) -> None:
    """From booted to ready."""
    with provider.events.stepping("", "certificates"):
        secretstore.make_certificates(provider.topology, provider.lab)
    _each(provider.topology.nodes, lambda node: provider.install(node, nodeconfig.files(provider, node)))
    # A role whose configuration has changed must be started again, so all are.
    _each(provider.serving(), provider.start)
    add_junctions(provider)


def _seed(provider: Provider) -> None:
    """From ready to seeded: what was in the parts goes."""
    seed.seed(provider)


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
    provider.lab.state = OFF
    provider.lab.save()
    provider.troubles.forget()


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
