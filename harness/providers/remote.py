"""What providers share whose nodes are reached by SSH."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from harness.providers.base import COMMAND_SECONDS, Provider
from harness.ssh import Ssh
from harness.topology import Node


class RemoteProvider(Provider):
    """Commands and files go over one SSH connection to each node."""

    @property
    @abstractmethod
    def ssh(self) -> Mapping[str, Ssh]:
        """The connection to each node, by its name."""

    def exec(
        self,
        node: Node,
        argv: Sequence[str],
        *,
        stdin: BinaryIO | None,
        stdout: BinaryIO,
        stderr: BinaryIO,
        timeout: float = COMMAND_SECONDS,
    ) -> int:
        """Run a command over SSH."""
        return self.ssh[node.name].exec(argv, stdin=stdin, stdout=stdout, stderr=stderr, timeout=timeout)

    def put(self, node: Node, source: Path, target: str, *, mode: int = 0o644) -> None:
        """Copy a file to a node."""
        with source.open("rb") as stream:
            self.ssh[node.name].put(stream, target, mode)

    def get(self, node: Node, source: str, target: Path) -> None:
        """Copy a file of a node."""
        with target.open("wb") as stream:
            self.ssh[node.name].get(source, stream)
