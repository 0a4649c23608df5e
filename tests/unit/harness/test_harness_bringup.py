"""From nothing to a lab that is ready, a second time too."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from harness_support import FakeProvider, new_lab

from harness import bringup
from harness.errors import CommandError
from harness.providers.base import Result
from harness.topology import Node


class Refusing(FakeProvider):
    """A lab whose writer refuses the topology's junctions; its map holds `junctions`."""

    junctions: Sequence[str] = ()

    def run(
        self, node: Node, argv: Sequence[str], *, stdin: bytes = b"", check: bool = True, timeout: float = 60
    ) -> Result:
        if list(argv[1:3]) == ["gns", "add"]:
            raise CommandError(node.name, argv, 2, b"spanreel: /home is a junction already, of fs1")
        map_ = {"generation": 7, "junctions": [{"path": path} for path in self.junctions]}
        return Result(0, json.dumps(map_).encode(), b"")


@pytest.fixture
def provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Refusing:
    """A lab after its first `up`."""
    return new_lab(Refusing, tmp_path, monkeypatch)


def test_a_changed_name_space_survives_down_and_up(provider: Refusing) -> None:
    """After `gns move` the lab comes up again, with the map as it was left, and says so."""
    said: list[str] = []
    provider.events.subscribe(lambda event: said.append(event.detail))
    provider.junctions = ["/home"]
    bringup.add_junctions(provider)
    assert any("left as it is: generation 7" in line for line in said)


def test_a_map_that_cannot_be_made_is_an_error(provider: Refusing) -> None:
    """What the writer refuses of a fresh lab's map is told in its words."""
    with pytest.raises(CommandError, match="/home is a junction already"):
        bringup.add_junctions(provider)
