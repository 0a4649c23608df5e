"""The media server notices that a drive comes or goes."""

from __future__ import annotations

import queue
from pathlib import Path

from structlog.testing import capture_logs

from appliance.mediaserver.backends import SgBackend
from appliance.mediaserver.hotplug import HotPlug, Presence
from appliance.mediaserver.libraries import Libraries, Library
from tape.discovery import Device, discover
from tape.identity import DeviceKind
from tests.unit.mediaserver.support import WAIT_S, ExampleLibrary, Site

NAMES = {"DRV1": "drive:DRV1", "CHG1": "changer:CHG1"}


def device(serial: str, node: str) -> Device:
    """A drive."""
    return Device(node, DeviceKind.DRIVE, "HP", "Ultrium", "1", serial, None)


class Scripted:
    """A monitor that has the events which a test puts there; tells when it was asked again."""

    def __init__(self) -> None:
        self.events: queue.SimpleQueue[object] = queue.SimpleQueue()
        self.asked: queue.SimpleQueue[None] = queue.SimpleQueue()

    def poll(self, timeout: float) -> object | None:
        """The next event."""
        self.asked.put(None)
        try:
            return self.events.get(timeout=timeout)
        except queue.Empty:
            return None


def test_what_comes_and_goes_is_told_by_name() -> None:
    """One line for each configured device, with its NDMP name and node; others are nobody's business."""
    presence = Presence(NAMES)
    with capture_logs() as logs:
        presence.look([device("DRV1", "/dev/sg1"), device("OTHER", "/dev/sg2")])
        presence.look([device("DRV1", "/dev/sg1")])
        presence.look([device("OTHER", "/dev/sg2")])
        presence.look([device("DRV1", "/dev/sg5")])
    assert [(each["event"], each["device"], each["node"]) for each in logs] == [
        ("device attached", "drive:DRV1", "/dev/sg1"),
        ("device gone", "drive:DRV1", "/dev/sg1"),
        ("device attached", "drive:DRV1", "/dev/sg5"),
    ]
    assert presence.nodes == {"DRV1": "/dev/sg5"}


def test_events_lead_to_a_look(tmp_path: Path) -> None:
    """A drive that appears in sysfs is there after the event, one that disappears is gone after the next."""
    monitor = Scripted()
    presence = Presence(NAMES)
    watch = HotPlug(presence, lambda: monitor, lambda: discover(tmp_path))
    with capture_logs() as logs:
        watch.start()
        monitor.asked.get(timeout=WAIT_S)
        scsi = tmp_path / "class" / "scsi_generic" / "sg3" / "device"
        scsi.mkdir(parents=True)
        for name, text in {"type": "1", "vendor": "HP", "model": "Ultrium", "rev": "1"}.items():
            (scsi / name).write_text(text)
        (scsi / "vpd_pg80").write_bytes(b"\x01\x80\x00\x04DRV1")
        monitor.events.put("add")
        monitor.asked.get(timeout=WAIT_S)
        assert presence.nodes == {"DRV1": "/dev/sg3"}
        (scsi / "type").unlink()
        monitor.events.put("remove")
        monitor.asked.get(timeout=WAIT_S)
        assert presence.nodes == {}
        monitor.events.put("change")
        watch.stop()
    assert [each["event"] for each in logs] == [
        "device not attached",
        "device not attached",
        "device attached",
        "device gone",
    ]


def test_without_udev_the_devices_are_looked_for_once() -> None:
    """What is configured and not there is named at the start; no thread is left."""
    watch = HotPlug(Presence(NAMES), lambda: None, lambda: [device("DRV1", "/dev/sg1")])
    with capture_logs() as logs:
        watch.start()
        watch.stop()
    assert [each["device"] for each in logs if each["event"] == "device not attached"] == ["changer:CHG1"]


def test_only_real_libraries_are_watched(site: Site) -> None:
    """A model has no sg nodes; of a real library all devices are known by their serial numbers."""
    assert HotPlug.of(site.libraries) is None
    real = HotPlug.of(Libraries([Library(ExampleLibrary(), SgBackend())]))
    assert real is not None
    assert real.presence.nodes == {}


def test_the_real_monitor_starts_or_says_why() -> None:
    """On a machine with udev it runs, on one without it says that it does not; nothing is raised."""
    watch = HotPlug(Presence(NAMES), look=list)
    watch.start()
    watch.stop()
