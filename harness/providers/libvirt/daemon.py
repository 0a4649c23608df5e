"""The lab's own libvirtd.

Each lab runs one, inside its network namespace, with the directories it is hard-wired to (`/etc/libvirt`,
`/run/libvirt` and so on) replaced, in its own mount namespace, by folders of the lab.  So two labs, and the
system's libvirtd on a workstation, never see each other; nothing of the host is configured; and the bridge,
QEMU and the iSCSI initiator in it are all in the lab's network without being told.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt

from harness import netns
from harness.errors import InfrastructureError
from harness.providers.libvirt.names import Names

# From start to an answering socket takes half a second here.
_START_SECONDS = 30.0
_STOP_SECONDS = 10.0
_POLL_SECONDS = 0.05

# No daemon beside it (virtlogd), no change of owners and modes (that is how /dev/null became 0644), no
# mount namespace and no cgroup per machine: the lab's namespaces hold everything already.
QEMU_CONF = """\
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
namespaces = [ ]
cgroup_controllers = [ ]
stdio_handler = "file"
"""
LIBVIRTD_CONF = """\
auth_unix_ro = "none"
auth_unix_rw = "none"
log_outputs = "2:file:{log}"
"""


# Debian's libvirtd refuses to start without this user, whatever its configuration says.  A package makes it
# that would also bring systemd's services and a firewall; here it exists in the daemon's own view only.
COMPILED_USER = "libvirt-qemu"
_PASSWD_LINE = f"{COMPILED_USER}:x:64055:64055::/nonexistent:/usr/sbin/nologin\n"
_GROUP_LINE = f"{COMPILED_USER}:x:64055:\n"


class LibvirtDaemon:
    """Starts, reaches and ends the lab's libvirtd."""

    def __init__(self, names: Names, cache: Path) -> None:
        self._names = names
        # What it finds out about QEMU takes seconds and holds for every lab.
        self._cache = cache
        self._sockets = names.runtime / "libvirt"

    @property
    def uri(self) -> str:
        """Where clients connect, from any namespace."""
        return f"qemu:///system?socket={self._sockets}/libvirt-sock"

    def start(self) -> None:
        """Start it if it does not run."""
        if self._pid() is not None:
            return
        log = self._names.logs / "libvirtd.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        self._write_configuration(log)
        with (self._names.logs / "libvirtd.out").open("ab") as out:
            process = subprocess.Popen(
                netns.argv_inside(self._names.netns, ["sh", "-c", self._script()]),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if process.poll() is not None or time.monotonic() > deadline:
                raise InfrastructureError(
                    "libvirtd did not start", hint=f"its messages: {log.parent}/libvirtd.*"
                )
            time.sleep(_POLL_SECONDS)
        # It outlives us: nobody will wait for this object.
        process.returncode = 0

    def stop(self) -> None:
        """End it; its machines have been ended before."""
        pid = self._pid()
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        while self._pid() is not None and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)

    @contextlib.contextmanager
    def connected(self) -> Iterator[Any]:
        """A connection (`libvirt.virConnect`)."""
        try:
            connection = libvirt.open(self.uri)
        except libvirt.libvirtError as error:
            raise InfrastructureError(
                f"the lab's libvirtd does not answer: {error}", hint="end what is left: spanreel lab down"
            ) from error
        try:
            yield connection
        finally:
            connection.close()

    def _answers(self) -> bool:
        if self._pid() is None or not (self._sockets / "libvirt-sock").exists():
            return False
        try:
            libvirt.open(self.uri).close()
        except libvirt.libvirtError:
            return False
        return True

    def _pid(self) -> int | None:
        """Its process, if the one in the pid file is alive and really lives in the lab's namespace."""
        try:
            pid = int((self._names.runtime / "libvirtd.pid").read_text())
        except (FileNotFoundError, ValueError):
            return None
        return pid if pid in netns.pids(self._names.netns) else None

    def _folders(self) -> dict[str, Path]:
        """What replaces the directories that libvirtd is compiled with."""
        own = self._names.libvirt
        return {
            "/etc/libvirt": own / "etc",
            "/var/lib/libvirt": own / "lib",
            "/var/cache/libvirt": self._cache,
            "/var/log/libvirt": own / "log",
            "/run/libvirt": self._sockets,
        }

    def _write_configuration(self, log: Path) -> None:
        for place, folder in self._folders().items():
            folder.mkdir(parents=True, exist_ok=True)
            # Something must be there to mount over; on a host without libvirt's packages it is empty.
            Path(place).mkdir(parents=True, exist_ok=True)
        # libvirtd makes these only where its package has not.
        for name in ("lib/dnsmasq", "log/qemu"):
            (self._names.libvirt / name).mkdir(parents=True, exist_ok=True)
        etc = self._names.libvirt / "etc"
        (etc / "qemu.conf").write_text(QEMU_CONF)
        (etc / "libvirtd.conf").write_text(LIBVIRTD_CONF.format(log=log))
        (etc / "passwd").write_text(Path("/etc/passwd").read_text() + _PASSWD_LINE)
        (etc / "group").write_text(Path("/etc/group").read_text() + _GROUP_LINE)

    def _script(self) -> str:
        mounts = [f"mount --bind '{folder}' {place}" for place, folder in self._folders().items()]
        if not _user_exists():
            etc = self._names.libvirt / "etc"
            mounts += [f"mount --bind '{etc}/{name}' /etc/{name}" for name in ("passwd", "group")]
        pid_file = f"{self._names.runtime}/libvirtd.pid"
        daemon = f"exec libvirtd --config /etc/libvirt/libvirtd.conf --pid-file '{pid_file}'"
        return "; ".join(["set -e", *mounts, daemon])


def _user_exists() -> bool:
    try:
        pwd.getpwnam(COMPILED_USER)
        grp.getgrnam(COMPILED_USER)
    except KeyError:
        return False
    return True


def quiet_errors() -> None:
    """Keep libvirt's C library from printing to our standard error; errors come as exceptions."""
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
