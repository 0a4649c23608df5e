"""Inside a machine: configuration files, and the units of its roles."""

from __future__ import annotations

import io
import socket
import tarfile
from collections.abc import Callable, Sequence

from harness.errors import CommandError, InfrastructureError
from harness.providers.base import NodeFile
from harness.ssh import Ssh

# The image's user, see ansible/roles/common/defaults/main.yml.
SPANREEL_UID = 800
SPANREEL_GID = 800
# Python starts six times slower on an emulated processor, and five machines may do so at once.
READY_SECONDS = 120

# Waits in the machine, so that polling costs no round trips.  A role says `ready ROLE ADDRESS:PORT` in the
# journal when it listens.  It must be active as well: one that was killed, and that systemd is about to start
# again, has the invocation and the words of before.
_START_SCRIPT = """\
set -u
role=$1 unit=spanreel@$1.service tries=$2 restarts=$3
since=$(date +%s)
if [ "$restarts" -gt 0 ]; then
    systemctl reset-failed "$unit" 2>/dev/null
    systemctl restart "$unit" || true
fi
while [ "$tries" -gt 0 ]; do
    tries=$((tries - 1))
    eval "$(systemctl show -p InvocationID,ActiveState,NRestarts "$unit")"
    if [ "$ActiveState" = active ] &&
        journalctl -q -o cat "_SYSTEMD_INVOCATION_ID=$InvocationID" | grep -q "^ready $role "; then
        exit 0
    fi
    case $ActiveState in
        active | activating | reloading) ;;
        *) break ;;
    esac
    [ "$restarts" -eq 0 ] || [ "$NRestarts" -lt "$restarts" ] || break
    sleep 1
done
journalctl -q -o cat -n 6 --since "@$since" "_SYSTEMD_UNIT=$unit" | tr '\\n' '|'
exit 1
"""


_DISKS_SCRIPT = """\
exec 2>&1
unit=spanreel-disks.service
systemctl start "$unit" || { journalctl -q -o cat -n 5 -u "$unit"; exit 1; }
for folder; do
    mkdir -p -- "$folder" || exit 1
done
"""


def files_archive(files: Sequence[NodeFile]) -> bytes:
    """Configuration files as a tar archive with owners and modes; secrets belong to the product's user."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for file in files:
            info = tarfile.TarInfo(file.path.lstrip("/"))
            info.size = len(file.content)
            info.mode = 0o600 if file.secret else 0o644
            if file.secret:
                info.uid, info.gid = SPANREEL_UID, SPANREEL_GID
            archive.addfile(info, io.BytesIO(file.content))
    return out.getvalue()


def install(ssh: Ssh, files: Sequence[NodeFile]) -> None:
    """Write configuration files in one go."""
    if files:
        # The folder of secrets is for the product's group only, and tar would make others as it likes.
        script = (
            "tar -xpf - -C / --no-overwrite-dir && chown -R root:spanreel /etc/spanreel && "
            "find /etc/spanreel -type d -exec chmod 0750 {} + && "
            "find /etc/spanreel -type f -perm 0600 -exec chown spanreel {} +"
        )
        ssh.run(["sh", "-c", script], files_archive(files))


def start(ssh: Ssh, role: str) -> None:
    """(Re)start one role and return when it listens; an error quotes its last words."""
    _when_ready(ssh, role, restarts=2)


def await_ready(ssh: Ssh, roles: Sequence[str]) -> None:
    """Return when roles listen that systemd starts again by itself; an error quotes their last words."""
    for role in roles:
        _when_ready(ssh, role, restarts=0)


def _when_ready(ssh: Ssh, role: str, *, restarts: int) -> None:
    """With `restarts`, restart it first, and give up when systemd had to do so that often."""
    arguments = [role, str(READY_SECONDS), str(restarts)]
    try:
        ssh.run(["sh", "-c", _START_SCRIPT, "sh", *arguments], timeout=4 * READY_SECONDS)
    except CommandError as error:
        words = error.output.decode("utf-8", "backslashreplace").strip(" |\n") or "it printed nothing"
        raise InfrastructureError(
            f"{ssh.node}: {role} did not start: {words}",
            hint=f"spanreel lab exec {ssh.node} -- journalctl -u spanreel@{role}",
        ) from error


# Machines that were made of saved memory lag behind by the time since; their hardware clock is the host's.
_WAKE_SCRIPT = """\
exec 2>&1
hwclock --utc --hctosys || exit 1
for role; do
    systemctl is-active --quiet "spanreel@$role.service" || { echo "$role does not run"; exit 1; }
done
"""
# A server that runs greets within milliseconds; emulated processors that all wake at once take longer.
GREETING_SECONDS = 60.0


def wake(ssh: Ssh, roles: Sequence[str]) -> None:
    """Set the clock and see that roles run."""
    try:
        ssh.run(["sh", "-c", _WAKE_SCRIPT, "sh", *roles])
    except CommandError as error:
        words = error.output.decode("utf-8", "backslashreplace").strip()
        raise InfrastructureError(f"{ssh.node}: did not wake: {words}") from error


def require_greeting(node: str, connect: Callable[[float], socket.socket]) -> None:
    """See that the NDMP service serves: it speaks first, whoever connects."""
    try:
        with connect(GREETING_SECONDS) as connection:
            connection.settimeout(GREETING_SECONDS)
            greeted = connection.recv(1)
    except OSError as error:
        raise InfrastructureError(f"{node}: the NDMP service does not answer: {error}") from error
    if not greeted:
        raise InfrastructureError(f"{node}: the NDMP service closes new connections")


def stop(ssh: Ssh, roles: Sequence[str]) -> None:
    """End roles; one that does not run is fine."""
    if roles:
        ssh.run(["systemctl", "stop", *(f"spanreel@{role}.service" for role in roles)])


def wait_for_disks(ssh: Ssh, folders: Sequence[str]) -> None:
    """Return when the data disks are mounted and `folders` on them exist."""
    ssh.run(["sh", "-c", _DISKS_SCRIPT, "sh", *folders])
