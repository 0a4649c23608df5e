"""The map's file."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.errors import InfrastructureError
from appliance.gns import codec
from appliance.gns import store as store_module
from appliance.gns.map import GnsMap
from appliance.gns.store import MapDamagedError, MapStore
from appliance.schema import DocumentSchema, NewerSchemaError

ONE = GnsMap().add(b"/a\xff", "fs1", b"/data/a", "a" * 32)
TWO = ONE.add(b"/b", "fs2", b"/data/b", "b" * 32)


def test_a_new_node_has_an_empty_map(tmp_path: Path) -> None:
    """Before anything is saved, the map is empty and of generation 0."""
    with MapStore(tmp_path / "new" / "state") as store:
        assert store.load() == store.load_last_good() == GnsMap()


def test_what_is_saved_is_there_after_a_restart(tmp_path: Path) -> None:
    """A map survives the process, and only its owner can read the local paths in it."""
    with MapStore(tmp_path) as store:
        store.save(TWO)
        assert stat.S_IMODE(store.file.stat().st_mode) == 0o600
    with MapStore(tmp_path) as store:
        assert store.load() == TWO


def test_two_processes_never_share_a_store(tmp_path: Path) -> None:
    """The second is refused while the first runs, and let in afterwards."""
    with MapStore(tmp_path), pytest.raises(InfrastructureError, match="in use by another process"):
        MapStore(tmp_path)
    MapStore(tmp_path).close()


def test_a_damaged_map_is_named_with_the_copy_before_it(tmp_path: Path) -> None:
    """The writer stops rather than go back silently; a reader goes on with the copy before."""
    with MapStore(tmp_path) as store:
        store.save(ONE)
        store.save(TWO)
        store.file.write_bytes(store.file.read_bytes().replace(b"fs2", b"fs3"))
        with pytest.raises(
            MapDamagedError, match=rf"{store.file}: .*checksum.*generation 1, is {store.previous_file}"
        ):
            store.load()
        assert store.load_last_good() == ONE


def test_saving_over_a_damaged_map_keeps_the_good_copy(tmp_path: Path) -> None:
    """Damage is never kept as the copy to go back to."""
    with MapStore(tmp_path) as store:
        store.save(ONE)
        store.save(TWO)
        store.file.write_bytes(b"damage")
        store.save(TWO)
        store.file.write_bytes(b"damage")
        assert store.load_last_good() == ONE
        store.previous_file.unlink()
        with pytest.raises(MapDamagedError, match="there is no good copy"):
            store.load()


def as_newer(store: MapStore) -> bytes:
    """Make the store's map one of a newer Spanreel; return it."""
    content = store.file.read_bytes().replace(b'"schema": 1', b'"schema": 9')
    store.file.write_bytes(content)
    return content


@pytest.mark.parametrize("load", [MapStore.load, MapStore.load_last_good])
def test_a_newer_map_is_refused(tmp_path: Path, load: Callable[[MapStore], GnsMap]) -> None:
    """No role of an older Spanreel starts on it, goes back to the copy before, or writes over it."""
    with MapStore(tmp_path) as store:
        store.save(ONE)
        store.save(TWO)
        content = as_newer(store)
        wanted = rf"{store.file}: a newer Spanreel wrote this map: it has schema 9.*up to 1.*move .* away"
        with pytest.raises(NewerSchemaError, match=wanted):
            load(store)
        with pytest.raises(NewerSchemaError):
            store.save(ONE)
        assert store.file.read_bytes() == content


def test_an_older_map_is_kept_when_it_is_first_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read as it is; the first change writes the new form, and the file as it was stays beside it."""
    with MapStore(tmp_path) as store:
        store.save(ONE)
        before = store.file.read_bytes()
        renamed = DocumentSchema("map", 2, {2: lambda old: old | {"generation": old["generation"] + 10}})
        monkeypatch.setattr(store_module, "MAP", renamed)
        monkeypatch.setattr(codec, "MAP", renamed)
        assert store.load().generation == ONE.generation + 10
        assert store.file.read_bytes() == before
        store.save(TWO)
        copy = tmp_path / "gns" / "map.json.schema1"
        assert copy.read_bytes() == before
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600
        assert b'"schema": 2' in store.file.read_bytes()


def test_a_full_disk_keeps_the_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the new map cannot be written, the old one stays."""
    with MapStore(tmp_path) as store:
        store.save(ONE)

        def no_space(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", no_space)
        with pytest.raises(InfrastructureError, match="No space left"):
            store.save(TWO)
        assert store.load() == ONE


def test_a_state_directory_that_cannot_be_is_named(tmp_path: Path) -> None:
    """A file in the place of the directory is one clear error."""
    (tmp_path / "gns").write_text("")
    with pytest.raises(InfrastructureError, match=f"cannot keep the map in {tmp_path}/gns"):
        MapStore(tmp_path)
