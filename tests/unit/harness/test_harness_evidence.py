"""What is kept of a run besides its checks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from harness_support import FakeProvider, fast_topology

from harness import lab as labs
from harness.errors import InfrastructureError
from harness.events import Events
from harness.evidence import keep_journals
from harness.providers.base import Result
from harness.topology import Node


class Machines(FakeProvider):
    """Machines with a journal each; one of them cannot be asked."""

    netns = "spanreel-unit"

    def run(
        self, node: Node, argv: Sequence[str], *, stdin: bytes = b"", check: bool = True, timeout: float = 60
    ) -> Result:
        if node.name == "fs2":
            raise InfrastructureError("fs2: no answer")
        return Result(0, f"{node.name} said something".encode(), b"")


def test_journals_are_kept_and_a_silent_node_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each node's journal is a file; what could not be had leaves its reason in the place of it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    topology = fast_topology(tmp_path)
    keep_journals(Machines(topology, labs.create("unit", topology), Events()), tmp_path / "journals")
    assert (tmp_path / "journals/fs1.log").read_text() == "fs1 said something"
    assert "no answer" in (tmp_path / "journals/fs2.log").read_text()
