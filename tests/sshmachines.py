"""Machines to reach by SSH, made of this one: an OpenSSH server on loopback, and a topology that uses it."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SSHD = "/usr/sbin/sshd"
START_SECONDS = 20.0
SUBNET = "127.77.220"

TOPOLOGY = """\
schema: 1
name: {name}
provider: machines
subnet: {subnet}.0/24
seed: {{number: 5, size_mib: 6, small_files: 300}}
nodes:
  - {{name: fs1, roles: [file-server], address: {subnet}.11, ssh: &ssh {ssh}, machine: &machine {machine}}}
  - {{name: fs2, roles: [file-server], address: {subnet}.12, ssh: *ssh, machine: *machine}}
  - {{name: conn1, roles: [connection-server], address: {subnet}.21, ssh: *ssh, machine: *machine}}
  - {{name: media1, roles: [media-server], address: {subnet}.31, ssh: *ssh, machine: *machine}}
  - {{name: backup1, roles: [backup-server, client], address: {subnet}.41, ssh: *ssh, machine: *machine}}
gns:
  - {{path: /home, owner: fs2, dir: home}}
  - {{path: /projects, owner: fs1, dir: projects}}
  - {{path: /projects/media, owner: fs2, dir: media}}
  - {{path: /restored, owner: fs1, dir: restored}}
  - {{path: /restored/home, owner: fs2, dir: restored-home}}
libraries:
  - node: media1
    transport: model
    changer: LABLIB0001
    drives: [LABDRV0001, LABDRV0002]
    slots: [LAB001L5, LAB002L5, LAB003L5, LAB004L5]
    writable: [LAB001L5, LAB002L5, LAB003L5]
"""


def missing() -> str:
    """Return why there can be no SSH server here, "" if there can."""
    if not os.access(SSHD, os.X_OK) or shutil.which("ssh-keygen") is None:
        return "needs OpenSSH's server and ssh-keygen: apt-get install openssh-server"
    return ""


@dataclass(frozen=True)
class Sshd:
    """A running SSH server: everything a topology says of it."""

    address: str
    port: int
    identity: Path
    host_key: str

    def topology(self, name: str, machine: str) -> str:
        """Return a topology of five machines behind this server; `machine` is a YAML mapping."""
        ssh = (
            f"{{user: {getpass.getuser()}, port: {self.port}, address: {self.address}, "
            f"identity: {self.identity}, host_key: '{self.host_key}'}}"
        )
        return TOPOLOGY.format(name=name, subnet=SUBNET, ssh=ssh, machine=machine)


@contextmanager
def sshd(folder: Path) -> Iterator[Sshd]:
    """Run a server that lets one key in, with a host key of its own, while entered."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("host", "client"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", folder / name], check=True
        )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where it locks its unprivileged half up
    address = f"{SUBNET}.1"
    with socket.create_server((address, 0)) as probe:
        port = int(probe.getsockname()[1])
    config = folder / "sshd_config"
    config.write_text(
        f"ListenAddress {address}\nPort {port}\nHostKey {folder}/host\nPidFile none\n"
        f"AuthorizedKeysFile {folder}/client.pub\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
        "KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n"
        "MaxSessions 100\nMaxStartups 100\n"
    )
    with (folder / "sshd.log").open("wb") as log:
        server = subprocess.Popen([SSHD, "-D", "-e", "-f", config], stdout=log, stderr=log)
    try:
        _wait(server, address, port, folder / "sshd.log")
        yield Sshd(address, port, folder / "client", (folder / "host.pub").read_text().strip())
    finally:
        server.terminate()
        server.wait(30)


def _wait(server: subprocess.Popen[bytes], address: str, port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection((address, port), 1.0).close()
        except OSError:
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
        else:
            return
