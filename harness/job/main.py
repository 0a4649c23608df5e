"""The order of the main job: every file server is the entry once, and the libraries take turns."""

from __future__ import annotations

import itertools
import time

from harness.job import proofs, steps
from harness.job.record import Run
from harness.job.steps import Backup
from harness.manifest import Manifest
from harness.topology import FILE_SERVER, Node, Topology


def main_job(run: Run) -> None:
    """Run everything on a lab that is up; what goes wrong is kept in `run`, not raised."""
    clock = time.monotonic()
    with run.guard("main job"):
        expected = steps.write_seed(run)
        proofs.client_view(run, expected)
        last: dict[str, Backup] = {}
        libraries = itertools.cycle(_libraries(run.provider.topology))
        for entry in run.provider.topology.with_role(FILE_SERVER):
            backup, is_whole = _cycle(run, entry, next(libraries), expected)
            if backup is not None:
                last[backup.library.changer] = backup
            if not is_whole:
                run.notes.append(
                    f"nothing was tried after {entry.name}: the originals are not back as they were"
                )
                break
        for backup in last.values():
            proofs.library(run, backup)
        proofs.no_local_roots(run)
    run.seconds = time.monotonic() - clock


def _libraries(topology: Topology) -> list[int]:
    """The libraries to use, by number.

    Those of a file server are left out if there are others: from outside, what it feeds cannot be told from
    the backup channel.
    """
    shared = [topology.node(library.node).has(FILE_SERVER) for library in topology.libraries]
    return [index for index, is_shared in enumerate(shared) if not is_shared] or [*range(len(shared))]


def _cycle(run: Run, entry: Node, library: int, expected: Manifest) -> tuple[Backup | None, bool]:
    """Back up through one entry to one library, prove it, restore.

    Returns what was backed up, if anything, and whether the originals are as before.
    """
    backup = None
    with run.guard(f"backup through {entry.name}"):
        backup = steps.back_up(run, entry, library)
    if backup is None:
        return None, True  # nothing was deleted: the next entry may do better
    proofs.backup_complete(run, backup)
    proofs.tape(run, backup, expected)
    proofs.restores(run, backup, expected)
    return backup, proofs.in_place(run, backup, expected)
