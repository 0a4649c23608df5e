"""A media server that is killed in the middle of a write: what is on tape stays, and the next job goes on.

The media server is a process of its own over the library model, whose cartridges are files: what the process
had not written yet is lost, as with a drive that loses its power.
"""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

import pytest
from dma_support import HOST, TOML, Script, ScriptedData

from appliance.backupserver import backup, jobs, leases, media, restore
from appliance.backupserver.catalogue import Catalogue, open_catalogue
from appliance.backupserver.jobs import Job, Status
from appliance.backupserver.labels import RECORD_BYTES, Header
from appliance.backupserver.peers import Context
from appliance.backupserver.progress import Screen
from appliance.config import NodeConfig, parse
from appliance.errors import InfrastructureError, JobError
from appliance.ndmp.enums import DataHaltReason
from appliance.ndmp.server import NdmpServer
from appliance.ndmp.session import Accounts
from tape.model.cartridge import Cartridge

CHECKOUT = Path(__file__).resolve().parents[3]
IMAGE = random.Random(9).randbytes((3 << 20) + 77)
RECORD = 262144
NDMP = """
[ndmp]
port = {media}
accounts = "{folder}/accounts.toml"
"""


class MediaServer:
    """`spanreel serve media-server` in a process of its own."""

    def __init__(self, config: Path) -> None:
        self._config = config
        self._process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "appliance.cli", "serve", "media-server"]
        process = subprocess.Popen(
            [*command, "--config", str(self._config)], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert any(line.startswith("ready media-server ") for line in process.stdout)
        return process

    def kill(self) -> None:
        """Without a warning."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(30)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def start_again(self) -> None:
        """As an operator or the service manager does."""
        self._process = self._start()


class Site:
    """A backup server, a scripted file server and a media server that can be killed."""

    def __init__(
        self, folder: Path, config: NodeConfig, catalogue: Catalogue, media_server: MediaServer
    ) -> None:
        self.folder = folder
        self.config = config
        self.catalogue = catalogue
        self.media_server = media_server
        self.script = Script(image=IMAGE)
        self.output = StringIO()

    def back_up(self, screen: Screen | None = None) -> Job:
        """Run a backup."""
        self.script.halt = DataHaltReason.SUCCESSFUL
        context = Context(self.config, self.catalogue, screen or Screen(self.output))
        return backup.run(context, backup.Request((b"/",), "fs1"))

    def restored(self, job: Job) -> bytes:
        """What a restore brings back."""
        self.script.halt = DataHaltReason.SUCCESSFUL
        context = Context(self.config, self.catalogue, Screen(self.output))
        restore.run(context, restore.Request(job, (), b"/to", "keep", "fs1"))
        return self.script.received

    def tape(self, barcode: str) -> bytes:
        """A cartridge's file."""
        return (self.folder / "library" / f"{barcode}.tape").read_bytes()


def free_port() -> int:
    """A port that nobody has now."""
    with socket.create_server((HOST, 0)) as server:
        port: int = server.getsockname()[1]
        return port


@contextmanager
def running(folder: Path) -> Iterator[Site]:
    """The whole site."""
    for name, text in (("password", "secret\n"), ("accounts.toml", 'dma = "secret"\n')):
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    made: list[Site] = []
    data = NdmpServer(
        (HOST, 0),
        lambda session, _: session.add(ScriptedData(session, made[0].script)),
        accounts=Accounts({"dma": "secret"}),
    )
    text = TOML.replace("[media_server]\n", f"{NDMP}[media_server]\n", 1)
    text = text.format(folder=folder, data=data.address[1], media=free_port())
    (folder / "spanreel.toml").write_text(text)
    config = parse(text, folder)
    assert config.backup_server is not None
    media_server = MediaServer(folder / "spanreel.toml")
    with open_catalogue(config.backup_server.catalogue) as catalogue:
        made.append(Site(folder, config, catalogue, media_server))
        data.start()
        try:
            yield made[0]
        finally:
            data.stop()
            media_server.kill()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site for each test."""
    with running(tmp_path) as made:
        yield made


class Killing(Screen):
    """Kills the media server as soon as bytes are on tape."""

    def __init__(self, site: Site) -> None:
        super().__init__(site.output)
        self._site = site
        self._done = False

    def progress(self, what: str, size: int, detail: str = "") -> None:
        """Act once."""
        super().progress(what, size, detail)
        if size and not self._done:
            self._done = True
            self._site.media_server.kill()


def test_a_killed_media_server_costs_the_job_that_ran(site: Site) -> None:
    """After the restart the cartridge's end is found, nothing before it has changed, and all jobs restore."""
    first = site.back_up()
    before = site.tape("T1")
    site.script.hangs = True
    with pytest.raises((InfrastructureError, JobError)):
        site.back_up(Killing(site))
    site.script.hangs = False
    assert site.tape("T1")[: len(before)] == before
    assert Status.FAILED in [job.status for job in jobs.list_all(site.catalogue)]
    assert leases.held(site.catalogue) == {}
    site.media_server.start_again()
    third = site.back_up()
    assert third.status is Status.COMPLETE
    assert third.media[0][0] == "T1", site.output.getvalue()
    assert site.tape("T1")[: len(before)] == before
    assert site.restored(first) == IMAGE
    assert site.restored(third) == IMAGE
    assert media.media(site.catalogue)["T1"].unfinished is None


def test_a_torn_record_is_cut_off_and_no_job_reads_it(site: Site) -> None:
    """A process killed within a write leaves half a record: it is no record after the restart."""
    first = site.back_up()
    site.media_server.kill()
    path = site.folder / "library" / "T1.tape"
    before = path.read_bytes()
    with path.open("ab") as tape:
        tape.write(before[-RECORD // 2 :])
    site.media_server.start_again()
    second = site.back_up()
    assert second.media == (("T1", 4),)
    assert site.tape("T1")[: len(before)] == before
    assert site.restored(first) == IMAGE
    assert site.restored(second) == IMAGE
    cartridge = Cartridge(path)
    places = [i for i in range(cartridge.count) if cartridge.record_length(i) == RECORD_BYTES]
    headers = [Header.parse(cartridge.read(i, RECORD_BYTES)).job for i in places[1:]]
    cartridge.close()
    assert headers == [str(first.id), str(second.id)]
