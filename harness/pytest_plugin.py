"""Labs for pytest: `-p harness.pytest_plugin`, or `pytest_plugins` of a conftest names it.

    def test_a_deleted_file_comes_back(dma, client_folder):
        client_folder.write("plan.txt", b"all of it")
        job = dma.backup(client_folder.path)
        client_folder.remove("plan.txt")
        dma.restore(job["id"], client_folder.path)
        assert client_folder.read("plan.txt") == b"all of it"

One lab a session, started by the first test that asks for one of its fixtures, ended with the session;
one that runs already is used and stays.  `--lab-topology` says which (default: process).

    @pytest.mark.needs(roles={"file-server": 2}, drives=2, faults=True, root=True)

skips a test where the lab is another, and says why; the lab is not started for that.

    @pytest.mark.lab_revert

has the lab as it was when it was new, whatever tests before did; `lab_revert("seeded")` with the topology's
seed.  It is put back from a checkpoint before the test, in seconds.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from harness import bringup, parts, session, states
from harness import topology as topologies
from harness.checkpoints.keeper import Keeper
from harness.errors import CheckError, UsageError
from harness.manifest import Manifest, take_roots
from harness.nodeconfig import local_root
from harness.providers.base import Provider
from harness.scenarios.tape import TapeFaults
from harness.topology import BACKUP_SERVER, OWN_MODELS, Library, Node, Topology

MARKER = "needs(roles, drives, faults, root): skip the test, with the reason, where the lab has less"
REVERT = "lab_revert"
REVERT_MARKER = (
    "lab_revert(state='ready'): put the lab back before the test, as it was when it was new, or seeded"
)
DEFAULT = "process"
# Providers that run as whoever runs the harness; all others have root on their nodes.
_UNPRIVILEGED = frozenset({"process"})


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the lab's options."""
    group = parser.getgroup("spanreel lab")
    group.addoption("--lab-topology", default=DEFAULT, metavar="NAME|FILE", help="Topology of the lab.")
    group.addoption("--lab-name", metavar="NAME", help="Name of the lab. Default: pytest-TOPOLOGY.")
    group.addoption("--lab-keep", action="store_true", help="Leave the lab running at the end.")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", MARKER)
    config.addinivalue_line("markers", REVERT_MARKER)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what the lab cannot serve, before it is started."""
    wanted = _topology(item.config) if any(item.iter_markers("needs")) else None
    for mark in item.iter_markers("needs"):
        assert wanted is not None
        reasons = missing(wanted, **mark.kwargs)
        if reasons:
            pytest.skip(f"lab {wanted.name}: {'; '.join(reasons)}")


def missing(
    topology: Topology,
    roles: Mapping[str, int] | None = None,
    drives: int = 0,
    *,
    faults: bool = False,
    root: bool = False,
) -> list[str]:
    """Return what a topology lacks for a test."""
    lacks = []
    for role, count in (roles or {}).items():
        found = len(topology.with_role(role))
        if found < count:
            lacks.append(f"{count} nodes with the role {role} are needed, there are {found}")
    found = max((len(library.drives) for library in topology.libraries), default=0)
    if found < drives:
        lacks.append(f"a library with {drives} drives is needed, there are {found}")
    if faults and not any(library.transport in OWN_MODELS for library in topology.libraries):
        lacks.append("a library whose faults can be scripted is needed")
    if root and topology.provider in _UNPRIVILEGED and os.geteuid() != 0:
        lacks.append("root is needed on nodes")
    return lacks


@dataclass(frozen=True)
class ClientFolder:
    """A new directory of the global name space, and what clients do there.  `path` is global."""

    provider: Provider
    node: Node
    path: str
    local: str

    def write(self, name: str, content: bytes) -> None:
        """Write a file."""
        self.provider.run(self.node, ["sh", "-c", 'cat > "$1"', "sh", f"{self.local}/{name}"], stdin=content)

    def read(self, name: str) -> bytes:
        """Read a file; CommandError if it is not there."""
        return self.provider.run(self.node, ["cat", f"{self.local}/{name}"]).stdout

    def remove(self, name: str) -> None:
        """Delete a file or a directory with all that is in it."""
        self.provider.run(self.node, ["rm", "-rf", f"{self.local}/{name}"])

    def manifest(self) -> Manifest:
        """Describe everything in it, independently of the product."""
        root = {"global": self.path, "local": self.local, "skip": []}
        return take_roots(self.provider, self.node, [root])


@dataclass(frozen=True)
class Dma:
    """The backup server's commands.  Each returns what the command printed as JSON.

    Raises CheckError when a command ends with a code that is not among `allowed`.
    """

    provider: Provider

    def run(self, *words: str, allowed: tuple[int, ...] = (0,)) -> Any:
        """Run `spanreel WORDS --json`."""
        node = self.provider.topology.only(BACKUP_SERVER)
        done = self.provider.run(node, ["spanreel", *words, "--json"], check=False)
        if done.code not in allowed:
            said = done.stderr.decode("utf-8", "backslashreplace").strip()
            raise CheckError(f"`spanreel {' '.join(words)}` ended with exit code {done.code}: {said}")
        return json.loads(done.stdout) if done.stdout.strip() else None

    def backup(self, *paths: str, allowed: tuple[int, ...] = (0,)) -> dict[str, Any]:
        """Back up global paths; options of the command may be among them."""
        job: dict[str, Any] = self.run("backup", *paths, allowed=allowed)
        return job

    def restore(self, job: str, *words: str, allowed: tuple[int, ...] = (0,)) -> dict[str, Any]:
        """Restore paths of a job."""
        done: dict[str, Any] = self.run("restore", job, *words, allowed=allowed)
        return done

    def jobs(self) -> list[dict[str, Any]]:
        """Return the jobs of the catalogue, the oldest first."""
        listed: list[dict[str, Any]] = self.run("jobs")
        return listed


@pytest.fixture(scope="session")
def lab(pytestconfig: pytest.Config, request: pytest.FixtureRequest) -> Iterator[Provider]:
    """The lab, up: its topology, and everything a provider can do with its nodes."""
    wanted = _topology(pytestconfig)
    name = pytestconfig.getoption("lab_name") or f"pytest-{wanted.name}"[:31]
    with ExitStack() as stack:
        provider = stack.enter_context(session.holding(name, wanted))
        keep = pytestconfig.getoption("lab_keep") or provider.lab.state != "off"
        try:
            _bring_up(provider, states_of(request.session.items))
            yield provider
        finally:
            if not keep:
                bringup.down(provider)


def states_of(items: Iterable[pytest.Item]) -> list[str]:
    """Return the states that tests want the lab put back to, in the order in which it comes to them."""
    wanted = {_state(mark) for item in items for mark in item.iter_markers(REVERT)}
    return sorted(wanted, key=states.rank)


def _state(mark: pytest.Mark) -> str:
    """Return what a marker says.  Raises UsageError for a state that is not kept."""
    (state,) = mark.args or (mark.kwargs.get("state", states.READY),)
    if state not in states.KEPT:
        raise UsageError(f"lab_revert({state!r}): no such state is kept", hint=", ".join(states.KEPT))
    return str(state)


def _bring_up(provider: Provider, wanted: Sequence[str]) -> None:
    """Bring the lab up, and have a checkpoint of each state that a test wants it put back to.

    The first test then finds it in the first of them, or `ready`.
    """
    is_new, keeper = provider.lab.state == states.OFF, Keeper(provider)
    if not wanted or not keeper.possible:
        bringup.up(provider)
        return
    missing_states = [state for state in wanted if not keeper.fits(state)]
    if missing_states and not is_new:
        raise UsageError(
            f"lab {provider.lab.name} runs already, and has no checkpoint {missing_states[0]} that fits",
            hint=f"begin anew: spanreel lab down --lab {provider.lab.name}",
        )
    for state in missing_states:
        bringup.up(provider, state, save=True)
    if missing_states and provider.lab.state != wanted[0]:
        bringup.revert(provider, keeper, wanted[0])
    bringup.up(provider, wanted[0])


@pytest.fixture(autouse=True)
def _lab_as_wanted(request: pytest.FixtureRequest) -> None:
    """Put the lab back for a test that is marked so.

    It is autouse so that it comes before fixtures that make something in the lab.
    """
    mark = request.node.get_closest_marker(REVERT)
    if mark is None:
        return
    provider: Provider = request.getfixturevalue("lab")
    keeper = Keeper(provider)
    if not keeper.possible:
        pytest.skip(f"lab {provider.lab.name}: its nodes cannot be put back")
    bringup.revert(provider, keeper, _state(mark))


@pytest.fixture(scope="session")
def nodes(lab: Provider) -> Mapping[str, Node]:
    """The lab's nodes by name."""
    return {node.name: node for node in lab.topology.nodes}


@pytest.fixture
def client_folder(lab: Provider, request: pytest.FixtureRequest) -> ClientFolder:
    """A new, empty directory in the first part that is backed up; it stays after the test."""
    junction = parts.originals(lab)[0]
    plain = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:60]
    name = f"{plain}-{secrets.token_hex(3)}"
    node = lab.topology.node(junction.owner)
    local = f"{local_root(lab, junction.path)}/{name}"
    lab.run(node, ["mkdir", "-p", local])
    return ClientFolder(lab, node, f"{junction.path}/{name}", local)


@pytest.fixture
def library(lab: Provider) -> Library:
    """The library that jobs use."""
    return lab.topology.libraries[0]


@pytest.fixture
def tape_faults(lab: Provider, library: Library) -> Iterator[TapeFaults]:
    """Its faults, by script; taken away after the test."""
    faults = TapeFaults(lab, library)
    yield faults
    faults.clear()


@pytest.fixture
def dma(lab: Provider) -> Dma:
    """The backup server."""
    return Dma(lab)


def _topology(config: pytest.Config) -> Topology:
    return topologies.read(topologies.find(config.getoption("lab_topology")))
