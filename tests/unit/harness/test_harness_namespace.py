"""The lab's name space as it is, against the topology's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from harness_support import FakeProvider, fast_topology

from harness import lab as labs
from harness import namespace, nodeconfig
from harness.errors import CheckError, UsageError
from harness.events import Events
from harness.info import describe
from harness.providers.base import Result
from harness.topology import Node


class Writer(FakeProvider):
    """A lab whose writer answers `gns ls` with `answer`."""

    answer: bytes = b""

    def run(
        self, node: Node, argv: Sequence[str], *, stdin: bytes = b"", check: bool = True, timeout: float = 60
    ) -> Result:
        assert list(argv) == ["spanreel", "gns", "ls", "--json", "--local"]
        return Result(0, self.answer, b"")


@pytest.fixture
def provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Writer:
    """A lab whose map is its topology's."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    topology = fast_topology(tmp_path)
    made = Writer(topology, labs.create("unit", topology), Events())
    made.answer = json.dumps({"generation": 1, "junctions": nodeconfig.gns_map(made)[::-1]}).encode()
    return made


def moved(provider: Writer) -> str:
    """Let the map say that a part was moved; return its path."""
    junctions = nodeconfig.gns_map(provider)
    junctions[0]["owner"] = "elsewhere"
    provider.answer = json.dumps({"generation": 2, "junctions": junctions}).encode()
    return junctions[0]["path"]


def test_the_main_job_takes_a_map_as_in_the_topology(provider: Writer) -> None:
    """Order does not matter."""
    namespace.require_as_in_topology(provider)


def test_the_main_job_refuses_a_changed_map(provider: Writer) -> None:
    """A moved part is named, with the way to begin anew."""
    path = moved(provider)
    with pytest.raises(UsageError, match=path) as refused:
        namespace.require_as_in_topology(provider)
    assert "lab clean --lab unit" in refused.value.hint


def test_info_tells_the_map_as_it_is(provider: Writer) -> None:
    """A foreign client is pointed at today's owner."""
    path = moved(provider)
    described = describe(provider, namespace.present(provider))
    assert {part["global_path"]: part["owner"] for part in described["gns"]}[path] == "elsewhere"


def test_a_writer_that_prints_no_map_is_the_products_fault(provider: Writer) -> None:
    """Rubbish is no map, and no crash."""
    provider.answer = b"{}"
    with pytest.raises(CheckError, match="no map"):
        namespace.present(provider)
