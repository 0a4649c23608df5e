"""The sessions of one job: the file server's, the media server's two, and what they have in common."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

from appliance.backupserver import leases as lease_names
from appliance.backupserver.catalogue import Catalogue
from appliance.backupserver.connect import connect, explain
from appliance.backupserver.events import Events
from appliance.backupserver.leases import Lease, Leases
from appliance.backupserver.library import Library
from appliance.backupserver.progress import Screen
from appliance.backupserver.shelf import Shelf
from appliance.config import BackupServer, NodeConfig
from appliance.errors import JobError
from appliance.ndmp.client import Client
from appliance.ndmp.errors import NdmpError

DRIVE_WAIT_S: Final = 3600.0
"""A job waits this long for a drive that another job has: a long job's time.  Beyond that, ask people."""

DRIVE_POLL_S: Final = 1.0
"""Between two looks whether a drive is free."""


@dataclass(frozen=True)
class Context:
    """What every job needs, whatever it does."""

    config: NodeConfig
    catalogue: Catalogue
    screen: Screen


@dataclass(frozen=True)
class MediaPeers:
    """The sessions of a job that only reads tape, and the drive it has: no file server has part in it."""

    mover: Client
    events: Events
    shelf: Shelf


@dataclass(frozen=True)
class Peers(MediaPeers):
    """The sessions of a job of a file server, and the drive it has."""

    data: Client


@contextmanager
def reading(context: Context, what: str) -> Iterator[Leases]:
    """Leases for something that reads tape, named `what` to others that wait for them.

    Raises SpanreelError for what NDMP peers did.
    """
    leases = Leases(context.catalogue, what)
    try:
        yield leases
    except NdmpError as error:
        raise explain(error) from error
    finally:
        leases.release_all()
        context.screen.close()


@contextmanager
def open_media(context: Context, leases: Leases) -> Iterator[MediaPeers]:
    """Wait for a drive, then log in at the media server: who waits has no part in any node.

    Raises InfrastructureError, ConfigurationError or JobError.
    """
    serial = take_drive(leases, context.config.section(BackupServer).drives, context.screen)
    with _media(context, leases, Events(), serial) as peers:
        yield peers


@contextmanager
def open_peers(context: Context, entry: str, leases: Leases) -> Iterator[Peers]:
    """Wait for a drive, then log in everywhere: a job that waits does not mind that a node is upgraded.

    Raises InfrastructureError, ConfigurationError or JobError.
    """
    settings = context.config.section(BackupServer)
    server = settings.server(entry)
    events = Events()
    serial = take_drive(leases, settings.drives, context.screen)
    with (
        connect(server, context.config.node.address, events.on_post) as data,
        _media(context, leases, events, serial) as media,
    ):
        yield Peers(media.mover, events, media.shelf, data)


@contextmanager
def _media(context: Context, leases: Leases, events: Events, serial: str) -> Iterator[MediaPeers]:
    settings = context.config.section(BackupServer)
    source = context.config.node.address
    with ExitStack() as stack:
        mover = stack.enter_context(connect(settings.server(settings.media), source, events.on_post))
        robot = stack.enter_context(connect(settings.server(settings.media), source))
        library = Library(robot, settings.device(settings.changer), settings.drives)
        shelf = Shelf(settings, context.catalogue, leases, library, mover, serial, context.screen.note)
        stack.callback(shelf.close_quietly)
        yield MediaPeers(mover, events, shelf)


def take_drive(leases: Leases, drives: tuple[str, ...], screen: Screen) -> str:
    """Take the lease of a free drive, waiting for one.  Raises JobError when none becomes free in time."""
    deadline = time.monotonic() + DRIVE_WAIT_S
    told = False
    while True:
        holders: list[Lease] = []
        for serial in drives:
            holder = leases.take(lease_names.drive(serial))
            if holder is None:
                return serial
            holders.append(holder)
        text = "no free drive: " + "; ".join(map(str, holders))
        if time.monotonic() >= deadline:
            raise JobError(text)
        if not told:
            screen.note(f"waiting, {text}")
            told = True
        time.sleep(DRIVE_POLL_S)
