"""Lab machines that exist already, reached by SSH.

What is put on a machine lies in folders that the lab makes and claims (`layout`, `guest/claim.py`), daemons
are transient units or processes (`guest/daemon.py`), and `down` removes both and switches off what it
switched on: a machine is left as it was found.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any

from harness import console, guest, leases
from harness.checks.connections import Connection
from harness.errors import HarnessError, InfrastructureError, UsageError
from harness.events import Events
from harness.image.cache import Cache
from harness.image.product import Product, ensure_product
from harness.image.recipe import checkout
from harness.lab import LabState
from harness.providers.base import NodeFile, NodePaths
from harness.providers.machines import (
    consoles,
    daemons,
    deploy,
    hostkeys,
    layout,
    power,
    preflight,
    reach,
    watch,
)
from harness.providers.process import processes
from harness.providers.remote import RemoteProvider
from harness.ssh import Ssh
from harness.topology import BACKUP_SERVER, CONNECTION_SERVER, MEDIA_SERVER, Node, Topology

ROOT = "root"
# How far a machine's clock may be off: certificates and the order of log lines depend on it, in seconds.
CLOCK_SECONDS = 5.0


class MachinesProvider(RemoteProvider):
    """Machines of a lab room."""

    def __init__(self, topology: Topology, lab: LabState, events: Events) -> None:
        super().__init__(topology, lab, events)
        # Machines are worked on in parallel, and the state file is one.
        self._remembering = threading.Lock()
        self._cancelled = threading.Event()
        # What machines have, found by `_look`.
        self._facts: dict[str, dict[str, Any]] = {}

    # --- life -----------------------------------------------------------------------------------

    def check(self) -> None:
        """See that this host has what it needs: keys, known machines, power; asks no machine."""
        for node in self.topology.nodes:
            hostkeys.identity(node)
            hostkeys.pinned(node)
            consoles.url(node)
            switch = power.of(node)
            if switch is not None:
                switch.check()

    @property
    def has_libraries_before(self) -> bool:
        """What is in a lab room is there without this lab."""
        return True

    def reach_libraries(self) -> None:
        """Have the media servers answer."""
        names = {library.node for library in self.topology.libraries}
        nodes = [node for node in self.topology.nodes if node.name in names]
        self._record_consoles()
        self._in_parallel(self._reach, nodes)

    def up(self) -> None:
        """Reach every machine, look whether it will do, claim a folder on it, bring the product."""
        self._record_consoles()
        self._in_parallel(self._reach, self.topology.nodes)
        # All are looked at before anything is put on one.
        self._in_parallel(self._look, self.topology.nodes)
        product = None
        if any(node.machine.product == "deploy" for node in self.topology.nodes):
            with self.events.stepping("", "product") as progress:
                product = ensure_product(checkout(), Cache(), progress)
                progress(product.version)
        self._in_parallel(lambda node: self._prepare(node, product), self.topology.nodes)
        if self.topology.with_role(BACKUP_SERVER):
            daemons.start_relays(self)

    def install(self, node: Node, files: Sequence[NodeFile]) -> None:
        """Write configuration files over SSH."""
        deploy.install(self.ssh[node.name], files)
        self.events.step(node.name, "configuration", "done")

    def start(self, node: Node) -> None:
        """(Re)start the node's roles, one daemon for all of them."""
        if not node.served_roles:
            return
        with self.events.stepping(node.name, "start"):
            daemons.start_roles(self, node)

    def stop(self, node: Node) -> None:
        """End the node's roles."""
        daemons.stop_roles(self, node)

    def down(self) -> None:
        """Leave every machine as it was found; the first that cannot be is named after the others."""
        try:
            self._in_parallel(self._leave, [node for node in self.topology.nodes if self.memory(node)])
            if self.leases is not None:
                self.leases.release()  # while the media server is still on
            self._in_parallel(self._power_off, self.topology.nodes)
        finally:
            for ssh in self.__dict__.get("ssh", {}).values():
                ssh.close()
            if not any(self.memory(node) for node in self.topology.nodes):
                self._end_recorder()

    def alive(self) -> Mapping[str, bool]:
        """Which nodes run; a machine that nothing was put on is not asked."""
        with ThreadPoolExecutor(max_workers=len(self.topology.nodes)) as pool:
            runs = pool.map(self._alive, self.topology.nodes)
            return dict(zip((node.name for node in self.topology.nodes), runs, strict=True))

    # --- reaching nodes -------------------------------------------------------------------------

    def paths(self, node: Node) -> NodePaths:
        """Where the topology lets the lab have its folders."""
        return layout.paths(node, self.lab)

    def lease_folder(self, node: Node) -> str:
        """The folder that all labs with this machine share."""
        return node.machine.leases

    def journal_command(self, node: Node) -> Sequence[str] | None:
        """What prints what the roles said, by journal or by log."""
        if not node.served_roles or not self.memory(node).get("claimed"):
            return None
        return daemons.journal_command(self, node)

    def consoles(self) -> Mapping[str, Path]:
        """Recordings of the consoles there are."""
        found = {
            node.name: consoles.log(node, self.lab.node_folder(node.name)) for node in self.topology.nodes
        }
        return {name: path for name, path in found.items() if path is not None}

    @property
    def netns(self) -> str | None:
        """The site's own network."""
        return None

    @property
    def bridge(self) -> str | None:
        """There is no place from which all traffic is seen."""
        return None

    @property
    def is_root(self) -> bool:
        """Whether commands run as root on all machines."""
        return all(node.ssh.user == ROOT or node.ssh.sudo for node in self.topology.nodes)

    def watched(self) -> AbstractContextManager[Callable[[], set[Connection]]]:
        """Watch the sockets of the connection server's and the media server's machine."""
        names = {self.topology.only(role).name for role in (CONNECTION_SERVER, MEDIA_SERVER)}
        return watch.watching([self.ssh[name] for name in sorted(names)])

    def ndmp_recordings(self) -> list[Path]:
        """Bring the recordings of the relays here."""
        daemons.fetch_recordings(self)
        return super().ndmp_recordings()

    def ndmp_reachable_at(self, node: Node) -> tuple[str, int]:
        """Point the DMA at the relay before this node's NDMP service."""
        return daemons.relay_address(self, node)

    # --- what the parts of this provider share ----------------------------------------------------

    @cached_property
    def ssh(self) -> dict[str, Ssh]:
        """One connection per machine, opened on first use."""
        return {node.name: self._ssh_to(node) for node in self.topology.nodes}

    def memory(self, node: Node) -> dict[str, Any]:
        """Return what is remembered of a machine: powered, claimed, systemd."""
        kept: dict[str, Any] = self.lab.provider_data.get("machines", {}).get(node.name, {})
        return kept

    def remember(self, node: Node, **what: Any) -> None:
        """Remember something of a machine, on disk, before it is done."""
        with self._remembering:
            machines = self.lab.provider_data.setdefault("machines", {})
            machines[node.name] = machines.get(node.name, {}) | what
            self.lab.save()

    def forget(self, node: Node, *names: str) -> None:
        """Forget something of a machine, after it was undone."""
        with self._remembering:
            kept = self.lab.provider_data.get("machines", {})
            left = {key: value for key, value in kept.get(node.name, {}).items() if key not in names}
            kept.pop(node.name, None)
            if left:
                kept[node.name] = left
            self.lab.save()

    # --- within ---------------------------------------------------------------------------------

    def _ssh_to(self, node: Node) -> Ssh:
        return Ssh(
            node.name,
            reach.connect_to(node),
            node.ssh.user,
            hostkeys.identity(node),
            hostkeys.pinned(node),
            layout.environment(node, self.lab),
            ("sudo", "-n", "--") if node.ssh.sudo else (),
        )

    def _reach(self, node: Node) -> None:
        with self.events.stepping(node.name, "reach", hostkeys.address(node)) as progress:
            was_off = lambda: self.remember(node, powered=True)  # noqa: E731
            reach.reach(node, self.ssh[node.name], was_off, progress, self._cancelled)
            progress("SSH answers")

    def _look(self, node: Node) -> None:
        """See whether the machine will do."""
        with (
            self.events.stepping(node.name, "check the machine"),
            reach.step(node, "check the machine", "it needs python3, tar and coreutils"),
        ):
            self._facts[node.name] = facts = self._probe(node)
            preflight.judge(self.topology, node, facts)

    def _prepare(self, node: Node, product: Product | None) -> None:
        """Claim the machine, bring the product, make the folders."""
        ssh = self.ssh[node.name]
        with self.events.stepping(node.name, "claim", layout.folder(node)):
            self._claim(node)
            self.remember(node, systemd=preflight.by_systemd(node, self._facts[node.name]))
        if product is not None and node.machine.product == "deploy":
            with (
                self.events.stepping(node.name, "deploy", product.version),
                reach.step(node, "deploy", f"room in {node.machine.base}?"),
            ):
                deploy.deploy(ssh, layout.product(node), product.tree, product.version)
        else:
            self._require_product(node)
        paths = self.paths(node)
        roots = [f"{paths.data}/{item.dir}" for item in self.topology.junctions(node.name)]
        self.run(node, ["mkdir", "-p", "--", paths.state, paths.scratch, *roots])

    def _probe(self, node: Node) -> dict[str, Any]:
        """What the machine has; where our own roles run already, their ports are not looked at."""
        folders = {"base": node.machine.base, "data": node.machine.data, "scratch": node.machine.scratch}
        wanted = {
            "folders": {name: place or node.machine.base for name, place in folders.items()},
            "binds": [] if self._alive(node) else preflight.binds(self.topology, node),
            "tools": preflight.TOOLS,
        }
        begin = time.time()
        facts: dict[str, Any] = guest.call(self, node, "probe", wanted)
        # The machine looked at its clock between our two looks.
        off = max(begin - facts["time"], facts["time"] - time.time(), 0.0)
        if off > CLOCK_SECONDS:
            raise InfrastructureError(
                f"{node.name}: its clock is off by {off:.0f} s", hint="set it: chronyd or systemd-timesyncd"
            )
        return facts

    def _claim(self, node: Node) -> None:
        """Make the lab's folder there; another lab's is named, and anybody else's left alone."""
        self.remember(node, claimed=True)
        answer = guest.call(self, node, "claim", self._claim_argument(node, "take"))
        if answer["ours"]:
            return
        self.forget(node, "claimed")
        folder = layout.folder(node)
        if answer["claim"] is None:
            raise InfrastructureError(
                f"{node.name}: claim: {folder} is there and no lab's",
                hint="name another `machine: base`, or remove it if you know what it is",
            )
        holder = f"{answer['claim']['holder']} since {answer['claim']['since']}"
        raise InfrastructureError(
            f"{node.name}: claim: {node.address} is used by {holder}",
            hint=f"bring that lab down; if its harness is gone for good, remove {folder} on {node.name}",
        )

    def _claim_argument(self, node: Node, action: str) -> dict[str, Any]:
        claim = {
            "id": leases.owner_of(self.lab),
            "holder": leases.holder_of(self.lab),
            "since": time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime()),
        }
        elsewhere = layout.elsewhere(node, self.lab)
        return {"action": action, "folder": layout.folder(node), "claim": claim, "elsewhere": elsewhere}

    def _require_product(self, node: Node) -> None:
        """See that an installed product answers."""
        try:
            self.run(node, ["spanreel", "--version"])
        except InfrastructureError as error:
            raise UsageError(
                f"{node.name}: product: `spanreel` is not installed: {error.message}",
                hint="`machine: bin` names its folder; or write `machine: {product: deploy}`",
            ) from error

    def _alive(self, node: Node) -> bool:
        if not self.memory(node).get("claimed"):
            return False
        try:
            self.ssh[node.name].open(reach.CONNECT_SECONDS)
            return not node.served_roles or daemons.roles_run(self, node)
        except HarnessError:
            return False

    def _leave(self, node: Node) -> None:
        """End what runs, keep its words, remove what was written."""
        if not self.memory(node).get("claimed"):
            return
        with (
            self.events.stepping(node.name, "leave"),
            reach.step(node, "leave the machine as it was", hostkeys.remedy(node)),
        ):
            daemons.stop_all(self, node)
            daemons.keep_words(self, node)
            guest.call(self, node, "claim", self._claim_argument(node, "release"))
            self.forget(node, "claimed", "systemd")

    def _power_off(self, node: Node) -> None:
        """Switch off what we switched on, unless it could not be left."""
        kept = self.memory(node)
        switch = power.of(node)
        if switch is not None and kept.get("powered") and not kept.get("claimed"):
            with self.events.stepping(node.name, "power off"):
                switch.off()
            self.forget(node, "powered")

    def _record_consoles(self) -> None:
        """Record all consoles, from before power on; a recorder that runs is kept."""
        kept = self.lab.provider_data.get("recorder")
        if kept is not None and processes.alive(processes.Started(**kept)):
            return
        logs = self.consoles()
        wanted = {place: logs[node.name] for node in self.topology.nodes if (place := consoles.url(node))}
        if wanted:
            with self.events.stepping("", "record consoles", f"{len(wanted)}"):
                pid = console.start_recorder(wanted, self.lab.folder / "console-recorder.log")
                self.lab.provider_data["recorder"] = processes.remember(pid).to_json()
                self.lab.save()

    def _end_recorder(self) -> None:
        kept = self.lab.provider_data.pop("recorder", None)
        if kept is not None:
            processes.stop(processes.Started(**kept))
        self.lab.save()
