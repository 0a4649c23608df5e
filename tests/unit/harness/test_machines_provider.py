"""The provider `machines` on machines that are SSH servers of this process: what it makes, it removes."""

from __future__ import annotations

import json
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ssh_support import LocalMachine

from harness import lab as labs
from harness import topology as topologies
from harness.errors import InfrastructureError, UsageError
from harness.events import Events
from harness.providers.base import NodeFile
from harness.providers.libvirt.identity import ensure_key
from harness.providers.machines import layout, power, reach
from harness.providers.machines.provider import MachinesProvider
from harness.topology import Node

# A product whose roles only listen; its configuration says whether it works.
PRODUCT = """\
#!{python}
import sys, time
if sys.argv[1] == "--version":
    sys.exit(print("0.1.0"))
if "broken" in open(sys.argv[4]).read():
    sys.exit("spanreel: no such key: broken")
for role in sys.argv[2].split(","):
    print("ready", role, "127.0.0.1:1", flush=True)
time.sleep(600)
"""

TOPOLOGY = """\
schema: 1
name: room
provider: machines
subnet: 127.77.221.0/24
seed: {{number: 1, size_mib: 1, small_files: 1}}
nodes:
  - {{name: fs1, roles: [file-server], address: 127.77.221.11,
     ssh: &ssh {{identity: {identity}, host_key: "{key}"}},
     machine: &machine {{base: {base}, leases: {base}-leases, data: {data}, product: installed, bin: {bin},
                       service: process, boot_seconds: 30}},
     power: {{kind: command, on: "{on}"}}}}
  - {{name: conn1, roles: [connection-server], address: 127.77.221.21, ssh: *ssh, machine: *machine}}
  - {{name: media1, roles: [media-server], address: 127.77.221.31, ssh: *ssh, machine: *machine}}
  - {{name: backup1, roles: [backup-server], address: 127.77.221.41, ssh: *ssh, machine: *machine}}
gns:
  - {{path: /home, owner: fs1, dir: home}}
libraries:
  - {{node: media1, transport: model, changer: C1, drives: [D1], slots: [A00001], writable: [A00001]}}
"""


class Room:
    """Four machines behind one SSH server, which may be off."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = LocalMachine(folder / "ssh")
        self.base, self.data, self.bin = (folder / name for name in ("base", "data", "bin"))
        self.data.mkdir()
        self.bin.mkdir()
        program = self.bin / "spanreel"
        program.write_text(PRODUCT.format(python=sys.executable))
        program.chmod(0o755)
        (self.bin / "python3").symlink_to(sys.executable)
        self.switched: list[list[str]] = []

    def provider(self, lab: str = "room", **changes: str) -> MachinesProvider:
        """What the next command would make."""
        values = {
            "identity": str(self.server.identity),
            "key": self.server.host_key.strip(),
            "on": "pdu on {node}",
        }
        values |= {"base": str(self.base), "data": str(self.data), "bin": str(self.bin)} | changes
        file = self.folder / "room.yaml"
        file.write_text(TOPOLOGY.format(**values))
        state = labs.create(lab, topologies.read(file))
        return MachinesProvider(state.topology(), state, Events())

    def switch(self, name: str, argv: list[str]) -> str:
        """Stand for the site's command."""
        assert name == "fs1"
        self.switched.append(argv)
        self.server.is_on = True
        return ""


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    """A room of machines; whatever was started in it is ended."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    made = Room(tmp_path)
    monkeypatch.setattr(reach, "connect_to", lambda node: made.server.connect)
    monkeypatch.setattr(reach, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(power, "_run", made.switch)
    yield made
    made.server.is_on = True
    for name in labs.names():
        state = labs.load(name)
        assert state is not None
        MachinesProvider(state.topology(), state, Events()).down()
    made.server.close()


def node(provider: MachinesProvider, name: str = "fs1") -> Node:
    """One of the machines."""
    return provider.topology.node(name)


def start(provider: MachinesProvider, name: str, config: bytes = b"") -> None:
    """Configure and start one node."""
    wanted = node(provider, name)
    provider.install(wanted, [NodeFile(provider.paths(wanted).config, config)])
    provider.start(wanted)


def test_up_then_down_leaves_machines_as_they_were(room: Room) -> None:
    """Folders, roles and relays are there after `up`, found by the next command, and gone after `down`."""
    room.base.mkdir()
    (room.base / "of-somebody").write_text("else")
    provider = room.provider()
    provider.check()
    provider.up()
    start(provider, "fs1")
    later = room.provider()
    assert later.alive() == {"fs1": True, "conn1": False, "media1": False, "backup1": True}
    assert (room.data / f"local-{later.lab.token}" / "home").is_dir()
    assert (
        later.run(node(later), ["printenv", "SPANREEL_CONFIG"]).text.strip()
        == later.paths(node(later)).config
    )
    command = later.journal_command(node(later))
    assert command is not None
    assert later.run(node(later), command).text.startswith("ready file-server ")
    later.down()
    assert [path.name for path in room.base.iterdir()] == ["of-somebody"]
    assert list(room.data.iterdir()) == []
    assert later.alive()["fs1"] is False
    assert running(str(room.base)) == ""
    assert "ready file-server" in (later.lab.node_folder("fs1") / "roles.log").read_text()
    room.provider().down()


def running(text: str) -> str:
    """Return the processes of this machine that name something."""
    done = subprocess.run(["pgrep", "-f", "--", text], stdout=subprocess.PIPE, check=False)
    return done.stdout.decode()


def test_up_twice_keeps_what_runs(room: Room) -> None:
    """A second `up` restarts nothing, and ports in use by our own roles are no error."""
    provider = room.provider()
    provider.up()
    start(provider, "media1")
    before = running(str(room.base))
    again = room.provider()
    again.up()
    assert running(str(room.base)) == before
    assert again.alive()["media1"]


def test_secrets_are_private_on_the_machine(room: Room) -> None:
    """Secret files are 0600, and nobody else can look into the folder they are in."""
    provider = room.provider()
    provider.up()
    path = Path(provider.paths(node(provider)).password)
    provider.install(node(provider), [NodeFile(str(path), b"s3cr3t", secret=True)])
    assert path.read_bytes() == b"s3cr3t"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(Path(layout.folder(node(provider))).stat().st_mode) == 0o700
    assert not any("s3cr3t" in word for command in room.server.commands for word in command)


def test_a_role_that_ends_is_quoted(room: Room) -> None:
    """The error names machine, step and the role's last words, and the command that shows all of them."""
    provider = room.provider()
    provider.up()
    with pytest.raises(
        InfrastructureError, match=r"fs1: start file-server: ended: .*no such key: broken"
    ) as caught:
        start(provider, "fs1", b"broken")
    assert "spanreel lab exec --lab room fs1 -- tail" in caught.value.hint


def test_a_machine_that_is_off_is_switched_on_and_off_again(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Power comes from the site's command; what was off is off after `down`, what was on stays on."""
    provider = room.provider(on="pdu --outlet 7 on {node}")
    room.server.is_on = False
    provider._reach(node(provider))
    assert room.switched == [["pdu", "--outlet", "7", "on", "fs1"]]
    off: list[str] = []
    monkeypatch.setattr(power.Command, "off", lambda self: off.append(self.node.name))
    room.provider().down()
    assert off == ["fs1"]
    later = room.provider()
    later.up()
    later.down()
    assert off == ["fs1"]
    assert len(room.switched) == 1


def test_a_machine_that_never_boots(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given up after its time; the error names machine, step, the last refusal and what to try."""
    monkeypatch.setattr(room, "switch", lambda *_: "")
    monkeypatch.setattr(power, "_run", lambda *_: "")
    provider = room.provider()
    room.server.is_on = False
    times = iter([0.0, *[1000.0] * 9])
    monkeypatch.setattr(reach.time, "monotonic", lambda: next(times))
    with pytest.raises(InfrastructureError) as caught:
        reach._wait(node(provider), provider.ssh["fs1"], lambda _: None, provider._cancelled)
    assert "fs1: boot: no SSH 30 s after power on: [Errno 111] Connection refused" in caught.value.message
    assert "try it: ssh" in caught.value.hint


def test_a_machine_without_power_that_is_off(room: Room) -> None:
    """Without power control the error says who does not answer, and what would help."""
    provider = room.provider()
    room.server.is_on = False
    with pytest.raises(
        InfrastructureError, match=r"conn1: reach it: nobody answers at 127.77.221.21:22"
    ) as caught:
        provider._reach(node(provider, "conn1"))
    assert "switch it on, or give it `power`" in caught.value.hint


def test_an_unknown_host_key_is_refused(room: Room, tmp_path: Path) -> None:
    """A machine that shows another key than the pinned one is not talked to."""
    provider = room.provider(key=ensure_key(tmp_path / "other").strip())
    with pytest.raises(InfrastructureError, match="conn1: SSH: no SSH connection"):
        provider._reach(node(provider, "conn1"))
    assert room.server.commands == []


def test_another_labs_machine_is_left_alone(room: Room) -> None:
    """Two labs cannot have one address; the second hears who the first is, and its `down` touches nothing."""
    first = room.provider("one")
    first.up()
    second = room.provider("two")
    with pytest.raises(InfrastructureError, match=r"claim: 127.77.221.\d+ is used by .*lab one"):
        second.up()
    second.down()
    assert Path(first.paths(node(first)).state).is_dir()
    claim = json.loads((Path(layout.folder(node(first))) / "claim.json").read_text())
    assert "lab one" in claim["holder"]


def test_a_folder_that_is_nobodys_is_left_alone(room: Room) -> None:
    """What is in the way on the machine and has no claim is neither used nor removed."""
    provider = room.provider()
    precious = Path(layout.folder(node(provider))) / "precious"
    precious.parent.mkdir(parents=True)
    precious.write_text("data")
    with pytest.raises(InfrastructureError, match=r"fs1: claim: .* is there and no lab's"):
        provider.up()
    provider.down()
    assert precious.read_text() == "data"


def test_an_address_that_is_in_use_is_named(room: Room) -> None:
    """A port that somebody listens on is found before anything is made."""
    provider = room.provider()
    with (
        socket.create_server(("127.77.221.11", 10000)),
        pytest.raises(
            InfrastructureError, match=r"fs1: check the machine: 127.77.221.11:10000 cannot be used: Address"
        ),
    ):
        provider.up()
    assert not room.base.exists()


def test_a_product_that_is_not_installed(room: Room) -> None:
    """`product: installed` without a product is a mistake of the topology, told with the remedy."""
    (room.bin / "spanreel").unlink()
    provider = room.provider()
    if shutil.which("spanreel", path="/usr/local/bin:/usr/bin:/bin"):
        pytest.skip("this machine has a spanreel of its own")
    with pytest.raises(UsageError, match="product: `spanreel` is not installed") as caught:
        provider.up()
    assert "product: deploy" in caught.value.hint


def test_the_lease_is_outside_the_labs_folder(room: Room) -> None:
    """All labs that share a library find its lease in one place, which `down` leaves."""
    provider = room.provider()
    assert provider.lease_folder(node(provider, "media1")) == f"{room.base}-leases"
    assert provider.has_libraries_before
    provider.reach_libraries()
