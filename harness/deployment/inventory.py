"""The inventory of a topology, as a folder that `ansible-playbook -i FOLDER/hosts.yml` takes.

    hosts.yml          groups (the roles, tape, virtual_tape), and what each machine is to be
    known_hosts        the host keys that count
    files/NODE/...     configuration and certificates, by their path on the node; mhvtl's configuration
    secrets/NODE/...   passwords and private keys, each 0600; `ansible-vault encrypt` may be run on them

Nothing secret stands in hosts.yml, which names files only.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from harness import nodeconfig, virtualtape
from harness.deployment.access import Access, access
from harness.deployment.site import InstalledSite
from harness.providers.base import NodeFile
from harness.topology import FILE_SERVER, HARDWARE, MHVTL, PLAIN, Library, Node

HOSTS = "hosts.yml"
# What ansible-vault(1) begins an encrypted file with.
VAULT_MARK = b"$ANSIBLE_VAULT;"

Table = dict[str, Any]


def write(site: InstalledSite, folder: Path, product: Table) -> list[Path]:
    """Write the folder; `product` are variables that say what is deployed.

    Returns the secrets that were kept because somebody encrypted them.
    """
    kept: list[Path] = []
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    hosts: Table = {}
    known: list[str] = []
    for node in site.topology.nodes:
        reached = access(site.topology, site.lab, node)
        known += reached.known_hosts()
        files = nodeconfig.files(site, node)
        kept += [place for file in files if not _write(place := folder / source(node, file), file)]
        virtual = virtual_tape(site, node)
        for file in virtual:
            _write(folder / source(node, file), file)
        hosts[node.name] = host_vars(site, node, reached, files) | _virtual_vars(site, node, virtual)
    _save(folder / "known_hosts", "".join(f"{line}\n" for line in known).encode(), 0o644)
    _save(folder / HOSTS, render(site, hosts, product).encode(), 0o600)
    return kept


def source(node: Node, file: NodeFile) -> str:
    """Return where a node's file lies in the folder."""
    return f"{'secrets' if file.secret else 'files'}/{node.name}{file.path}"


def host_vars(site: InstalledSite, node: Node, reached: Access, files: Iterable[NodeFile]) -> Table:
    """Return what a machine is to be."""
    topology, paths = site.topology, site.paths(node)
    made: Table = {
        "ansible_host": reached.address,
        "ansible_port": reached.port,
        "ansible_user": reached.user,
        "ansible_ssh_private_key_file": reached.identity,
        "spanreel_node": node.name,
        "spanreel_roles": list(node.served_roles),
        "spanreel_files": _copies(node, [file for file in files if not file.secret]),
        "spanreel_secrets": _copies(node, [file for file in files if file.secret]),
        "spanreel_disks": [
            {"serial": disk.name, "filesystem": disk.filesystem, "mount": disk.mount} for disk in node.disks
        ],
    }
    if node.has(FILE_SERVER):
        made["spanreel_folders"] = [f"{paths.data}/{part.dir}" for part in topology.junctions(node.name)]
    if node == topology.only(FILE_SERVER):
        made["spanreel_junctions"] = nodeconfig.gns_map(site)
    # The appliance image has the product on a disk of its own.
    if topology.provider == "libvirt" and node.image != PLAIN:
        made["spanreel_product"] = ""
    return made


def virtual_tape(site: InstalledSite, node: Node) -> list[NodeFile]:
    """Return the configuration of a machine's mhvtl; none where it has no such library."""
    libraries = _virtual(site, node)
    made = virtualtape.files(libraries) if libraries else {}
    return [NodeFile(path, text.encode()) for path, text in made.items()]


def groups(site: InstalledSite) -> dict[str, list[str]]:
    """Return the names of each group's machines: one group a role, and `tape` of those with SCSI drives.

    Where these are mhvtl's, a machine is in `virtual_tape` as well.
    """
    found: dict[str, list[str]] = {}
    writer = site.topology.only(FILE_SERVER)
    # The map's writer is the last of the file servers: upgrade.yml goes by this order.
    for node in sorted(site.topology.nodes, key=lambda node: node == writer):
        for role in node.roles:
            found.setdefault(role.replace("-", "_"), []).append(node.name)
    for library in site.topology.libraries:
        kinds = {HARDWARE: ["tape"], MHVTL: ["tape", "virtual_tape"]}.get(library.transport, [])
        for kind in kinds:
            if library.node not in found.setdefault(kind, []):
                found[kind].append(library.node)
    return found


def render(site: InstalledSite, hosts: Table, product: Table) -> str:
    """Return hosts.yml."""
    topology = site.topology
    # An upgrade waits for jobs, for hours if need be, on a connection on which nothing is said.
    options = "-o UserKnownHostsFile='{{ inventory_dir }}/known_hosts' -o StrictHostKeyChecking=yes"
    document = {
        "all": {
            "vars": {
                "ansible_ssh_common_args": f"{options} -o IdentitiesOnly=yes -o ServerAliveInterval=30",
                "spanreel_cluster": topology.name,
                "spanreel_gns_writer": topology.only(FILE_SERVER).name,
                **product,
            },
            "hosts": hosts,
            "children": {name: {"hosts": dict.fromkeys(names)} for name, names in groups(site).items()},
        }
    }
    text: str = yaml.safe_dump(document, sort_keys=False, width=110)
    return (
        f"# Made by `spanreel lab inventory` of the topology {topology.name}; made anew by the same.\n{text}"
    )


def _virtual(site: InstalledSite, node: Node) -> list[Library]:
    libraries = site.topology.libraries
    return [each for each in libraries if each.transport == MHVTL and each.node == node.name]


def _virtual_vars(site: InstalledSite, node: Node, files: Iterable[NodeFile]) -> Table:
    """Return what the role virtual_tape goes by; packages only where the topology says where they are."""
    libraries = _virtual(site, node)
    if not libraries:
        return {}
    made: Table = {
        "virtual_tape_files": _copies(node, files),
        "virtual_tape_serials": [
            serial for library in libraries for serial in (library.changer, *library.drives)
        ],
    }
    packages = dict.fromkeys(package for library in libraries for package in library.packages)
    repositories = [library.repository for library in libraries if library.repository]
    if packages:
        made["virtual_tape_debs"] = [str(Path(package).expanduser()) for package in packages]
    if repositories:
        made["virtual_tape_repository"] = repositories[0]
    return made


def _copies(node: Node, files: Iterable[NodeFile]) -> list[Table]:
    return [{"src": source(node, file), "dest": file.path} for file in files]


def _write(path: Path, file: NodeFile) -> bool:
    """Write a node's file; return False for one that is encrypted, and is left as it is."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if file.secret and path.exists():
        with path.open("rb") as old:
            if old.read(len(VAULT_MARK)) == VAULT_MARK:
                return False
    _save(path, file.content, 0o600 if file.secret else 0o644)
    return True


def _save(path: Path, content: bytes, mode: int) -> None:
    """Write a file in one step: never with another mode, never half."""
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as out:
        os.fchmod(out.fileno(), mode)
        out.write(content)
    partial.replace(path)
