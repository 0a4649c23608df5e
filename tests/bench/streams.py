"""A file server's stream alone: into a socket by way of the connection server, and straight into one.

The product has no backup without a connection server.  What its hop costs is the difference between these,
with file history to the end of the DMA's session and with nothing behind the socket.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from appliance.fileserver.environment import HistoryForm
from appliance.fileserver.order import BUTYPE, PartOrder
from appliance.gns.client import fetch_map
from appliance.ndmp import messages as m
from appliance.ndmp.dataconn import address_of
from appliance.ndmp.endpoint import Received
from appliance.ndmp.enums import DataHaltReason
from appliance.ndmp.types import Address, Pval
from appliance.peers import Peers
from tests.bench.meters import Cost, Meters, cpu_of, peak_of
from tests.bench.site import ADDRESSES, SAVED, Site
from tests.labrun import ROOT

WAIT_S = 600
TOKEN_BYTES = 32
"""An owner says a token on every feed; the one here is of blanks."""


class Halt:
    """Waits for a data server's halt; other posts are only received."""

    def __init__(self) -> None:
        self.reason: DataHaltReason | None = None
        self._over = threading.Event()

    def on_post(self, post: Received) -> None:
        """Take a post."""
        if post.code == 0x501:  # NDMP_NOTIFY_DATA_HALTED
            body = post.body()
            assert isinstance(body, m.NotifyDataHaltedPost)
            self.reason = body.reason
            self._over.set()

    def wait(self) -> None:
        """Wait for the halt, which must be a good one."""
        assert self._over.wait(WAIT_S), "no halt"
        assert self.reason is DataHaltReason.SUCCESSFUL, self.reason


@contextmanager
def sink(skip: int) -> Iterator[tuple[Address, subprocess.Popen[bytes]]]:
    """A process that throws away what comes, and its address."""
    words = [sys.executable, "-m", "tests.bench.sink", ADDRESSES["dma"], str(skip)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, cwd=ROOT)
    try:
        assert process.stdout is not None
        yield address_of((ADDRESSES["dma"], int(process.stdout.readline()))), process
    finally:
        process.kill()
        process.wait()


def through_connection_server(site: Site) -> tuple[float, dict[str, Cost]]:
    """File server, connection server, socket; seconds from the start to the halt."""
    halt = Halt()
    with sink(0) as (address, process), site.client("fs1", halt.on_post) as client:
        client.do(m.DataConnectRequest(address))
        env = (Pval(b"FILESYSTEM", SAVED.encode()), Pval(b"HIST", b"f"))
        meters = Meters(site.pids("fs1", "conn1"))
        started = time.monotonic()
        client.do(m.DataStartBackupRequest(b"tar", env))
        halt.wait()
        wall = time.monotonic() - started
        costs = {**meters.read(), "sink": Cost(cpu_of(process.pid), peak_of(process.pid))}
        client.do(m.DataStopRequest())
    return wall, costs


def straight(site: Site) -> tuple[float, dict[str, Cost]]:
    """File server, socket: the bench orders the part as an entry server would."""
    config = site.config("dma")
    gns = fetch_map(config)
    part = next(each for each in gns.parts(SAVED.encode()))
    order = PartOrder(
        path=part.path,
        root=part.path,
        job="bench",
        fileset=part.junction.fileset,
        generation=gns.generation,
        local_path=part.local,
        offset=0,
        node_base=3,
        parent_node=2,
        nodes={part.path: 2},
        history=HistoryForm.FILE,
    )
    halt = Halt()
    with sink(TOKEN_BYTES) as (address, process), Peers(config).open("fs1", halt.on_post) as owner:
        owner.do(m.DataConnectRequest(address))
        meters = Meters(site.pids("fs1"))
        started = time.monotonic()
        owner.do(m.DataStartBackupRequest(BUTYPE, replace(order, version=owner.agreed).to_env()))
        halt.wait()
        wall = time.monotonic() - started
        costs = {**meters.read(), "sink": Cost(cpu_of(process.pid), peak_of(process.pid))}
    return wall, costs
