"""The order of the main job."""

from __future__ import annotations

import time

from harness.job import proofs, steps
from harness.job.record import Run
from harness.manifest import Manifest
from harness.topology import FILE_SERVER, Node


def main_job(run: Run) -> None:
    """Run everything on a lab that is up; what goes wrong is kept in `run`, not raised."""
    clock = time.monotonic()
    with run.guard("main job"):
        expected = steps.write_seed(run)
        proofs.client_view(run, expected)
        for entry in run.provider.topology.with_role(FILE_SERVER):
            if not _cycle(run, entry, expected):
                run.notes.append(
                    f"nothing was tried after {entry.name}: the originals are not back as they were"
                )
                break
        proofs.no_local_roots(run)
    run.seconds = time.monotonic() - clock


def _cycle(run: Run, entry: Node, expected: Manifest) -> bool:
    """Back up through one entry, prove it, restore; return whether the originals are as before."""
    backup = None
    with run.guard(f"backup through {entry.name}"):
        backup = steps.back_up(run, entry)
    if backup is None:
        return True  # nothing was deleted: the next entry may do better
    proofs.backup_complete(run, backup)
    proofs.tape(run, backup, expected)
    proofs.restores(run, backup, expected)
    return proofs.in_place(run, backup, expected)
