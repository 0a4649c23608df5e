"""Packets of one scenario, kept if it goes wrong: where the lab has a bridge, all NDMP control traffic.

Connections between any two nodes are in it too, by their first and last packets (`checks/capture.py`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from harness.checks.capture import Capture
from harness.errors import InfrastructureError
from harness.job.record import Run

NAME = "packets.pcap"


@contextlib.contextmanager
def recording(run: Run) -> Iterator[Path | None]:
    """Record while entered; the file is gone afterwards, if nobody has moved it.  None: nothing is recorded.

    A recording is evidence, no proof: one that cannot be made, or has holes, fails nothing and is noted.
    """
    if run.provider.bridge is None:
        yield None
        return
    target = run.folder / NAME
    capture = Capture(run.provider, target)
    try:
        capture.__enter__()
    except InfrastructureError as reason:
        run.notes.append(f"no packets were recorded: {reason.message}")
        yield None
        return
    try:
        yield target
    finally:
        with contextlib.suppress(InfrastructureError):  # packets that the kernel dropped
            capture.__exit__(None, None, None)
        target.unlink(missing_ok=True)
        target.with_suffix(".log").unlink(missing_ok=True)
