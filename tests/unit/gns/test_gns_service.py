"""The map as the roles of a node see it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from appliance.config import NodeConfig, parse
from appliance.config_examples import example
from appliance.errors import ConfigurationError, InfrastructureError
from appliance.gns.change import add_change, remove_change
from appliance.gns.codec import encode_map
from appliance.gns.map import GnsMap, MapError
from appliance.gns.service import MapService

ONE = GnsMap().add(b"/a", "fs1", b"/data/a", "a" * 32)
TWO = ONE.add(b"/b", "fs2", b"/data/b", "b" * 32)


def _config(state: Path, writer: str) -> NodeConfig:
    text = example(["file-server"]).replace('gns_writer = "fs1"', f'gns_writer = "{writer}"')
    return parse(text.replace("/var/lib/spanreel", str(state)), Path("node.toml"))


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[MapService]:
    """Return the service of the node that may change the map."""
    with closing(MapService(_config(tmp_path / "writer", "fs1"))) as service:
        yield service


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[MapService]:
    """Return the service of a node that pulls the map."""
    with closing(MapService(_config(tmp_path / "reader", "fs2"))) as service:
        yield service


def test_a_change_is_stored_and_told(writer: MapService, tmp_path: Path) -> None:
    """Subscribers get the present map at once and each later one; a restart finds the last."""
    seen: list[int] = []
    writer.subscribe(lambda gns_map: seen.append(gns_map.generation))
    changed = writer.change(add_change(b"/a", "fs1", b"/data/a"))
    assert writer.current() == changed
    writer.change(add_change(b"/a", "fs1", b"/data/a"))
    writer.change(remove_change(b"/a"))
    assert seen == [0, 1, 2]
    writer.close()
    with closing(MapService(_config(tmp_path / "writer", "fs1"))) as restarted:
        assert restarted.current().generation == 2


@pytest.mark.parametrize("owner", ["fs9", "conn1"])
def test_an_owner_must_be_a_file_server_of_the_cluster(writer: MapService, owner: str) -> None:
    """A junction of a node that nobody can ask for its files is refused, with the names that are allowed."""
    with pytest.raises(MapError, match=f"'{owner}' is no file server of this cluster; there are: fs1"):
        writer.change(add_change(b"/a", owner, b"/data/a"))
    assert writer.current() == GnsMap()


def test_a_job_keeps_the_generation_it_pinned(writer: MapService) -> None:
    """A map once taken does not change under its holder."""
    pinned = writer.current()
    writer.change(add_change(b"/a", "fs1", b"/data/a"))
    assert pinned == GnsMap()
    assert writer.current() != pinned


def test_a_reader_follows_the_writer(reader: MapService, tmp_path: Path) -> None:
    """It says what it has, takes what is newer, and keeps it over a restart without the writer."""
    asked: list[int] = []
    answers = [encode_map(TWO), None]

    def pull(generation: int) -> bytes | None:
        asked.append(generation)
        return answers.pop(0)

    seen: list[int] = []
    reader.pull = pull
    reader.subscribe(lambda gns_map: seen.append(gns_map.generation))
    assert (reader.refresh(), reader.refresh()) == (True, False)
    assert (asked, seen, reader.current()) == ([0, 2], [0, 2], TWO)
    reader.close()
    with closing(MapService(_config(tmp_path / "reader", "fs2"))) as restarted:
        assert restarted.current() == TWO


def test_a_reader_keeps_its_copy_when_pulling_fails(reader: MapService) -> None:
    """An absent writer, a damaged map, and one that went back in time change nothing."""

    def absent(generation: int) -> bytes | None:
        raise InfrastructureError("fs1 does not answer")

    reader.pull = lambda generation: encode_map(TWO)
    reader.refresh()
    reader.pull = absent
    with pytest.raises(InfrastructureError, match="does not answer"):
        reader.refresh()
    reader.pull = lambda generation: encode_map(TWO).replace(b"fs2", b"fs3")
    with pytest.raises(MapError, match="checksum"):
        reader.refresh()
    reader.pull = lambda generation: encode_map(ONE)
    with pytest.raises(MapError, match="generation 1, this node's has 2"):
        reader.refresh()
    assert reader.current() == TWO


def test_only_the_writer_changes_the_map(reader: MapService, writer: MapService) -> None:
    """A reader refuses and names the writer; the writer has nobody to pull from."""
    with pytest.raises(ConfigurationError, match="changed on fs2 only"):
        reader.change(add_change(b"/a", "fs1", b"/data/a"))
    assert writer.refresh() is False


def test_a_subscriber_that_fails_stops_neither_map_nor_others(writer: MapService) -> None:
    """When exports cannot be made, the change stands and the next subscriber hears of it."""

    def broken(gns_map: GnsMap) -> None:
        raise InfrastructureError("exportfs failed")

    seen: list[int] = []
    writer.subscribe(broken)
    writer.subscribe(lambda gns_map: seen.append(gns_map.generation))
    writer.change(add_change(b"/a", "fs1", b"/data/a"))
    assert (seen, writer.current().generation) == ([0, 1], 1)


def test_a_change_that_cannot_be_stored_did_not_happen(
    writer: MapService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody sees a map that a crash would take back."""

    def full(gns_map: GnsMap) -> None:
        raise InfrastructureError("no space")

    monkeypatch.setattr(writer._store, "save", full)
    with pytest.raises(InfrastructureError, match="no space"):
        writer.change(add_change(b"/a", "fs1", b"/data/a"))
    assert writer.current() == GnsMap()
