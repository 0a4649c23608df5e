"""ndmjob's daemon as a server, and a backup server that is configured for it.

The daemon listens on every address, so it runs only where the loopback interface is all there is: see
tests/integration/test_foreign_servers.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

from appliance.backupserver.catalogue import Catalogue, open_catalogue
from appliance.backupserver.peers import Context
from appliance.backupserver.progress import Screen
from appliance.config import parse

NDMJOB = Path("/usr/lib/amanda/ndmjob")
PORT = 10000
USER = PASSWORD = "ndmp"
WAIT_S = 60

# ndmjob serves parts of an image that are whole records only, and has no more than 256 KiB for one.
RECORD = 64512

NDMJOB_CONF = """
[butype tar]
\tv2attr 0xFFFF
\tv3attr 0x6F
\tv4attr 0x6F
\tdefault_env HIST y
"""

TOML = """
schema = 1
[node]
name = "backup1"
address = "127.0.0.1"
state = "{folder}"
[backup_server]
catalogue = "{folder}/catalogue.sqlite"
entry = "data"
media = "media"
changer = "{changer}"
drives = ["{drive}"]
writable = [{writable}]
record_size = {record}
[backup_server.devices]
{changer} = "{changer_device}"
{drive} = "{drive_device}"
"""

SERVER = """
[[backup_server.servers]]
name = "{name}"
address = "{address}"
port = {port}
user = "{user}"
password_file = "{folder}/{name}.password"
"""


@contextmanager
def daemon(folder: Path, *, tape_limit: int) -> Iterator[Path]:
    """A running daemon with a tape library of ten cartridges; yields the robot's folder."""
    robot = folder / "robot"
    robot.mkdir()
    wrapper = folder / "bin" / "wrap_tar"
    wrapper.parent.mkdir()
    script = Path(__file__).with_name("formatter.py")
    wrapper.write_text(f'#!/bin/sh\nexec {sys.executable} {script} "$@"\n')
    wrapper.chmod(0o755)
    (folder / "ndmjob.conf").write_text(NDMJOB_CONF)
    command = [NDMJOB, "-o", "test-daemon", "-p", str(PORT), "-o", f"config-file={folder}/ndmjob.conf"]
    command += ["-o", f"tape-limit={tape_limit}"]
    env = {**os.environ, "PATH": f"{wrapper.parent}:{os.environ['PATH']}"}
    process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert b"READY" in process.stdout.readline()
        yield robot
    finally:
        # It ends when its standard input does.
        process.communicate(timeout=WAIT_S)


@contextmanager
def backup_server(
    folder: Path,
    *,
    changer: tuple[str, str],
    drive: tuple[str, str],
    writable: tuple[str, ...],
    servers: dict[str, tuple[str, int, str, str]],
) -> Iterator[tuple[Context, Catalogue, StringIO]]:
    """A DMA; `changer` and `drive` are serial and NDMP name, `servers` address, port, user, password."""
    text = TOML.format(
        folder=folder,
        changer=changer[0],
        changer_device=changer[1],
        drive=drive[0],
        drive_device=drive[1],
        writable=", ".join(f'"{each}"' for each in writable),
        record=RECORD,
    )
    for name, (address, port, user, password) in servers.items():
        secret = folder / f"{name}.password"
        secret.touch(mode=0o600)
        secret.write_text(password)
        text += SERVER.format(name=name, address=address, port=port, user=user, folder=folder)
    config = parse(text, folder)
    assert config.backup_server is not None
    said = StringIO()
    with open_catalogue(config.backup_server.catalogue) as catalogue:
        yield Context(config, catalogue, Screen(said)), catalogue, said
