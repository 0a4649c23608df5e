"""Commands of the product that run while something else happens."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Sequence
from pathlib import Path

from harness.errors import LAST_WORDS_BYTES, CheckError, HarnessError
from harness.providers.base import Provider
from harness.topology import Node

# No command of a scenario moves more than some dozens of MiB: one that takes so long hangs.
HANG_SECONDS = 150.0


class Running:
    """A command on a node, from its start to its end."""

    def __init__(self, provider: Provider, node: Node, argv: Sequence[str], stem: Path) -> None:
        self.argv = list(argv)
        self.node = node
        self.code: int | None = None
        self.out, self.err = stem.with_suffix(".out"), stem.with_suffix(".err")
        self._provider = provider
        self._problem: HarnessError | None = None
        self._thread = threading.Thread(target=self._run, name=stem.name, daemon=True)
        provider.events.step(node.name, self.text, "start")
        self._thread.start()

    @property
    def text(self) -> str:
        """The command as people type it."""
        return shlex.join(self.argv)

    @property
    def runs(self) -> bool:
        """Whether it has not ended yet."""
        return self._thread.is_alive()

    def wait(self) -> int:
        """Return its exit code.  Raises CheckError when it hangs, and ends it."""
        self._thread.join()
        if self._problem is not None:
            raise CheckError(f"{self.node.name}: `{self.text}` did not end: {self._problem.message}")
        assert self.code is not None
        self._provider.events.step(self.node.name, self.text, "done", f"exit code {self.code}")
        return self.code

    def said(self) -> str:
        """Its last words, in one line."""
        text = self.err.read_bytes()[-LAST_WORDS_BYTES:].decode("utf-8", "backslashreplace")
        return " | ".join(line for line in text.replace("\r", "\n").splitlines() if line.strip())

    def _run(self) -> None:
        limit = HANG_SECONDS * self._provider.patience
        try:
            with self.out.open("wb") as out, self.err.open("wb") as err:
                self.code = self._provider.exec(
                    self.node, self.argv, stdin=None, stdout=out, stderr=err, timeout=limit
                )
        except HarnessError as problem:
            self._problem = problem
