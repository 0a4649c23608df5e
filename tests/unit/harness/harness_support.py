"""A lab without a product: folders for nodes, and a `spanreel` made of cp, tar and good faith.

It keeps the promises of the real one on a small scale, so that the main job can be run for real, and
breaks one of them when told to, so that each proof is seen to fail.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, TypeVar

import pytest

from harness import lab as labs
from harness import topology as topologies
from harness.events import Events
from harness.nodeconfig import local_root
from harness.providers.base import NodeFile, NodePaths, Provider
from harness.topology import Node, Topology

FAST = """\
schema: 1
name: fake
provider: process
subnet: 127.77.0.0/24
seed: {number: 3, size_mib: 1, small_files: 20}
nodes:
  - {name: fs1, roles: [file-server], address: 127.77.0.11}
  - {name: fs2, roles: [file-server], address: 127.77.0.12}
  - {name: conn1, roles: [connection-server], address: 127.77.0.21}
  - {name: media1, roles: [media-server], address: 127.77.0.31}
  - {name: backup1, roles: [backup-server, client], address: 127.77.0.41}
gns:
  - {path: /home, owner: fs2, dir: home}
  - {path: /projects, owner: fs1, dir: projects}
  - {path: /projects/media, owner: fs2, dir: media}
  - {path: /restored, owner: fs1, dir: restored}
libraries:
  - {node: media1, transport: model, changer: C1, drives: [D1], slots: [A00001, A00002], writable: [A00001]}
"""


def fast_topology(folder: Path) -> Topology:
    """Write and read a small topology."""
    path = folder / "fake.yaml"
    path.write_text(FAST)
    return topologies.read(path)


class FakeProvider(Provider):
    """Nodes are folders; `spanreel` is `FakeProduct`."""

    def __init__(self, topology: Topology, lab: labs.LabState, events: Events) -> None:
        super().__init__(topology, lab, events)
        self.product = FakeProduct(self)

    def check(self) -> None: ...
    def up(self) -> None:
        for junction in self.topology.gns:
            Path(local_root(self, junction.path)).mkdir(parents=True, exist_ok=True)
        (self.lab.folder / "relay" / "fs1").mkdir(parents=True)
        (self.lab.folder / "relay" / "fs1" / "0001.client").write_bytes(b"ndmp")

    def install(self, node: Node, files: Sequence[NodeFile]) -> None: ...
    def start(self, node: Node) -> None: ...
    def stop(self, node: Node) -> None: ...
    def down(self) -> None: ...

    def alive(self) -> Mapping[str, bool]:
        return {node.name: True for node in self.topology.nodes}

    def exec(
        self,
        node: Node,
        argv: Sequence[str],
        *,
        stdin: BinaryIO | None,
        stdout: BinaryIO,
        stderr: BinaryIO,
        timeout: float = 60,
    ) -> int:
        for link in self.lab.folder.glob("nodes/*/data-*/*/nasty/fifo-link"):
            link.unlink()  # GNU tar, the fake product, does not know links of FIFOs; the real one must.
        if argv[0] == "spanreel":
            return self.product.main(list(argv[1:]), stdout, stderr)
        # The scripts of `harness.guest` run for real, and find a dump of the fake cartridge.
        words = [sys.executable if word == "python3" else word for word in argv]
        environment = os.environ | {"PYTHONPATH": str(self.lab.folder / "fakes")}
        folder = self.lab.node_folder(node.name)
        return subprocess.call(
            words, stdin=stdin, stdout=stdout, stderr=stderr, env=environment, cwd=folder, timeout=timeout
        )

    def put(self, node: Node, source: Path, target: str, *, mode: int = 0o644) -> None:
        shutil.copyfile(source, target)

    def get(self, node: Node, source: str, target: Path) -> None:
        shutil.copyfile(source, target)

    def paths(self, node: Node) -> NodePaths:
        folder = self.lab.node_folder(node.name)
        names = ("config", "accounts", "password", "tls", "state")
        plain = {name: str(folder / name) for name in names}
        for name in ("state", "scratch"):
            (folder / name).mkdir(exist_ok=True)
        data = str(folder / f"data-{self.lab.token}")
        return NodePaths(
            **plain, data=data, exports="", library=str(folder / "library"), scratch=str(folder / "scratch")
        )

    def consoles(self) -> Mapping[str, Path]:
        return {node.name: self.lab.node_folder(node.name) / "console.log" for node in self.topology.nodes}

    @property
    def netns(self) -> str | None:
        return None

    @property
    def bridge(self) -> str | None:
        return None


class FakeProduct:
    """Backs up with GNU tar to a file, restores with cp; `faults` names promises to break."""

    def __init__(self, provider: FakeProvider) -> None:
        self.provider = provider
        self.faults: set[str] = set()
        self.jobs: list[dict[str, object]] = []

    @property
    def image(self) -> Path:
        return self.provider.lab.folder / "image.tar"

    @property
    def kept(self) -> Path:
        return self.provider.lab.folder / "kept"

    def main(self, words: list[str], stdout: BinaryIO, stderr: BinaryIO) -> int:
        """Run one command."""
        commands = {"backup": self.backup, "restore": self.restore, "jobs": self.list_jobs}
        if words[0] not in commands:
            stderr.write(b"the fake product has no such command\n")
            return 2
        code = commands[words[0]](words[1:], stdout, stderr)
        stdout.flush()
        return code

    def backup(self, words: list[str], stdout: BinaryIO, stderr: BinaryIO) -> int:
        if "backup refuses" in self.faults:
            stderr.write(b"fs1: no tape in the drive\n")
            return 1
        self._mirror()
        options = [
            "--xattrs",
            "--xattrs-include=*",
            "--acls",
            "--sparse",
            "--hole-detection=seek",
            "--format=posix",
        ]
        subprocess.run(["tar", "-cf", self.image, "-C", self.kept, *options, "."], check=True)
        if "tape differs" in self.faults:
            data = bytearray(self.image.read_bytes())
            data[data.rindex(b"user.binary") + 12] ^= 1
            self.image.write_bytes(data)
        leak = self.provider.lab.token if "catalogue leaks" in self.faults else "nothing"
        state = Path(self.provider.paths(self.provider.topology.node("backup1")).state)
        (state / "catalogue.sqlite").write_text(f"catalogue {leak}")
        self._dumper()
        status = "problems" if "problems" in self.faults else "complete"
        media = [{"barcode": "A00001", "file": 1}]
        self.jobs.append(
            {
                "id": str(len(self.jobs) + 1),
                "status": status,
                "paths": ["/"],
                "files": 1,
                "problems": 0,
                "media": media,
            }
            | {"bytes": self.image.stat().st_size}
        )
        return 0

    def restore(self, words: list[str], stdout: BinaryIO, stderr: BinaryIO) -> int:
        path = words[1]
        target = words[words.index("--to") + 1] if "--to" in words else ""
        if target and path != "/":
            self._copy(self.kept / path[1:], self._local(f"{target}/{Path(path).name}"))
        else:
            for top in ("home", "projects"):
                self._spread(f"/{top}", f"{target}/{top}")
        if "restore changes" in self.faults:
            subprocess.run(
                ["find", self._local(target or "/home"), "-name", "f000000", "-exec", "touch", "{}", ";"],
                check=True,
            )
        return 0

    def list_jobs(self, words: list[str], stdout: BinaryIO, stderr: BinaryIO) -> int:
        stdout.write(json.dumps(self.jobs).encode())
        return 0

    def _mirror(self) -> None:
        """Bring all parts together in one tree, as a backup would see it."""
        shutil.rmtree(self.kept, ignore_errors=True)
        self.kept.mkdir()
        for path in ("/home", "/projects", "/projects/media"):
            self._copy(Path(local_root(self.provider, path)), self.kept / path[1:])
        self._copy_times(Path(local_root(self.provider, "/projects")), self.kept / "projects")

    def _spread(self, source: str, target: str) -> None:
        """Bring one tree back to the owners of its target."""
        self._copy(self.kept / source[1:], self._local(target))
        if source == "/projects" and target == "/projects":
            media = self._local("/projects") / "media"
            self._copy(media, self._local("/projects/media"))
            shutil.rmtree(media)
            self._copy_times(self.kept / "projects", self._local("/projects"))

    def _local(self, path: str) -> Path:
        """The local path of a global one."""
        for junction in sorted(self.provider.topology.gns, key=lambda item: -len(item.path)):
            if path == junction.path or path.startswith(junction.path + "/"):
                return Path(local_root(self.provider, junction.path) + path.removeprefix(junction.path))
        raise LookupError(path)

    def _copy(self, source: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", "--sparse=auto", "-T", source, target], check=True)

    def _copy_times(self, source: Path, target: Path) -> None:
        subprocess.run(["touch", "-r", source, target], check=True)

    def _dumper(self) -> None:
        """Make `python -m tape.model` print the image."""
        package = self.provider.lab.folder / "fakes" / "tape" / "model"
        package.mkdir(parents=True, exist_ok=True)
        (package.parent / "__init__.py").write_text("")
        (package / "__init__.py").write_text("")
        program = (
            f"import shutil, sys\nshutil.copyfileobj(open({str(self.image)!r}, 'rb'), sys.stdout.buffer)\n"
        )
        (package / "__main__.py").write_text(program)


Kind = TypeVar("Kind", bound=FakeProvider)


def new_lab(kind: type[Kind], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Kind:
    """Return a lab of a kind of fake, with its state below a folder."""
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
    topology = fast_topology(folder)
    return kind(topology, labs.create("unit", topology), Events())
