"""The apt repository of a lab: its plain machines have no Internet, and get packages from the host side."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from harness import netns
from harness.errors import InfrastructureError

# In the lab's namespace, where nothing else listens.
PORT = 3142
# It listens within half a second; the bound is for a machine that is very busy.
_START_SECONDS = 30.0
_POLL_SECONDS = 0.05


def apt_source(address: str) -> bytes:
    """Return the line of sources.list(5): apt checked the packages when this host got them."""
    return f"deb [trusted=yes] http://{address}:{PORT}/ ./\n".encode()


def serve(namespace: str, address: str, repository: Path, log: Path) -> None:
    """Serve a folder to the lab's machines; one that is served already is kept.  It ends with the lab."""
    if _answers(namespace, address):
        return
    command = [sys.executable, "-m", "http.server", str(PORT), "--bind", address]
    with log.open("ab") as output:
        process = subprocess.Popen(
            netns.argv_inside(namespace, [*command, "--directory", str(repository)]),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    deadline = time.monotonic() + _START_SECONDS
    while not _answers(namespace, address):
        if process.poll() is not None or time.monotonic() > deadline:
            raise InfrastructureError("the lab's package server did not start", hint=f"its messages: {log}")
        time.sleep(_POLL_SECONDS)
    # It outlives us: nobody will wait for this object.
    process.returncode = 0


def _answers(namespace: str, address: str) -> bool:
    try:
        netns.connect(namespace, (address, PORT), 1.0).close()
    except OSError:
        return False
    return True
