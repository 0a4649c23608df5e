"""What is kept of a run besides its checks: journals, and of a failure everything that explains it.

evidence/SCENARIO/ in the run's folder, the same tree every time; what this lab does not have is not there:

    repro.txt            one command that repeats it
    journals/NODE.log    what the node wrote since the scenario began
    ndmp/NODE.N.SIDE     the NDMP messages of the backup server's sessions since then, byte by byte
    sessions/NODE.json   the node's sessions now, as far as it answers
    gns.json             the name space as the writer has it
    jobs.json            the backup server's jobs
    library/NODE/        where every cartridge is, and faults that were scripted
    packets.pcap         NDMP control traffic, and who connected to whom, where the lab has a bridge
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from harness.checks.journal import complaints, judge
from harness.checks.result import CheckResult
from harness.errors import HarnessError
from harness.job.record import Run
from harness.modelfolder import ModelFolder
from harness.providers.base import Provider
from harness.topology import BACKUP_SERVER, FILE_SERVER, OWN_MODELS, Node

# Recordings of the relays: the newest are those of the failure.
_RECORDINGS_MAX = 12


def keep_journals(provider: Provider, folder: Path) -> None:
    """Write each node's journal to `folder`/NODE.log; a node that cannot be asked leaves the reason there.

    Nodes that are processes have no journal: their logs are in the lab's folder already.
    """
    for node in provider.topology.nodes:
        command = provider.journal_command(node)
        if command is None:
            continue
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / f"{node.name}.log"
        try:
            target.write_bytes(provider.run(node, command, check=False).stdout)
        except HarnessError as error:
            target.write_text(f"not kept: {error}\n", encoding="utf-8")


class Journals:
    """What nodes write from now on."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._since = int(time.time())
        self._begin = {name: _size(path) for name, path in provider.consoles().items()}
        self.recordings = set(_recordings(provider))

    def text(self, node: str) -> str:
        """Return what one node wrote since then: on its console, and in its journal if it has one."""
        text = ""
        path = self._provider.consoles().get(node)
        if path is not None and path.exists():
            with path.open("rb") as file:
                file.seek(self._begin.get(node, 0))
                text = file.read().decode("utf-8", "backslashreplace")
        machine = self._provider.topology.node(node)
        command = self._provider.journal_command(machine)
        if command is not None:
            since = [*command, f"--since=@{self._since}"]
            text += self._provider.run(machine, since, check=False).text
        return text

    def checks(self) -> list[CheckResult]:
        """Judge what was written: a traceback or an oops is a failure of its own."""
        found = {node.name: complaints(self.text(node.name)) for node in self._provider.topology.nodes}
        return judge(found)


def collect(run: Run, name: str, number: int, journals: Journals, packets: Path | None = None) -> str:
    """Keep everything that explains a failure; return the folder, relative to the run's.

    What cannot be had leaves its reason in its place: a lab that has just failed may be half dead.
    """
    provider = run.provider
    folder = run.folder / "evidence" / (name or "main-job")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "repro.txt").write_text(repro(run, name, number), encoding="utf-8")
    for node in provider.topology.nodes:
        _keep(folder / "journals" / f"{node.name}.log", lambda node=node: journals.text(node.name))  # type: ignore[misc]
    for path in sorted(set(_recordings(provider)) - journals.recordings)[-_RECORDINGS_MAX:]:
        _keep_bytes(folder / "ndmp" / f"{path.parent.name}.{path.name}", path.read_bytes)
    for node in provider.serving():
        words = ["spanreel", "session", "list", "--json"]
        _keep(folder / "sessions" / f"{node.name}.json", _asking(provider, node, words))
    writer = provider.topology.only(FILE_SERVER)
    _keep(folder / "gns.json", _asking(provider, writer, ["spanreel", "gns", "ls", "--json"]))
    backup = provider.topology.only(BACKUP_SERVER)
    _keep(folder / "jobs.json", _asking(provider, backup, ["spanreel", "jobs", "--json"]))
    _library(provider, folder / "library")
    if packets is not None:
        # Its writer goes on in the file that was moved, for the moment that it still lives.
        packets.replace(folder / packets.name)
    return str(folder.relative_to(run.folder))


def repro(run: Run, name: str, number: int) -> str:
    """Return how to repeat a run: commit and command."""
    from harness.report.data import commit  # here: the report knows the record, which keeps evidence

    topology = run.provider.topology
    words = ["spanreel", "lab", "run", "--topology", topology.name, "--seed", str(number)]
    names = [name] if name else list(dict.fromkeys(item.scenario for item in run.checks if item.scenario))
    words += [word for each in names for word in ("--scenario", each)]
    return f"# commit {commit()}\n{shlex.join(words)}\n"


def _library(provider: Provider, folder: Path) -> None:
    """Element maps and fault scripts of model libraries."""
    for library in provider.topology.libraries:
        if library.transport in OWN_MODELS:
            kept = ModelFolder(provider, library)
            for name in ("elements.json", "library.json", "faults.toml", "faults.log"):
                _keep(folder / library.node / name, partial(kept.read, name))


def _asking(provider: Provider, node: Node, words: list[str]) -> Callable[[], str]:
    return lambda: provider.run(node, words, timeout=60).text


def _keep(target: Path, text: Callable[[], str]) -> None:
    _keep_bytes(target, lambda: text().encode("utf-8", "backslashreplace"))


def _keep_bytes(target: Path, content: Callable[[], bytes]) -> None:
    """Write a file of evidence, or why it is not there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.write_bytes(content())
    except (HarnessError, OSError) as error:
        target.write_text(f"not kept: {error}\n", encoding="utf-8")


def _recordings(provider: Provider) -> list[Path]:
    """What the relays of this lab recorded so far."""
    return [path for path in (provider.lab.folder / "relay").glob("*/*") if path.is_file()]


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
