"""A machine with a library attached to it, for the tests of `spanreel tape`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from appliance import cli
from appliance.commands import _tape_library
from tape.errors import DeviceHeldError
from tape.model import LibraryModel, LibrarySpec

SPEC = LibrarySpec(
    "LIB0001", ("DRV0001", "DRV0002"), ("AAA001L5", "AAA002L5", "BBB001L5", None), capacity_bytes=1 << 20
)
CONFIG = """
schema = 1
[node]
name = "media1"
address = "127.0.0.1"
state = "{folder}"
[media_server]
[[media_server.libraries]]
transport = "sg"
changer = "LIB0001"
drives = ["DRV0002"]
writable = ["AAA001L5"]
readable = ["AAA002L5"]
"""


class Machine:
    """The model as this machine's devices, and which of them another program has."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "media.toml"
        self.config.write_text(CONFIG.format(folder=folder))
        self.model = LibraryModel(folder / "library", SPEC)
        self.in_use: set[str] = set()
        self.held: list[str] = []

    def hold(self, serial: str) -> AbstractContextManager[object]:
        """What `tape.hold` does."""
        if serial in self.in_use:
            raise DeviceHeldError(f"{serial} is in use", device="/dev/sg1")
        return self._holding(serial)

    @contextmanager
    def _holding(self, serial: str) -> Iterator[None]:
        assert serial not in self.held, "a second lock on one node would wait for the first"
        self.held.append(serial)
        try:
            yield
        finally:
            self.held.remove(serial)

    def run(self, *arguments: str) -> int:
        """Run `spanreel tape ...`."""
        config = [] if arguments[0] in ("status", "inventory") else ["--config", str(self.config)]
        return cli.run(["tape", *arguments, "--changer", "LIB0001", *config])


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """A machine whose configuration lists the second drive and two of three cartridges."""
    made = Machine(tmp_path)
    monkeypatch.setattr(_tape_library, "_attached", made.model.transport)
    monkeypatch.setattr(_tape_library, "_held", made.hold)
    yield made
    made.model.close()
