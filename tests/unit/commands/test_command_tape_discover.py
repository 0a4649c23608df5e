"""`spanreel tape discover`: what it finds, and a section that the product reads as it is."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from appliance import cli
from appliance.commands import _tape_discover
from appliance.config import parse
from tape.discovery import Device
from tape.errors import TransportError
from tape.identity import DeviceKind
from tape.model import LibraryModel, LibrarySpec
from tape.transport import Transport

SPEC = LibrarySpec("LIB0001", ("DRV0001", "DRV0002"), ("AAA001L5", "AAA002L5", None), capacity_bytes=1 << 20)
NODE = """
schema = 1
[node]
name = "media1"
address = "127.0.0.1"
state = "/var/lib/spanreel"
[media_server]
"""


def device(kind: DeviceKind, serial: str, number: int) -> Device:
    """A device of this machine."""
    st = f"/dev/st{number}" if kind is DeviceKind.DRIVE else None
    return Device(f"/dev/sg{number}", kind, "HP", "Ultrium 5", "1", serial, st, f"2:0:0:{number}")


DEVICES = [
    device(DeviceKind.DRIVE, "DRV0002", 1),
    device(DeviceKind.DRIVE, "DRV0001", 2),
    device(DeviceKind.CHANGER, "LIB0001", 3),
]


class Machine:
    """The devices, and the model behind the changer."""

    def __init__(self, model: LibraryModel) -> None:
        self.model = model
        self.devices = list(DEVICES)
        self.broken = False

    def look(self) -> list[Device]:
        """What sysfs shows."""
        return self.devices

    def open(self, found: Device) -> Transport:
        """A path to the changer; nothing else is opened."""
        assert found.kind is DeviceKind.CHANGER
        if self.broken:
            raise TransportError("no right to open it", device=found.sg)
        return self.model.transport(found.serial)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """A machine with one library."""
    made = Machine(LibraryModel(tmp_path / "library", SPEC))
    real = _tape_discover.find
    monkeypatch.setattr(_tape_discover, "find", lambda: real(made.look, made.open))
    yield made
    made.model.close()


def discovered(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What the command prints."""
    capsys.readouterr()
    assert cli.run(["tape", "discover", *words]) == 0
    return capsys.readouterr().out


def test_devices_and_where_they_are(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    """One line a device: node, product, serial number, the st node beside it, address, element."""
    lines = discovered(capsys).splitlines()
    assert lines[1].split() == [
        *("/dev/sg1", "drive", "HP", "Ultrium", "5", "DRV0002", "/dev/st1", "2:0:0:1", "LIB0001", "257", "-")
    ]
    assert lines[3].split()[:2] == ["/dev/sg3", "changer"]
    assert machine.model


def test_the_section_can_be_used_as_it_is(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    """Drives in the order of their elements; nothing is writable before a person says so."""
    section = discovered(capsys).partition("\n\n")[2]
    (library,) = parse(NODE + section, Path("/")).media_server.libraries  # type: ignore[union-attr]
    assert (library.transport, library.changer) == ("sg", "LIB0001")
    assert library.drives == ("DRV0001", "DRV0002")
    assert (library.writable, library.readable) == ((), ())
    assert '#   "AAA001L5",' in section
    uncommented = section.replace("#   ", "    ")
    assert tomllib.loads(uncommented)["media_server"]["libraries"][0]["writable"] == ["AAA001L5", "AAA002L5"]
    assert machine.model


def test_a_topologys_section(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    """For a lab: slots, the first one's address, and nothing writable."""
    section = discovered(capsys, "--topology", "media1").partition("\n\n")[2]
    (library,) = yaml.safe_load("libraries:\n" + section)["libraries"]
    assert library == {
        "node": "media1",
        "transport": "sg",
        "changer": "LIB0001",
        "drives": ["DRV0001", "DRV0002"],
        "first_slot": 4096,
        "slots": ["AAA001L5", "AAA002L5"],
        "writable": [],
    }
    assert machine.model


def test_json(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    """The same for programs."""
    document = json.loads(discovered(capsys, "--json"))
    assert [each["serial"] for each in document["devices"]] == ["DRV0002", "DRV0001", "LIB0001"]
    (library,) = document["libraries"]
    assert library["drives"][0] == {"element": 256, "serial": "DRV0001", "cartridge": None}
    assert library["cartridges"] == ["AAA001L5", "AAA002L5"]
    machine.devices = []
    assert json.loads(discovered(capsys, "--json")) == {"devices": [], "libraries": []}


def test_a_changer_that_cannot_be_asked(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    """It is still shown, and the section says why it is not complete."""
    machine.broken = True
    out = discovered(capsys)
    assert "# it could not be asked: /dev/sg3: no right to open it" in out
    assert "drives = []" in out


def test_no_devices_at_all(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, and the exit code of a missing piece of infrastructure."""
    machine.devices = []
    assert cli.run(["tape", "discover"]) == 3
    assert "no tape drive or changer is attached" in capsys.readouterr().err
