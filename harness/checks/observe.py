"""Watches one job from outside, by whatever this lab offers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.checks import pcap
from harness.checks.capture import Capture
from harness.checks.connections import Connection
from harness.checks.sockets import SocketWatch
from harness.providers.base import Provider

# Called after the job: the connections that were seen during it.
Seen = Callable[[], set[Connection]]


@contextmanager
def observing(provider: Provider, capture: Path) -> Iterator[Seen]:
    """Observe while entered; with a bridge, the capture is kept in `capture`."""
    if (watched := provider.watched()) is not None:
        with watched as seen:
            yield seen
    elif provider.bridge is None:
        with SocketWatch() as watch:
            yield lambda: watch.connections
    else:
        with Capture(provider, capture):
            yield lambda: pcap.connections(capture)
