"""Brings the product to a machine: the tree that virtual machines have on a disk, as a tar stream."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, cast

from harness.errors import CommandError, InfrastructureError
from harness.providers.base import NodeFile
from harness.ssh import Ssh

# 40 MB over a slow line; a machine that takes longer is not fit for a lab.
DEPLOY_SECONDS = 900.0

_THERE = 'test "$(readlink -- "$1/current")" = "$2"'
# A tree is under its own name only when all of it is there.
_UNPACK = """\
set -e
umask 022
rm -rf -- "$1/partial"
mkdir -p -- "$1/partial"
tar -xf - --no-same-owner -C "$1/partial"
rm -rf -- "$1/$2"
mv -- "$1/partial/$2" "$1/$2"
ln -sfn -- "$2" "$1/current"
rm -rf -- "$1/partial"
"""
_INSTALL = "set -e; umask 077; tar -xpf - --no-same-owner --no-overwrite-dir -C /"


def deploy(ssh: Ssh, folder: str, tree: Path, version: str) -> bool:
    """Put the product into `folder`; return whether there was something to do."""
    try:
        ssh.run(["sh", "-c", _THERE, "sh", folder, version])
    except CommandError:
        pass
    else:
        return False
    with subprocess.Popen(["tar", "-cf", "-", "-C", str(tree), version], stdout=subprocess.PIPE) as packing:
        assert packing.stdout is not None
        err = io.BytesIO()
        code = ssh.exec(
            ["sh", "-c", _UNPACK, "sh", folder, version],
            stdin=cast("BinaryIO", packing.stdout),
            stdout=io.BytesIO(),
            stderr=err,
            timeout=DEPLOY_SECONDS,
        )
        packing.stdout.close()
    if code != 0:
        raise CommandError(ssh.node, ["unpack the product", folder], code, err.getvalue())
    if packing.returncode != 0:
        raise InfrastructureError(f"host: packing {tree} with tar ended with exit code {packing.returncode}")
    return True


def install(ssh: Ssh, files: Sequence[NodeFile]) -> None:
    """Write configuration files in one go; secrets are 0600 from their first moment."""
    if files:
        ssh.run(["sh", "-c", _INSTALL], archive(files))


def archive(files: Sequence[NodeFile]) -> bytes:
    """Return files as a tar archive with their modes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as made:
        for file in files:
            info = tarfile.TarInfo(file.path.lstrip("/"))
            info.size = len(file.content)
            info.mode = 0o600 if file.secret else 0o644
            made.addfile(info, io.BytesIO(file.content))
    return out.getvalue()
