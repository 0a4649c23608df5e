"""The kernel's NFS server, kept in step with the map.

`Projection.apply` is called with each generation of the map (`MapService.subscribe`) and makes mounts
and exports what `nfs_plan.plan` says.  It needs root's rights over mounts, and nfs-utils.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

import structlog

from appliance.config import FileServer, NodeConfig
from appliance.errors import ConfigurationError, InfrastructureError
from appliance.files import replace_file
from appliance.gns.map import GnsMap
from appliance.gns.mounts import reconcile
from appliance.gns.nfs_plan import Access, plan

EXPORTS_FILE: Final = Path("/etc/exports.d/spanreel.exports")

_DIRECTORY_MODE: Final = 0o755

# How many threads nfsd runs, 0 when it is stopped (nfsd(7)).
_THREADS_FILE: Final = Path("/proc/fs/nfsd/threads")

# Starting nfsd in an emulated guest takes seconds; beyond this, it hangs.
_COMMAND_TIMEOUT_SECONDS: Final = 120

_log = structlog.get_logger(__name__)


class Projection:
    """Shows the map by NFS on this node; one is made by a file server with `nfs = true`.

    Raises ConfigurationError when the configuration has no export_root.
    """

    def __init__(self, config: NodeConfig, exports_file: Path = EXPORTS_FILE) -> None:
        section = config.section(FileServer)
        if section.export_root is None:
            raise ConfigurationError(f"{config.source}: file_server.export_root: must be given for NFS")
        self._root = section.export_root
        self._access = Access(section.clients, section.root_clients)
        self._node = config.node.name
        peers = config.cluster.nodes if config.cluster is not None else ()
        self._addresses = {peer.name: peer.address for peer in peers}
        self._exports_file = exports_file

    def apply(self, gns_map: GnsMap) -> None:
        """Show `gns_map`, starting the kernel's server when it is not running.

        With the map that is shown already, nothing changes.  Raises InfrastructureError saying what
        could not be made.
        """
        planned = plan(gns_map, self._node, self._addresses, os.fsencode(self._root), self._access)
        for problem in planned.problems:
            _log.warning("part not shown by NFS", reason=problem)
        _make_directory(self._root)
        _make_directory(self._exports_file.parent)
        reconcile(planned.export_root, planned.mounts)
        replace_file(self._exports_file, planned.exports)
        start_server()
        _run("exportfs", "-ra")
        # The kernel has answers for paths cached from before the mounts changed.
        _run("exportfs", "-f")


def start_server() -> None:
    """Start the kernel's NFS server when it is not running; raises InfrastructureError."""
    try:
        if int(_THREADS_FILE.read_text()) > 0:
            return
    except (OSError, ValueError) as error:
        # Not mounted, or not ours to read: systemd knows better.
        _log.debug("nfsd's threads are not known", reason=str(error))
    _run("systemctl", "start", "nfs-server")


def _make_directory(directory: Path) -> None:
    if directory.is_dir():
        return
    try:
        directory.mkdir(parents=True)
        # Whatever this process's umask is, clients and exportfs look in here.
        directory.chmod(_DIRECTORY_MODE)
    except OSError as error:
        raise InfrastructureError(f"cannot make {directory} for NFS: {error.strerror}") from error


def _run(*command: str) -> None:
    line = " ".join(command)
    try:
        process = subprocess.run(
            command, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_SECONDS, check=False
        )
    except FileNotFoundError as error:
        raise InfrastructureError(f"`{line}` is not there; install nfs-kernel-server") from error
    except subprocess.TimeoutExpired as error:
        raise InfrastructureError(f"`{line}` hangs; look at the journal of nfs-server") from error
    if process.returncode != 0:
        said = process.stderr.strip() or f"exit code {process.returncode}"
        raise InfrastructureError(f"`{line}` failed: {said}")
