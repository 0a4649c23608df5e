"""What scenarios work with: a small tree over all owners, commands, comparisons, faults.

The tree is made once.  The part that a job spends most of its time in belongs to the *victim*, a file
server that is not the usual entry server, and is larger than everything that waits in buffers between a file
and the tape: while the tape is held within that part, its owner is still sending.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import drives, guest, manifest, nodeconfig, parts, seed
from harness.checks.result import verdict
from harness.checks.trees import same_tree
from harness.compare import OWNER_FIELDS, move, without
from harness.errors import CheckError
from harness.job.record import Run
from harness.manifest import Manifest
from harness.providers.base import Provider
from harness.scenarios.running import Running
from harness.scenarios.tape import TapeFaults
from harness.topology import (
    BACKUP_SERVER,
    CONNECTION_SERVER,
    FILE_SERVER,
    OWN_MODELS,
    RESTORED,
    Junction,
    Library,
    Node,
)

# What a job may hold in sockets and rings between file and tape is some 28 MiB (measured).
LARGE_BYTES = 40 << 20
SMALL_BYTES = 300_000
# Exit codes in which a job says that it saved, or brought back, something.
USABLE = (0, 4)
WHOLE = ("backup", "/", "--exclude", RESTORED, "--json")


@dataclass
class Stage:
    """One lab, prepared once, and the run that scenarios are told into."""

    # The manifest of the tree, in the run's folder.
    ORIGINALS = "scenario-originals.jsonl"

    run: Run
    number: int
    expected: Manifest = field(default_factory=dict)
    labels: int = 0
    # The job that `prepare` made.
    baseline: str = ""

    @property
    def provider(self) -> Provider:
        """The lab's."""
        return self.run.provider

    # -- who is who ----------------------------------------------------------------------------------
    @property
    def backup_server(self) -> Node:
        """Where jobs are started."""
        return self.provider.topology.only(BACKUP_SERVER)

    @property
    def entry(self) -> Node:
        """The entry server, unless a scenario asks another."""
        return self.provider.topology.only(FILE_SERVER)

    @property
    def large(self) -> Junction:
        """The large part."""
        return next(item for item in parts.originals(self.provider) if item.owner != self.entry.name)

    @property
    def large_file(self) -> str:
        """The file that is most of it, which no scenario changes."""
        return f"{self.large.path}/large"

    @property
    def owner(self) -> Node:
        """The victim among file servers."""
        return self.provider.topology.node(self.large.owner)

    @property
    def connection_server(self) -> Node:
        """The one all streams go through."""
        return self.provider.topology.only(CONNECTION_SERVER)

    @property
    def media_server(self) -> Node:
        """The one jobs use."""
        return self.provider.topology.node(self.provider.topology.libraries[0].node)

    @property
    def tape(self) -> TapeFaults:
        """Faults of the library that jobs use."""
        return TapeFaults(self.provider, self.provider.topology.libraries[0])

    def chance(self, scenario: str) -> random.Random:
        """Return this scenario's source of chance: a function of the seed number alone."""
        return random.Random(f"{self.number} {scenario}")  # noqa: S311 - it must repeat

    # -- the tree ------------------------------------------------------------------------------------
    def prepare(self) -> None:
        """Write the tree, describe it, and save it once, so that every cartridge in use has its label."""
        with self.run.phase("prepare the lab"):
            seed.wipe(self.provider, list(self.provider.topology.gns))
            for node, mine in parts.by_owner(self.provider, parts.originals(self.provider)):
                roots = [
                    {"local": nodeconfig.local_root(self.provider, item.path), "files": self._files(item)}
                    for item in mine
                ]
                guest.call(self.provider, node, "seed_plain", {"number": self.number, "roots": roots})
            target = self.run.folder / self.ORIGINALS
            self.expected = manifest.take(self.provider, parts.originals(self.provider), target)
            self.baseline = self.backup(*WHOLE)["id"]

    def _files(self, junction: Junction) -> list[tuple[str, int]]:
        files = [(f"small/{index:02d}", SMALL_BYTES // 20) for index in range(20)]
        return [*files, ("large", LARGE_BYTES)] if junction == self.large else [*files, ("file", SMALL_BYTES)]

    def fill(self, path: str, name: str, count: int = 20, size: int = 20000) -> str:
        """Write files of chance below a part, for one scenario; return their global directory."""
        junction = parts.owner_of(self.provider, path)
        assert junction is not None
        files = [(f"{name}/quiet/{index:02d}", size) for index in range(count)]
        root = {"local": nodeconfig.local_root(self.provider, junction.path), "files": files}
        node = self.provider.topology.node(junction.owner)
        guest.call(self.provider, node, "seed_plain", {"number": self.number, "roots": [root]})
        return f"{junction.path}/{name}"

    def local(self, path: str) -> tuple[Node, str]:
        """Return where a global path lies, by the topology."""
        junction = parts.owner_of(self.provider, path)
        if junction is None:
            raise CheckError(f"{path} has no owner")
        top = nodeconfig.local_root(self.provider, junction.path)
        return self.provider.topology.node(junction.owner), top + path.removeprefix(junction.path)

    def describe(self, path: str) -> Manifest:
        """Describe what is at a global path now; nothing there is an empty manifest."""
        node, local = self.local(path)
        if self.provider.run(node, ["test", "-e", local], check=False).code != 0:
            return {}
        root = {"global": path, "local": local, "skip": parts.junctions_below(self.provider, path)}
        return manifest.take_roots(self.provider, node, [root])

    # -- commands ------------------------------------------------------------------------------------
    def start(self, *words: str, config: str = "") -> Running:
        """Start `spanreel WORDS` on the backup server."""
        self.labels += 1
        folder = self.run.folder / "commands"
        folder.mkdir(exist_ok=True)
        argv = ["spanreel", *words, *(["--config", config] if config else [])]
        stem = folder / f"{self.labels:03d}-{words[0]}"
        return Running(self.provider, self.backup_server, argv, stem)

    def command(self, *words: str, allowed: Sequence[int] = (0,), config: str = "") -> Any:
        """Run `spanreel WORDS` to its end and return its JSON.  Raises CheckError for other codes."""
        running = self.start(*words, config=config)
        code = running.wait()
        if code not in allowed:
            raise CheckError(f"`{running.text}` ended with exit code {code}: {running.said()}")
        try:
            return json.loads(running.out.read_bytes())
        except ValueError as error:
            raise CheckError(f"`{running.text}` printed no JSON: {error}") from error

    def backup(self, *words: str, config: str = "") -> dict[str, Any]:
        """Run a backup that must be complete; return its job."""
        job: dict[str, Any] = self.command(*words, config=config)
        if job["status"] != "complete" or job["problems"]:
            raise CheckError(f"job {job['id']} is {job['status']} with {job['problems']} problems")
        return job

    def jobs(self) -> list[dict[str, Any]]:
        """Return the catalogue's jobs, the oldest first."""
        listed: list[dict[str, Any]] = self.command("jobs", "--json")
        return listed

    def restore(
        self, job: str, path: str, *words: str, allowed: Sequence[int] = (0,), config: str = ""
    ) -> dict[str, Any]:
        """Restore a path below the emptied /restored."""
        self.empty_restored()
        done: dict[str, Any] = self.command(
            "restore", job, path, "--to", RESTORED, *words, "--json", allowed=allowed, config=config
        )
        return done

    def empty_restored(self) -> None:
        """Empty the place of restores."""
        seed.wipe(self.provider, parts.restored(self.provider))

    # -- checks --------------------------------------------------------------------------------------
    def check(self, name: str, passed: bool, summary: str) -> bool:
        """Keep a check."""
        return self.run.check(verdict(name, passed, summary))

    def comes_back(self, name: str, job: str, path: str, expected: Manifest, *, config: str = "") -> bool:
        """Restore a path of a job elsewhere and compare it."""
        self.restore(job, path, config=config)
        return self.is_restored(name, path, expected)

    def is_restored(self, name: str, path: str, expected: Manifest) -> bool:
        """Compare what is below /restored with what was at a path."""
        target = f"{RESTORED}/{path.rpartition('/')[2]}"
        found = move(self.describe(target), target.encode(), path.encode())
        wanted = move(expected, path.encode(), path.encode())
        for below in parts.junctions_below(self.provider, path):
            wanted = without(wanted, below.encode())
        return self.run.check(same_tree(name, wanted, found, self.ignored))

    @property
    def ignored(self) -> frozenset[str]:
        """Fields this lab cannot compare."""
        return frozenset() if self.provider.is_root else OWNER_FIELDS

    # -- a second library ----------------------------------------------------------------------------
    def other_library(self) -> tuple[Library, str]:
        """Return a library with scripted faults, and a configuration that uses it.

        The second, with a catalogue of its own; else the usual one, drives empty, with its configuration: "".
        """
        libraries = self.provider.topology.libraries
        for index, library in enumerate(libraries[1:], start=1):
            if library.transport in OWN_MODELS:
                return library, nodeconfig.use_library(self.provider, self.backup_server, index)
        drives.empty_all(self.provider)
        return libraries[0], ""

    def kept(self, name: str) -> Path:
        """Return a file of this run."""
        return self.run.folder / name
