"""What providers share whose nodes are reached by SSH."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from harness.providers.base import COMMAND_SECONDS, Provider
from harness.ssh import Ssh
from harness.terminal import interactive
from harness.topology import Node


class RemoteProvider(Provider):
    """Commands and files go over one SSH connection to each node.

    `_cancelled` is set when one of several nodes has failed, so that nobody waits for the others.
    """

    _cancelled: threading.Event

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

    def ssh_address(self, node: Node) -> tuple[str, int]:
        """Where SSH reaches a node, in the lab's network."""
        return node.ssh.address or node.address, node.ssh.port

    def shell(self, node: Node) -> tuple[list[str], dict[str, str]]:
        """Open one over SSH."""
        known = self.lab.secrets / "known-hosts" / node.name
        return self.host_argv(interactive(self.ssh[node.name], self.ssh_address(node), known)), {}

    def give_up(self) -> None:
        """End the waiting for machines, and every command that runs on one."""
        self._cancelled.set()
        for ssh in list(self.__dict__.get("ssh", {}).values()):
            ssh.close()

    def _in_parallel(self, work: Callable[[Node], None], nodes: Iterable[Node]) -> None:
        """Do something with every node at once; the first failure is raised and ends all waiting."""
        failures: list[Exception] = []

        def guarded(node: Node) -> None:
            try:
                work(node)
            except Exception as error:  # noqa: BLE001 - kept, and raised below
                failures.append(error)
                self._cancelled.set()

        self._cancelled.clear()
        with ThreadPoolExecutor(max_workers=max(1, len(self.topology.nodes))) as pool:
            list(pool.map(guarded, nodes))
        if failures:
            raise failures[0]
