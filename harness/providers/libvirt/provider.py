"""The real thing: each role in a virtual machine of one image, kernel NFS, SCSI devices of a real kernel."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from harness import console, drives, netns
from harness.copying import used
from harness.deployment import playbook
from harness.errors import InfrastructureError
from harness.events import Events
from harness.faults.link import Bad
from harness.image.build import Image, built_image, built_plain, ensure_image, ensure_plain, repair_dev_null
from harness.image.cache import Cache
from harness.image.product import Product, ensure_product, product_disk, product_key
from harness.image.recipe import checkout
from harness.lab import LabState
from harness.providers import installed
from harness.providers.base import NodeFile, NodePaths
from harness.providers.libvirt import harm, machines, packages, preflight, roles
from harness.providers.libvirt.claim import Claim
from harness.providers.libvirt.daemon import LibvirtDaemon, quiet_errors
from harness.providers.libvirt.disks import (
    config_archive,
    data_disk,
    machine_files,
    overlay,
    plain_files,
    write_secret,
)
from harness.providers.libvirt.domain import Disk, Machine
from harness.providers.libvirt.identity import ensure_key
from harness.providers.libvirt.iscsimodel import ModelDaemon, ModelTarget
from harness.providers.libvirt.keeping import Keeping
from harness.providers.libvirt.kvm import use_kvm
from harness.providers.libvirt.names import BRIDGE, Names
from harness.providers.libvirt.power import LabLibraries, LabPower, hypervisor, identity
from harness.providers.libvirt.tgt import TapeDaemon, Target
from harness.providers.libvirt.tsc import tsc_khz
from harness.providers.remote import RemoteProvider
from harness.ssh import Ssh
from harness.topology import (
    APPLIANCE,
    FILE_SERVER,
    MEDIA_SERVER,
    MODEL_TARGET,
    PLAIN,
    Library,
    Node,
    Topology,
)

# A process that was told to end and has not is killed after this.
_STOP_SECONDS = 10.0


class LibvirtProvider(RemoteProvider):
    """Virtual machines on this host."""

    def __init__(self, topology: Topology, lab: LabState, events: Events) -> None:
        super().__init__(topology, lab, events)
        self._names = Names(lab)
        self._claim = Claim(self._names.runtime, lab.folder, lambda: netns.exists(self._names.netns))
        self._cache = Cache()
        self._daemon = LibvirtDaemon(self._names, self._cache.root / "libvirt")
        self._tape = TapeDaemon(self._names.netns, self._names.runtime)
        self._models = ModelDaemon(self._names.netns, self._names.runtime)
        # Set when one machine failed: the others need not be waited for.
        self._cancelled = threading.Event()
        # Several machines are deployed at once, by one inventory.
        self._inventory = threading.Lock()
        self._console_offsets: dict[str, int] = {}
        # Packages for plain machines, where there are such.
        self._repository: Path | None = None
        quiet_errors()

    # --- life -----------------------------------------------------------------------------------

    def check(self) -> None:
        """See that this host can carry the lab."""
        self._claim.require()
        if all(self.alive().values()):
            return
        use_kvm()
        built = os.geteuid() == 0 and built_image(checkout(), self._cache) is not None
        preflight.check(self.topology, self.lab.folder, self._cache.root, image_is_there=built)

    def up(self) -> None:
        """Image, product, network, library, machines; in parallel where one does not need the other."""
        repair_dev_null()
        alive = self.alive()
        # What runs already was perhaps left by an `up` that was interrupted: it is waited for like the rest.
        self._console_offsets = machines.console_sizes(self.consoles())
        absent = [node for node in self.topology.nodes if not alive[node.name]]
        if absent:
            self._make(absent)
        self._in_parallel(self._bring_up, self.topology.nodes)

    def install(self, node: Node, files: Sequence[NodeFile]) -> None:
        """Write configuration files over SSH; those of a plain machine came with its deployment."""
        if node.image != PLAIN:
            roles.install(self.ssh[node.name], files)

    def start(self, node: Node) -> None:
        """(Re)start the node's role units."""
        for role in node.served_roles:
            with self.events.stepping(node.name, f"start {role}"):
                roles.start(self.ssh[node.name], role)

    def stop(self, node: Node) -> None:
        """End the node's role units."""
        roles.stop(self.ssh[node.name], node.served_roles)

    def down(self) -> None:
        """Switch everything off and remove it; works on half-made labs and twice."""
        self._close_ssh()
        if self._claim.other() is None:
            self._end_all()
        for node in self.topology.nodes:
            self._remove_disks(node)
        repair_dev_null()

    def alive(self) -> Mapping[str, bool]:
        """Which machines run."""
        names: set[str] = set()
        if netns.exists(self._names.netns) and self._claim.other() is None:
            with contextlib.suppress(InfrastructureError), self._daemon.connected() as connection:
                names = machines.running(connection)
        return {node.name: self._names.domain(node) in names for node in self.topology.nodes}

    # --- checkpoints ----------------------------------------------------------------------------

    rewinds = True

    def made_of(self) -> Mapping[str, str]:
        """Name image, product and hypervisor; disks and memory are worth nothing with any other."""
        image, key = built_image(checkout(), self._cache), product_key(checkout())
        disks = () if image is None else (image.disk, image.kernel, image.initrd)
        product = product_disk(key, self._cache)
        if PLAIN in {node.image for node in self.topology.nodes}:
            plain = built_plain(checkout(), self._cache)
            disks = () if plain is None else (*disks, plain.image.disk)
        return {
            "image": identity(*disks),
            "product": f"{key} {identity(product)}",
            "hypervisor": hypervisor(kvm=use_kvm()),
        }

    def keeping_bytes(self) -> int:
        """All memory, though free pages are not written, and what disks and cartridges hold."""
        memory = sum(node.memory_mib for node in self.topology.nodes) << 20
        disks = [file for files in self._disks().values() for file in files]
        return memory + used(*disks, *([self._names.tapes] if self._names.tapes.exists() else []))

    def keep(self, folder: Path) -> None:
        """Stop all machines within milliseconds, save them, and let them go on."""
        with self.events.stepping("", "empty the drives"):
            drives.empty_all(self)
        self._close_ssh()  # the machines' ends would be kept, and belong to nobody later
        try:
            self._keeping.keep(folder)
        finally:
            self._in_parallel(self._wake, self.topology.nodes)

    def put_back(self, folder: Path) -> None:
        """Make machines, disks and cartridges what they were."""
        repair_dev_null()
        self._close_ssh()
        self._make_network()
        self._daemon.start()
        self._console_offsets = machines.console_sizes(self.consoles())
        self._keeping.put_back(folder)
        self._in_parallel(self._wake, self.topology.nodes)

    @property
    def _keeping(self) -> Keeping:
        libraries = LabLibraries(self._start_libraries, [self._tape.stop, self._models.stop])
        power = LabPower(self._names, self._daemon, self.topology.nodes)
        return Keeping(power, libraries, self._names.tapes, self._disks)

    def _disks(self) -> dict[str, list[Path]]:
        """Every file that a machine has as a disk of its own."""
        found = {}
        for node in self.topology.nodes:
            folder = self.lab.node_folder(node.name)
            data = [folder / f"{disk.name}.img" for disk in node.disks]
            found[node.name] = [folder / "root.qcow2", folder / "config.tar", *data]
        return found

    def _wake(self, node: Node) -> None:
        """Wait for a machine that was made of its memory, set its clock, and see that its roles serve."""
        with self.events.stepping(node.name, "wake") as progress:
            self._wait_for_ssh(node, progress)
            roles.wake(self.ssh[node.name], node.served_roles)
            if node.has(FILE_SERVER) or node.has(MEDIA_SERVER):
                address = (node.address, self.topology.ndmp_port)
                roles.require_greeting(
                    node.name, lambda timeout: netns.connect(self._names.netns, address, timeout)
                )
            progress("roles answer")

    def _close_ssh(self) -> None:
        for ssh in self.__dict__.get("ssh", {}).values():
            ssh.close()

    # --- harm -----------------------------------------------------------------------------------

    # Keepalive takes two minutes; one peer may learn of a loss from another that waited so long.
    patience = 4.0

    def kill(self, node: Node) -> None:
        """Kill the node's roles."""
        harm.kill(self.ssh[node.name], node.served_roles)

    def cut_power(self, node: Node) -> None:
        """Switch the machine off; its disks keep what it had written to them."""
        with self._daemon.connected() as connection:
            machines.destroy(connection, [self._names.domain(node)])
        self.ssh[node.name].close()

    def recover(self, node: Node) -> None:
        """Switch the machine on again if need be, and wait for its roles."""
        if self.alive()[node.name]:
            roles.await_ready(self.ssh[node.name], node.served_roles)
            return
        self._console_offsets = machines.console_sizes(self.consoles())
        self._make([node], with_disks=False)
        self._bring_up(node, deploy=False)
        self.start(node)

    @contextlib.contextmanager
    def bad_link(self, node: Node, bad: Bad) -> Iterator[None]:
        """Have packets of the machine lost where it meets the bridge."""
        with self._daemon.connected() as connection:
            port = machines.port(connection, self._names.domain(node))
        with harm.bad_link(self._names.netns, port, bad):
            yield

    @contextlib.contextmanager
    def wrong_clock(self, node: Node, seconds: int) -> Iterator[None]:
        """Set the machine's clock; its hardware clock is the host's, and right."""
        harm.set_clock(self.ssh[node.name], seconds)
        try:
            yield
        finally:
            harm.set_clock(self.ssh[node.name], 0)

    def model_on_host(self, library: Library) -> Path | None:
        """Return where cartridges and fault script of such a library lie."""
        return self._names.tapes / library.changer if library.transport == MODEL_TARGET else None

    # --- reaching nodes -------------------------------------------------------------------------

    def paths(self, node: Node) -> NodePaths:
        """Where the appliance image keeps things."""
        return installed.paths(node, self.lab.token)

    def consoles(self) -> Mapping[str, Path]:
        """Recordings of the serial consoles."""
        return {node.name: self._names.console_log(node) for node in self.topology.nodes}

    @property
    def netns(self) -> str | None:
        """The lab's network namespace."""
        return self._names.netns

    @property
    def bridge(self) -> str | None:
        """All traffic between machines crosses this bridge."""
        return BRIDGE

    # --- making machines ------------------------------------------------------------------------

    @cached_property
    def ssh(self) -> dict[str, Ssh]:
        """One connection per node, opened on first use."""
        identity = self.lab.secrets / "ssh"
        ensure_key(identity)
        return {node.name: self._ssh_to(node, identity) for node in self.topology.nodes}

    def _ssh_to(self, node: Node, identity: Path) -> Ssh:
        environment = {
            "SPANREEL_CONFIG": self.paths(node).config,
            "LC_ALL": "C.UTF-8",
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        }
        address = self.ssh_address(node)
        return Ssh(
            node.name,
            lambda timeout: netns.connect(self._names.netns, address, timeout),
            node.ssh.user,
            identity,
            ensure_key(self._host_key(node)),
            environment,
        )

    def _host_key(self, node: Node) -> Path:
        return self.lab.secrets / "host-keys" / node.name

    def _targets(self) -> list[Target]:
        libraries = [library for library in self.topology.libraries if library.transport == "tgt"]
        return [
            Target(number, self._names.target(number, library), library, self._names.tapes / library.changer)
            for number, library in enumerate(libraries, start=1)
        ]

    def _model_targets(self) -> list[ModelTarget]:
        libraries = [library for library in self.topology.libraries if library.transport == MODEL_TARGET]
        return [
            ModelTarget(
                number, self._names.target(number, library), library, self._names.tapes / library.changer
            )
            for number, library in enumerate(libraries, start=1)
        ]

    def _make(self, nodes: Sequence[Node], *, with_disks: bool = True) -> None:
        """Build what is missing and switch machines on, with new disks or with those they have."""
        with self.events.stepping("", "image") as progress:
            images = self._images(progress)
        with self.events.stepping("", "product") as progress:
            product = ensure_product(checkout(), self._cache, progress)
            progress(product.version)
        with self.events.stepping("", "network and library"):
            self._make_network()
            self._start_libraries()
            self._daemon.start()
        if with_disks:
            for node in nodes:
                self._make_disks(node, images[node.image])
        self._power_on(nodes, images, product)

    def _images(self, progress: Callable[[str], None]) -> dict[str, Image]:
        """What the machines boot, by the topology's word for it."""
        images = {APPLIANCE: ensure_image(checkout(), self._cache, progress)}
        if PLAIN in {node.image for node in self.topology.nodes}:
            plain = ensure_plain(checkout(), self._cache, progress)
            images[PLAIN], self._repository = plain.image, plain.repository
        progress(", ".join(image.key for image in images.values()))
        return images

    def _make_network(self) -> None:
        self._claim.clear()
        self._names.runtime.mkdir(parents=True, exist_ok=True)
        self._names.logs.mkdir(parents=True, exist_ok=True)
        netns.create(self._names.netns)
        self._claim.take()

    def _start_libraries(self) -> None:
        if targets := self._targets():
            self._tape.start(targets)
        self._models.start(self._model_targets())

    def _power_on(self, nodes: Sequence[Node], images: Mapping[str, Image], product: Product) -> None:
        """Make all machines paused, record their consoles, then let them go together."""
        ssh = self.ssh  # makes the keys, once, before several threads want them
        assert len(ssh) == len(self.topology.nodes)
        kvm = use_kvm()
        detail = "KVM" if kvm else "emulated processors"
        with self.events.stepping("", "power on", detail), self._daemon.connected() as connection:
            machines.ensure_network(connection, self._names.host_address())
            if self._repository is not None:
                log = self._names.logs / "packages.log"
                packages.serve(self._names.netns, self._names.host_address(), self._repository, log)
            names = [self._names.domain(node) for node in nodes]
            # One that stands still was left so by an `up` that was interrupted; its console is not recorded.
            machines.destroy(connection, names)
            recordings: dict[str, Path] = {}

            def create(node: Node) -> None:
                machine = self._machine(node, images[node.image], product, kvm=kvm)
                recordings[machines.create_paused(connection, machine)] = self._names.console_log(node)

            self._in_parallel(create, nodes)
            console.start_recorder(recordings, self._names.logs / "console-recorder.log", self._names.netns)
            machines.set_going(connection, names)

    def _make_disks(self, node: Node, image: Image) -> None:
        """New, empty disks of a machine, and its identity."""
        folder, key = self.lab.node_folder(node.name), self._host_key(node)
        overlay(image.disk, folder / "root.qcow2")
        public, client = ensure_key(key), ensure_key(self.lab.secrets / "ssh")
        files = machine_files(
            self.topology, self.lab.name, node.name, node.disks, key.read_bytes(), public, client
        )
        if node.image == PLAIN:
            files |= plain_files(packages.apt_source(self._names.host_address()))
        write_secret(folder / "config.tar", config_archive(files))
        for disk in node.disks:
            data_disk(disk, folder / f"{disk.name}.img")

    def _machine(self, node: Node, image: Image, product: Product, *, kvm: bool) -> Machine:
        folder = self.lab.node_folder(node.name)
        disks = [
            Disk("root", folder / "root.qcow2", "qcow2"),
            Disk("config", folder / "config.tar", readonly=True),
        ]
        if node.image != PLAIN:
            disks.append(Disk("product", product.disk, readonly=True))
        disks += [Disk(disk.name, folder / f"{disk.name}.img") for disk in node.disks]
        arguments = [*image.kernel_arguments, *([] if kvm else self._emulation_arguments(image))]
        arguments += [f"spanreel.address={node.address}/24", f"systemd.hostname={node.name}"]
        here: list[Target | ModelTarget] = [*self._targets(), *self._model_targets()]
        scsi = [unit for target in here if target.library.node == node.name for unit in target.units()]
        return Machine(
            self._names.domain(node),
            node.memory_mib,
            node.cpus,
            self._names.mac(node),
            kvm,
            image.kernel,
            image.initrd,
            arguments,
            disks,
            scsi,
        )

    @staticmethod
    def _emulation_arguments(image: Image) -> list[str]:
        khz = tsc_khz()
        return [*image.emulation_arguments, *([f"tsc_early_khz={khz}"] if khz else [])]

    def _bring_up(self, node: Node, *, deploy: bool = True) -> None:
        """Wait for one machine, and make it what `up` promises; one that has its disks was deployed."""
        ssh = self.ssh[node.name]
        with self.events.stepping(node.name, "boot") as progress:
            self._wait_for_ssh(node, progress)
            progress("SSH answers")
        if node.image == PLAIN and deploy:
            self._deploy(node)
        folders = [self.paths(node).scratch]
        if node.has(FILE_SERVER):
            folders += [f"{self.paths(node).data}/{part.dir}" for part in self.topology.junctions(node.name)]
        if node.image == PLAIN:
            # Its own deployment mounts disks, if it has any.
            ssh.run(["mkdir", "-p", "--", *folders])
            return
        with self.events.stepping(node.name, "disks", ", ".join(disk.filesystem for disk in node.disks)):
            roles.wait_for_disks(ssh, folders)

    def _wait_for_ssh(self, node: Node, progress: Callable[[str], None]) -> None:
        ssh, log = self.ssh[node.name], self._names.console_log(node)
        offset = self._console_offsets.get(node.name, log.stat().st_size)
        is_running = lambda: self.alive()[node.name]  # noqa: E731
        machines.wait_for_ssh(ssh, log, offset, is_running, self._cancelled.is_set, progress)

    def _deploy(self, node: Node) -> None:
        """Make a node of a plain machine, as an operator would: by `site.yml`, over SSH."""
        product = ensure_product(checkout(), self._cache, lambda _: None)
        with self._inventory:
            folder = playbook.prepare(self.topology, self.lab, product)
        command = self.host_argv(playbook.argv(folder, "site.yml", "--limit", node.name))
        log = self._names.logs / f"ansible-{node.name}.log"
        with self.events.stepping(node.name, "deploy") as progress:
            changed = playbook.run(command, log, f"{node.name}: site.yml", progress)
            progress(f"{changed[node.name]} changes")

    # --- and removing them ----------------------------------------------------------------------

    def _end_all(self) -> None:
        if netns.exists(self._names.netns):
            self._switch_off()
            self._tape.stop()
            self._models.stop()
            self._daemon.stop()
            # The console recorder, and whatever a crash left: everything of a lab lives in its namespace.
            self._end_processes()
            netns.delete(self._names.netns)
        shutil.rmtree(self._names.runtime, ignore_errors=True)

    def _switch_off(self) -> None:
        with contextlib.suppress(InfrastructureError), self._daemon.connected() as connection:
            machines.destroy(connection, machines.all_names(connection))

    def _end_processes(self) -> None:
        deadline = time.monotonic() + _STOP_SECONDS
        number = signal.SIGTERM
        while pids := netns.pids(self._names.netns):
            if time.monotonic() > deadline:
                number = signal.SIGKILL
                if time.monotonic() > deadline + _STOP_SECONDS:
                    raise InfrastructureError(f"processes of the lab do not end: {pids}")
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            time.sleep(0.2)

    def _remove_disks(self, node: Node) -> None:
        """Free the disks of one machine; logs and recordings stay."""
        folder = self.lab.folder / "nodes" / node.name
        for path in (*folder.glob("*.qcow2"), *folder.glob("*.img"), folder / "config.tar"):
            path.unlink(missing_ok=True)
