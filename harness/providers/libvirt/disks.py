"""Disks of a lab's machines: a thin layer over the shared image, configuration, data."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InfrastructureError, MissingToolError
from harness.topology import Disk, Topology

# Sectors of a disk; a tar archive on it is padded to whole ones.
_SECTOR = 512


@dataclass(frozen=True)
class ConfigFile:
    """A file of the configuration disk, with the owner it has on the machine."""

    content: bytes
    mode: int = 0o644
    uid: int = 0
    gid: int = 0


def overlay(base: Path, target: Path) -> None:
    """A fresh layer over the image: what the machine writes goes here, and away with the next one."""
    target.unlink(missing_ok=True)
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(base), "-F", "raw", str(target)]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise MissingToolError(
            "qemu-img", needed_for="virtual machines", install="bootstrap/install vms"
        ) from error
    if result.returncode != 0:
        raise InfrastructureError(f"cannot make the disk {target}: {result.stderr.strip()}")


def data_disk(disk: Disk, target: Path) -> None:
    """A sparse file; the machine makes the file system at its first boot.  An existing one is replaced."""
    with target.open("wb") as out:
        out.truncate(disk.size_gib << 30)


def config_archive(files: Mapping[str, ConfigFile]) -> bytes:
    """The configuration disk: a tar archive that the initrd unpacks over the root file system.

    No file system, so no tool and no root is needed to make it, and owners are what we say.
    """
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path, file in sorted(files.items()):
            info = tarfile.TarInfo(path.lstrip("/"))
            info.size, info.mode, info.uid, info.gid = len(file.content), file.mode, file.uid, file.gid
            archive.addfile(info, io.BytesIO(file.content))
    data = out.getvalue()
    return data + bytes(-len(data) % _SECTOR)


def write_secret(path: Path, content: bytes) -> None:
    """Write a file that only its owner reads."""
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        out.write(content)


# A plain machine has sshd as Debian configures it, but for what the harness does with it: many channels at
# once, and nobody who waits for a name server.
_PLAIN_SSHD = b"MaxSessions 100\nMaxStartups 100\nUseDNS no\n"


def plain_files(apt_source: bytes) -> dict[str, ConfigFile]:
    """What a plain machine has besides, as an installer would have asked for it: where packages come from."""
    return {
        "/etc/apt/sources.list.d/lab.list": ConfigFile(apt_source),
        "/etc/ssh/sshd_config.d/lab.conf": ConfigFile(_PLAIN_SSHD),
    }


def machine_files(
    topology: Topology,
    lab: str,
    node: str,
    disks: Sequence[Disk],
    host_key: bytes,
    host_public: str,
    client_public: str,
) -> dict[str, ConfigFile]:
    """What makes one machine of the image: its identity, its peers' names, who may enter, its data disks."""
    hosts = "127.0.0.1 localhost\n" + "".join(f"{other.address} {other.name}\n" for other in topology.nodes)
    machine_id = hashlib.sha256(f"{lab}/{node}/{host_public}".encode()).hexdigest()[:32]
    files = {
        "/etc/hostname": ConfigFile(f"{node}\n".encode()),
        "/etc/hosts": ConfigFile(hosts.encode()),
        "/etc/machine-id": ConfigFile(f"{machine_id}\n".encode(), 0o444),
        "/etc/ssh/ssh_host_ed25519_key": ConfigFile(host_key, 0o600),
        "/etc/ssh/ssh_host_ed25519_key.pub": ConfigFile(f"{host_public}\n".encode()),
        "/root/.ssh/authorized_keys": ConfigFile(f"{client_public}\n".encode(), 0o600),
    }
    if disks:
        lines = "".join(f"{disk.name} {disk.filesystem} {disk.mount}\n" for disk in disks)
        files["/etc/spanreel/disks.conf"] = ConfigFile(lines.encode())
    return files
