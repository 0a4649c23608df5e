"""The backup server's part of `spanreel serve`: it listens nowhere, and keeps the catalogue true."""

from __future__ import annotations

import threading
from typing import Final

import structlog

from appliance.backupserver.catalogue import open_catalogue
from appliance.config import BackupServer, NodeConfig
from appliance.errors import SpanreelError
from appliance.ndmp.sessions import Sessions

HOUSEKEEPING_S: Final = 3.0
"""A job whose process died shows as failed, and its drive and cartridge are free, within this time."""

STOP_WAIT_S: Final = 10.0
"""Housekeeping is one short transaction; it ends sooner."""


class BackupServerRole:
    """Marks jobs of dead processes as failed and releases what they leased."""

    def __init__(self, config: NodeConfig, sessions: Sessions | None = None) -> None:
        """`sessions`: those of the whole process, none of them this role's.

        Raises ConfigurationError when the section [backup_server] is missing.
        """
        self._settings = config.section(BackupServer)
        (sessions or Sessions()).add_source(self._figures)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="catalogue-housekeeping", daemon=True)
        self._log = structlog.get_logger().bind(role="backup-server")

    def start(self) -> list[tuple[str, int]]:
        """Make or update the catalogue, and go on in a thread; there is no address to return.

        Raises SpanreelError.
        """
        open_catalogue(self._settings.catalogue).close()
        self._thread.start()
        return []

    def stop(self) -> None:
        """End the thread; safe to call twice."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(STOP_WAIT_S)

    def _figures(self) -> list[tuple[str, str, float]]:
        """Jobs in the catalogue by status; none while it cannot be read."""
        try:
            with open_catalogue(self._settings.catalogue) as catalogue:
                rows = catalogue.connection.execute(
                    "SELECT status, count(*) FROM job GROUP BY status"
                ).fetchall()
        except SpanreelError as error:
            self._log.warning("catalogue not counted", why=str(error))
            return []
        return [("catalogue jobs", status, count) for status, count in rows]

    def _run(self) -> None:
        while not self._stop.wait(HOUSEKEEPING_S):
            try:
                with open_catalogue(self._settings.catalogue) as catalogue:
                    failed = catalogue.reap()
            except SpanreelError as error:
                # A full disk or a locked file may pass; the next round tries again.
                self._log.warning("housekeeping failed", why=str(error))
            else:
                if failed:
                    self._log.info("jobs of dead processes marked as failed", jobs=failed)
