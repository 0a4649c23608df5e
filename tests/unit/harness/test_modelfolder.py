"""Files of a library model, on the host or on a node: the same to whoever reads and writes them."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness_support import FakeProvider, fast_topology, new_lab

from harness.errors import InfrastructureError
from harness.modelfolder import ModelFolder


@pytest.fixture(params=["node", "host"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelFolder:
    """The folder of the lab's library, on its node or on the host."""
    provider = new_lab(FakeProvider, tmp_path, monkeypatch)
    there = Path(provider.paths(provider.topology.node("media1")).library)
    there.mkdir()
    if request.param == "host":
        monkeypatch.setattr(provider, "model_on_host", lambda _library: there)
        monkeypatch.setattr(provider, "exec", lambda *_words, **_more: pytest.fail("the node was asked"))
    return ModelFolder(provider, provider.topology.libraries[0])


def test_what_is_written_is_read_until_it_is_removed(folder: ModelFolder) -> None:
    """A file that is not there is empty, before and after; removing it twice is fine."""
    assert folder.read("faults.toml") == ""
    folder.write("faults.toml", "one")
    folder.write("faults.toml", "two")
    assert folder.read("faults.toml") == "two"
    folder.remove("faults.toml")
    folder.remove("faults.toml")
    assert folder.read("faults.toml") == ""


def test_a_folder_that_is_gone_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that cannot be written is an error of the infrastructure with the path."""
    provider = new_lab(FakeProvider, tmp_path, monkeypatch)
    monkeypatch.setattr(provider, "model_on_host", lambda _library: tmp_path / "gone")
    with pytest.raises(InfrastructureError, match=r"gone/faults\.toml: No such file"):
        ModelFolder(provider, fast_topology(tmp_path).libraries[0]).write("faults.toml", "x")
