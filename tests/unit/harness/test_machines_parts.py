"""Power, consoles, host keys and folders of machines, each by itself and without any machine."""

from __future__ import annotations

import socket
import subprocess
import sys
import types
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness import console, guest
from harness.checks import sockets
from harness.errors import InfrastructureError, MissingToolError, UsageError
from harness.guest import claim, probe
from harness.providers.libvirt.identity import ensure_key
from harness.providers.machines import consoles, hostkeys, power, preflight
from harness.topology import ConsoleSpec, Machine, Node, Power, Ssh

FS1 = Node("fs1", ("file-server",), "10.1.2.3")


class Controller:
    """Stands for ipmitool: remembers what it was called with, answers the status."""

    def __init__(self, status: str) -> None:
        self.status = status
        self.calls: list[Sequence[str]] = []

    def __call__(self, argv: Sequence[str]) -> str:
        self.calls.append(argv)
        return f"Chassis Power is {self.status}\n" if argv[-1] == "status" else ""


def ipmi(folder: Path, mode: int = 0o600) -> Power:
    """A power section with its password file."""
    secret = folder / "bmc"
    secret.write_text("s3cr3t")
    secret.chmod(mode)
    return Power("ipmi", host="10.1.9.3", user="lab", password_file=str(secret))


def test_ipmi_switches_on_what_is_off_and_never_shows_the_password(tmp_path: Path) -> None:
    """Ipmitool gets the name of the password's file, not the password; on is asked for only when off."""
    spec = ipmi(tmp_path)
    off, on = Controller("off"), Controller("on")
    power.Ipmi(FS1, spec, off).on()
    power.Ipmi(FS1, spec, on).on()
    assert [argv[-1] for argv in off.calls] == ["status", "on"]
    assert [argv[-1] for argv in on.calls] == ["status"]
    power.Ipmi(FS1, spec, on).off()
    assert on.calls[-1] == [
        *("ipmitool", "-I", "lanplus", "-H", "10.1.9.3", "-U", "lab"),
        *("-f", spec.password_file, "chassis", "power", "soft"),
    ]
    assert not any("s3cr3t" in word for argv in off.calls + on.calls for word in argv)


def test_ipmi_wants_a_private_password_file(tmp_path: Path) -> None:
    """A password that others may read, or that is not there, is refused before anything is switched."""
    with pytest.raises(UsageError, match="fs1: power: others may read") as caught:
        power.Ipmi(FS1, ipmi(tmp_path, 0o644)).check()
    assert caught.value.hint.startswith("chmod 600 ")
    with pytest.raises(UsageError, match="fs1: power: cannot read"):
        power.Ipmi(FS1, replace(ipmi(tmp_path), password_file=str(tmp_path / "none"))).check()
    with pytest.raises(UsageError, match="wants host, user and password_file"):
        power.Ipmi(FS1, Power("ipmi")).check()


def test_commands_are_split_before_names_are_put_in() -> None:
    """A node's name stays one word, and no shell reads the line."""
    controller = Controller("on")
    spec = Power("command", on="pdu --name '{node} in rack 7' {address}; reboot", off="")
    power.Command(FS1, spec, controller).on()
    power.Command(FS1, spec, controller).off()
    assert controller.calls == [["pdu", "--name", "fs1 in rack 7", "10.1.2.3;", "reboot"]]
    with pytest.raises(UsageError, match="fs1: power: kind command wants `on`"):
        power.Command(FS1, Power("command")).check()


def test_a_command_that_fails_is_quoted() -> None:
    """The machine is named, with the command's last words and how to try it."""
    with pytest.raises(
        InfrastructureError, match="fs1: power: `sh` ended with exit code 3: outlet is locked"
    ) as caught:
        power.Command(FS1, Power("command", on="sh -c 'echo outlet is locked >&2; exit 3'")).on()
    assert caught.value.hint == "try it: sh -c 'echo outlet is locked >&2; exit 3'"
    with pytest.raises(MissingToolError, match="no-such-tool is missing; it is needed for the power of fs1"):
        power.Command(FS1, Power("command", on="no-such-tool")).on()


class Domain:
    """A virtual machine that remembers what was done to it."""

    def __init__(self, *, active: bool) -> None:
        self.active = active
        self.done: list[str] = []

    def name(self) -> str:
        return "fs1"

    def isActive(self) -> bool:  # noqa: N802 - libvirt's name
        return self.active

    def create(self) -> None:
        self.done.append("create")

    def shutdown(self) -> None:
        self.done.append("shutdown")


@pytest.mark.parametrize(("active", "done"), [(False, ["create"]), (True, ["shutdown"])])
def test_a_domain_is_started_or_asked_to_shut_down(
    active: bool, done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A domain that runs is not started again, one that does not is not shut down, none is cut off."""
    domain, opened = Domain(active=active), []

    def open_(uri: str) -> Any:
        opened.append(uri)
        found = lambda name: domain if name == "fs1" else None  # noqa: E731
        return types.SimpleNamespace(lookupByName=found, close=lambda: None)

    fake = types.SimpleNamespace(open=open_, libvirtError=KeyError)
    monkeypatch.setitem(sys.modules, "libvirt", fake)
    switch = power.LibvirtDomain(FS1, Power("libvirt", uri="qemu+ssh://lab/system"))
    switch.check()
    switch.on()
    switch.off()
    assert domain.done == done
    assert set(opened) == {"qemu+ssh://lab/system"}


def test_power_that_no_machine_has() -> None:
    """`none` is no power; a kind of another provider is refused with those there are."""
    assert power.of(FS1) is None
    assert power.of(replace(FS1, power=Power("none"))) is None
    with pytest.raises(UsageError, match="process is not for machines"):
        power.of(replace(FS1, power=Power("process")))


@pytest.mark.parametrize(
    ("kind", "target", "url"),
    [
        ("serial", "/dev/ttyUSB0", "/dev/ttyUSB0,9600"),
        ("rfc2217", "console1:7001", "rfc2217://console1:7001,9600"),
        (
            "rfc2217",
            "rfc2217://console1:7001?ign_set_control",
            "rfc2217://console1:7001?ign_set_control,9600",
        ),
        ("socket", "10.1.2.9:4001", "socket://10.1.2.9:4001,9600"),
        ("file", "/var/log/consoles/fs1", ""),
    ],
)
def test_consoles_as_pyserial_opens_them(kind: str, target: str, url: str, tmp_path: Path) -> None:
    """Each kind of console is what pyserial understands; a file that somebody else records is only read."""
    node = replace(FS1, console=ConsoleSpec(kind, target, 9600))
    assert consoles.url(node) == url
    assert consoles.log(node, tmp_path) == (Path(target) if kind == "file" else tmp_path / "console.log")
    assert consoles.log(FS1, tmp_path) is None


def test_a_console_at_a_socket_is_recorded_with_its_speed(tmp_path: Path) -> None:
    """A terminal server's socket is opened by the recorder of the lab, and what comes is in the log."""
    log = tmp_path / "console.log"
    with socket.create_server(("127.77.221.2", 0)) as server:
        place = f"socket://127.77.221.2:{server.getsockname()[1]},9600"
        source = "import sys; from harness import console; sys.exit(console.main(sys.argv[1:]))"
        with subprocess.Popen(
            [sys.executable, "-c", source, f"{place}={log}"], stdout=subprocess.PIPE
        ) as recorder:
            client, _ = server.accept()
            assert recorder.stdout is not None
            assert recorder.stdout.readline() == b"ready\n"
            client.sendall(b"Debian GNU/Linux 12 fs1 ttyS0\r\n")
            client.close()
            recorder.wait(60)
    assert "Z Debian GNU/Linux 12 fs1 ttyS0\n" in log.read_text()
    assert console.split_speed("/dev/ttyS0") == ("/dev/ttyS0", 115200)


def test_host_keys_of_the_topology(tmp_path: Path) -> None:
    """Several keys may be pinned; what is no key is refused, not ignored."""
    keys = [ensure_key(tmp_path / name).strip() for name in ("a", "b")]
    assert hostkeys.pinned(replace(FS1, ssh=Ssh(host_key="\n".join(keys)))) == "\n".join(keys)
    with pytest.raises(UsageError, match="fs1: ssh: host_key is no public key: ssh-ed25519 oops"):
        hostkeys.pinned(replace(FS1, ssh=Ssh(host_key="ssh-ed25519 oops")))


def test_host_keys_of_a_known_hosts_file(tmp_path: Path) -> None:
    """A file names hosts by address and port, hashed or not; a machine that is not in it is not trusted."""
    key = " ".join(ensure_key(tmp_path / "key").split()[:2])
    known = tmp_path / "known_hosts"
    known.write_text(f"10.1.2.3 {key}\n[10.1.2.3]:2222 {key}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", known], check=True, capture_output=True)
    assert "10.1.2.3" not in known.read_text()
    for port in (22, 2222):
        assert hostkeys.pinned(replace(FS1, ssh=Ssh(port=port, known_hosts=str(known)))) == key
    with pytest.raises(UsageError, match=r"fs1: .*known_hosts has no key of \[10.1.2.3\]:23"):
        hostkeys.pinned(replace(FS1, ssh=Ssh(port=23, known_hosts=str(known))))
    with pytest.raises(UsageError, match="fs1: there is no private key"):
        hostkeys.identity(replace(FS1, ssh=Ssh(identity=str(tmp_path / "none"))))


def test_an_interrupted_removal_is_taken_up_again(tmp_path: Path) -> None:
    """The claim goes last: what a crash left is still the lab's, and nothing around it is removed."""
    folder, other = tmp_path / "base" / "10.1.2.3", tmp_path / "disk" / "local-abc"
    mine = {"id": "me"}
    argument = {"folder": str(folder), "claim": mine, "elsewhere": [str(other)]}
    assert claim.main({**argument, "action": "take"})["ours"]
    (folder / "state").mkdir()
    other.mkdir(parents=True)
    assert claim.main({**argument, "action": "take"})["ours"]
    assert not claim.main({**argument, "action": "take", "claim": {"id": "you"}})["ours"]
    assert not claim.main({**argument, "action": "release", "claim": {"id": "you"}})["ours"]
    assert (folder / "state").is_dir()
    assert claim.main({**argument, "action": "release"})["ours"]
    assert list(tmp_path.rglob("*")) == [tmp_path / "disk"]


def test_a_machine_that_will_not_do_is_told_why() -> None:
    """Each thing that is missing has its own words and remedy; the first one is told."""
    facts = probe.main(
        {"folders": {"base": "/nowhere"}, "binds": [("127.0.0.1", 0)], "tools": ["sh", "no-such"]}
    )
    assert facts["missing"] == ["no-such"]
    assert facts["binds"] == []
    assert facts["free"]["base"] > 0
    installed = replace(FS1, machine=Machine(product="installed"))
    with pytest.raises(InfrastructureError, match="fs1: no-such is not there"):
        preflight.judge(None, installed, facts)  # type: ignore[arg-type]
    old = {**facts, "python": [3, 9]}
    with pytest.raises(InfrastructureError, match=r"fs1: python3 3.9 .*deployed product is for 3.11"):
        preflight.judge(None, FS1, old)  # type: ignore[arg-type]
    (error,) = probe.main({"folders": {}, "binds": [("192.0.2.1", 1)], "tools": []})["binds"]
    assert error[2] == "Cannot assign requested address"


def test_sockets_of_a_machine_are_watched_until_the_input_ends() -> None:
    """The script tells connections that came after it said `watching`, and none that was there before."""
    source = guest.source("sockets").decode()
    with (
        socket.create_server(("127.77.221.3", 0)) as server,
        socket.create_connection(server.getsockname()) as old,
        subprocess.Popen(
            [sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as watching,
    ):
        assert watching.stdout is not None
        assert watching.stdout.readline() == b"watching\n"
        with socket.create_connection(server.getsockname()) as new:
            before, place = old.getsockname(), new.getsockname()
            said, _ = watching.communicate(timeout=60)
        seen = sockets.parse("header\n" + said.decode())
    ends = {end for connection in seen for end in (connection.low, connection.high)}
    assert place in ends
    assert before not in ends
