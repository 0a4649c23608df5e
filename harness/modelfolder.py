"""The folder of a library of our own model: its fault script, and what it writes down (docs/tape-model.md).

The process that models the library reads it: a media server of the process lab, or the host's `tape serve`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from harness.errors import InfrastructureError
from harness.providers.base import Provider
from harness.topology import Library


class ModelFolder:
    """Files of one library, whose transport is one of OWN_MODELS."""

    def __init__(self, provider: Provider, library: Library) -> None:
        self._provider = provider
        self._node = provider.topology.node(library.node)
        self._here = provider.model_on_host(library)
        self._there = provider.paths(self._node).library

    def read(self, name: str) -> str:
        """Return a file's text; one that is not there is empty."""
        if self._here is None:
            return self._provider.run(self._node, ["cat", f"{self._there}/{name}"], check=False).text
        try:
            return (self._here / name).read_text(encoding="utf-8", errors="backslashreplace")
        except FileNotFoundError:
            return ""

    def write(self, name: str, text: str) -> None:
        """Replace a file at once: whoever reads it sees the old or the new one."""
        if self._here is not None:
            try:
                part = self._here / f"{name}.part"
                part.write_text(text, encoding="utf-8")
                part.replace(self._here / name)
            except OSError as error:
                raise InfrastructureError(f"cannot write {self._here / name}: {error.strerror}") from error
            return
        with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            self._provider.put(self._node, Path(file.name), f"{self._there}/{name}")

    def remove(self, name: str) -> None:
        """Take a file away; one that is not there is fine."""
        if self._here is None:
            self._provider.run(self._node, ["rm", "-f", f"{self._there}/{name}"])
        else:
            (self._here / name).unlink(missing_ok=True)
