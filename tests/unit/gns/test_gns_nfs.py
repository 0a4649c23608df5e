"""The projection as a whole, with an exportfs and a systemctl that write down how they are called."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.config import NodeConfig, parse
from appliance.config_examples import example
from appliance.errors import ConfigurationError, InfrastructureError
from appliance.gns import nfs
from appliance.gns.map import GnsMap


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put tools that write down their calls on PATH; return the file they write."""
    calls = tmp_path / "calls"
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("exportfs", "systemctl"):
        tool = folder / name
        tool.write_text(
            f'#!/bin/sh\necho {name} "$@" >> {calls}\n'
            f"[ ! -e {tmp_path}/fail ] || {{ echo broken >&2; exit 1; }}\n"
        )
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return calls


@pytest.fixture
def stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand for a kernel whose NFS server is stopped; return its file of threads."""
    threads = tmp_path / "threads"
    threads.write_text("0\n")
    monkeypatch.setattr(nfs, "_THREADS_FILE", threads)
    return threads


@pytest.fixture(autouse=True)
def narrow_umask() -> Iterator[None]:
    """Run as the unit does, which makes files for nobody else."""
    before = os.umask(0o077)
    yield
    os.umask(before)


def _config(tmp_path: Path) -> NodeConfig:
    return parse(example(["file-server"]).replace("/srv/gns", str(tmp_path / "gns")), Path("node.toml"))


def test_exports_are_written_and_the_kernel_is_told(tmp_path: Path, tools: Path, stopped: Path) -> None:
    """For an empty map only the root is exported; nfsd is started, rereads, and forgets its cache."""
    exports = tmp_path / "exports.d" / "spanreel.exports"
    projection = nfs.Projection(_config(tmp_path), exports)
    projection.apply(GnsMap())
    assert f"{tmp_path}/gns 10.77.0.0/24(ro,fsid=0" in exports.read_text()
    assert tools.read_text().splitlines() == ["systemctl start nfs-server", "exportfs -ra", "exportfs -f"]
    for path, mode in ((tmp_path / "gns", 0o755), (exports.parent, 0o755), (exports, 0o644)):
        assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_running_server_is_not_started(tmp_path: Path, tools: Path, stopped: Path) -> None:
    """With threads there, systemd is left alone."""
    stopped.write_text("4\n")
    nfs.Projection(_config(tmp_path), tmp_path / "exports").apply(GnsMap())
    assert tools.read_text().splitlines() == ["exportfs -ra", "exportfs -f"]


def test_a_tool_that_fails_is_quoted(tmp_path: Path, tools: Path, stopped: Path) -> None:
    """The error has the command line and what it said."""
    (tmp_path / "fail").touch()
    with pytest.raises(InfrastructureError, match="`systemctl start nfs-server` failed: broken"):
        nfs.Projection(_config(tmp_path), tmp_path / "exports").apply(GnsMap())


def test_without_nfs_utils_the_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped: Path
) -> None:
    """A node without exportfs says what to install."""
    stopped.write_text("4\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InfrastructureError, match="`exportfs -ra` is not there; install nfs-kernel-server"):
        nfs.Projection(_config(tmp_path), tmp_path / "exports").apply(GnsMap())


def test_without_an_export_root_there_is_no_projection() -> None:
    """A file server that does not do NFS cannot be asked to."""
    text = (
        example(["file-server"]).replace("nfs = true", "nfs = false").replace('export_root = "/srv/gns"', "")
    )
    with pytest.raises(ConfigurationError, match="export_root"):
        nfs.Projection(parse(text, Path("node.toml")))
