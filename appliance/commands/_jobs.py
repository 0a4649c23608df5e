"""What the commands of the backup server share: its catalogue, and signals that abort a job."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from appliance.backupserver.catalogue import Catalogue, open_catalogue
from appliance.backupserver.peers import Context
from appliance.backupserver.progress import Screen
from appliance.config import BackupServer, NodeConfig, load


@contextmanager
def catalogue_of(config_file: Path) -> Iterator[tuple[NodeConfig, Catalogue]]:
    """The configuration and its open catalogue."""
    config = load(config_file)
    with open_catalogue(config.section(BackupServer).catalogue) as catalogue:
        yield config, catalogue


@contextmanager
def job_context(config_file: Path) -> Iterator[Context]:
    """What a job needs.  SIGTERM and SIGHUP abort it as Ctrl-C does."""
    with catalogue_of(config_file) as (config, catalogue):
        before = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
        try:
            yield Context(config, catalogue, Screen())
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt
