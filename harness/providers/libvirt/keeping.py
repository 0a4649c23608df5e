"""Keeps the machines of a lab, and puts them back: memory, disks and cartridges of one moment.

All machines stop within milliseconds of each other and go on together, so connections between them live on:
what was on its way is sent again.  Their memory and disks are a pair; disks are copied only while no machine
runs, and memory is never put to other disks.  Libraries are copied while they are stopped, with empty drives:
to machines a library looks as after a reset.

    NODE/memory          what libvirt saves
    NODE/root.qcow2 …    disks
    tapes/…              cartridges
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from harness.copying import copy, replace

MEMORY, TAPES = "memory", "tapes"


class Power(Protocol):
    """The machines, by their nodes' names."""

    def suspend(self) -> None:
        """Have all stand still."""

    def save(self, node: str, target: Path) -> None:
        """Write the memory of a machine that stands still, and end it."""

    def there(self) -> set[str]:
        """Return which are there, running or not."""

    def restore(self, sources: Mapping[str, Path]) -> None:
        """Make machines of saved memory, standing still, with their consoles recorded."""

    def resume(self) -> None:
        """Let all go on."""

    def destroy(self) -> None:
        """Switch all off."""


class Libraries(Protocol):
    """The tape libraries of the lab."""

    def start(self) -> None:
        """Start them, with what is in their folder."""

    def stop(self) -> None:
        """End them; everything written is in their folder."""


class Keeping:
    """Keeps and puts back.

    Args:
        power: the machines.
        libraries: their libraries.
        tapes: the folder of cartridges.
        disks: for each node, its disks' files; all of them exist while the lab runs.

    """

    def __init__(
        self,
        power: Power,
        libraries: Libraries,
        tapes: Path,
        disks: Callable[[], Mapping[str, Sequence[Path]]],
    ) -> None:
        self._power = power
        self._libraries = libraries
        self._tapes = tapes
        self._disks = disks

    def keep(self, folder: Path) -> None:
        """Write everything to an empty folder; the machines run again afterwards, whatever happens."""
        disks = self._disks()
        for node in disks:
            (folder / node).mkdir()
        saved: dict[str, Path] = {}

        def save(node: str) -> None:
            self._power.save(node, folder / node / MEMORY)
            saved[node] = folder / node / MEMORY

        self._power.suspend()
        try:
            _in_parallel(save, disks)
            self._libraries.stop()
            _in_parallel(lambda node: _copy_all(disks[node], folder / node), disks)
            if self._tapes.exists():
                copy(self._tapes, folder / TAPES)
        finally:
            # One whose memory could not be written is still there, and goes on.
            self._libraries.start()
            there = self._power.there()
            self._power.restore({node: path for node, path in saved.items() if node not in there})
            self._power.resume()

    def put_back(self, folder: Path) -> None:
        """Make everything what it was; the machines run when it returns."""
        disks = self._disks()
        self._power.destroy()
        self._libraries.stop()
        for node, files in disks.items():
            for file in files:
                replace(folder / node / file.name, file)
        if (folder / TAPES).exists():
            replace(folder / TAPES, self._tapes)
        self._libraries.start()
        self._power.restore({node: folder / node / MEMORY for node in disks})
        self._power.resume()


def _copy_all(files: Sequence[Path], folder: Path) -> None:
    for file in files:
        copy(file, folder / file.name)


def _in_parallel(work: Callable[[str], None], nodes: Mapping[str, object]) -> None:
    """Do something for all nodes; the first error is raised after all have ended."""
    with ThreadPoolExecutor(max(1, len(nodes))) as pool:
        list(pool.map(work, nodes))
