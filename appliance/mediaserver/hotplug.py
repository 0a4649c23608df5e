"""Noticing that a drive or changer comes or goes, by udev.

Devices are looked up by serial number each time they are opened, so nothing depends on this: it tells an
operator.  Without pyudev, or without udev, the configured devices are looked for once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import structlog

from appliance.mediaserver.backends import SgBackend
from appliance.mediaserver.libraries import Libraries
from tape.discovery import Device, discover

POLL_S = 1.0
"""How long the end of the watch may take; events come at once."""


class Monitor(Protocol):
    """What is used of `pyudev.Monitor`."""

    def poll(self, timeout: float) -> object | None:
        """The next event; None when there was none for so many seconds."""


class Presence:
    """Which of the configured devices are attached, and where."""

    def __init__(self, serials: Mapping[str, str], log: Any = None) -> None:
        """`serials`: serial number and NDMP device name."""
        self._names = dict(serials)
        self._log = log or structlog.get_logger()
        self._nodes: dict[str, str] = {}

    @property
    def nodes(self) -> dict[str, str]:
        """The sg node of each configured device that is attached, by serial number."""
        return dict(self._nodes)

    def look(self, devices: Iterable[Device]) -> None:
        """Compare with what is attached now, and log what has changed."""
        now = {device.serial: device.sg for device in devices if device.serial in self._names}
        for serial in sorted(now.keys() - self._nodes.keys()):
            self._log.info("device attached", device=self._names[serial], node=now[serial])
        for serial in sorted(self._nodes.keys() - now.keys()):
            self._log.warning(
                "device gone",
                device=self._names[serial],
                node=self._nodes[serial],
                remedy="check cable, power and network; it is used again as soon as it is back",
            )
        self._nodes = now

    def tell_missing(self) -> None:
        """Log the configured devices that are not attached."""
        for serial in sorted(self._names.keys() - self._nodes.keys()):
            self._log.warning(
                "device not attached",
                device=self._names[serial],
                remedy="`spanreel tape discover` shows what is; check serial number, cable and power",
            )


class HotPlug:
    """A thread that follows udev's events while the role runs."""

    def __init__(
        self,
        presence: Presence,
        monitor: Callable[[], Monitor | None] | None = None,
        look: Callable[[], list[Device]] = discover,
    ) -> None:
        self.presence = presence
        self._monitor = monitor or _udev
        self._look = look
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    @classmethod
    def of(cls, libraries: Libraries) -> HotPlug | None:
        """The watch over the libraries that sg nodes lead to; None when there are none."""
        names = {
            unit.serial: unit.name
            for library in libraries.libraries
            if isinstance(library.backend, SgBackend)
            for unit in (library.changer, *library.drives.values())
        }
        return cls(Presence(names)) if names else None

    def start(self) -> None:
        """Look once, then go on in a thread as events come."""
        # First the monitor, so that nothing happens between the look and the first event unseen.
        monitor = self._monitor()
        self.presence.look(self._look())
        self.presence.tell_missing()
        if monitor is not None:
            self._thread = threading.Thread(target=self._run, args=(monitor,), name="hot plug", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self, monitor: Monitor) -> None:
        while not self._ended.is_set():
            if monitor.poll(POLL_S) is not None:
                self.presence.look(self._look())


def _udev() -> Monitor | None:
    """A monitor of sg nodes; None, with a line in the log, where udev cannot be asked."""
    try:
        import pyudev  # the extra "media": a process lab does without

        monitor = pyudev.Monitor.from_netlink(pyudev.Context())
        monitor.filter_by("scsi_generic")
        monitor.start()
    except (ImportError, OSError) as error:
        structlog.get_logger().warning("devices that come and go are not noticed", why=str(error))
        return None
    found: Monitor = monitor
    return found
