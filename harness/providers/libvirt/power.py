"""The machines and libraries of a lab as `keeping` wants them."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from harness import console
from harness.providers.libvirt import machines
from harness.providers.libvirt.daemon import LibvirtDaemon
from harness.providers.libvirt.domain import EMULATOR
from harness.providers.libvirt.names import Names
from harness.topology import Node


class LabPower:
    """The machines of a lab; its libvirtd runs."""

    def __init__(self, names: Names, daemon: LibvirtDaemon, nodes: Sequence[Node]) -> None:
        self._names = names
        self._daemon = daemon
        self._nodes = {node.name: node for node in nodes}

    def suspend(self) -> None:
        """Have all stand still."""
        with self._daemon.connected() as connection:
            machines.suspend(connection, self._domains())

    def save(self, node: str, target: Path) -> None:
        """Write one's memory; it is gone then."""
        with self._daemon.connected() as connection:
            machines.save(connection, self._domain(node), target)

    def there(self) -> set[str]:
        """Return which are there, running or not."""
        with self._daemon.connected() as connection:
            found = set(machines.all_names(connection))
        return {name for name in self._nodes if self._domain(name) in found}

    def restore(self, sources: Mapping[str, Path]) -> None:
        """Make machines of saved memory, standing still, with their new consoles recorded."""
        if not sources:
            return
        consoles: dict[str, Path] = {}
        lock = threading.Lock()

        def one(node: str) -> None:
            device = machines.restore_paused(connection, self._domain(node), sources[node])
            with lock:
                consoles[device] = self._names.console_log(self._nodes[node])

        with self._connected() as connection:
            with ThreadPoolExecutor(len(sources)) as pool:
                list(pool.map(one, sources))
            console.start_recorder(consoles, self._names.logs / "console-recorder.log", self._names.netns)

    def resume(self) -> None:
        """Let all go on."""
        with self._daemon.connected() as connection:
            machines.set_going(connection, self._domains())

    def destroy(self) -> None:
        """Switch all off that are there."""
        with self._daemon.connected() as connection:
            machines.destroy(connection, machines.all_names(connection))

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Any]:
        """A connection to a libvirtd that has the lab's network."""
        with self._daemon.connected() as connection:
            machines.ensure_network(connection, self._names.host_address())
            yield connection

    def _domain(self, node: str) -> str:
        return self._names.domain(self._nodes[node])

    def _domains(self) -> list[str]:
        return [self._domain(name) for name in self._nodes]


class LabLibraries:
    """All libraries on the host, of every kind."""

    def __init__(self, start: Callable[[], None], stop: Sequence[Callable[[], None]]) -> None:
        self.start = start
        self._stop = stop

    def stop(self) -> None:
        """End all of them."""
        for one in self._stop:
            one()


def identity(*files: Path) -> str:
    """Return a hash of which files these are: another one of the same name, or a changed one, is another.

    Memory was saved over a disk block by block, so an image that was built again is not good enough.
    """
    words = []
    for file in files:
        try:
            status = file.stat()
            words.append(f"{file} {status.st_ino} {status.st_size} {status.st_mtime_ns}")
        except FileNotFoundError:
            words.append(f"{file} absent")
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]


def hypervisor(*, kvm: bool, cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return a hash of what saves memory, and of the processor: emulated machines read its counter."""
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    model = next((line for line in lines if line.startswith("model name")), "")
    return hashlib.sha256(f"{identity(Path(EMULATOR))} {kvm} {model}".encode()).hexdigest()[:16]
