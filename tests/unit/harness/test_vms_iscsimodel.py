"""The library model as the lab's target: its command, its process, and the topology that chooses it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from harness_support import fast_topology

from harness import topology as topologies
from harness.errors import InfrastructureError, TopologyError
from harness.providers.libvirt.iscsimodel import FIRST_PORT, ModelDaemon, ModelTarget
from harness.providers.libvirt.tgt import Target
from harness.topology import MODEL_TARGET, Library

LIBRARY = Library(
    "media1", MODEL_TARGET, "LIB0001", ("DRV0001", "DRV0002"), ("VTL001L5", "VTL002L5"), (), 1024, 4
)
# Ports of this run only: several may test on one machine.
NUMBER = 2000 + os.getpid() % 20_000


@pytest.fixture
def target(tmp_path: Path) -> ModelTarget:
    """A library of two drives and two cartridges."""
    return ModelTarget(NUMBER, "iqn.2026-11.test:lib", LIBRARY, tmp_path / "tapes")


def alive(_namespace: str) -> list[int]:
    """Every process of this machine, in the place of those of a namespace."""
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


@pytest.fixture
def daemon(tmp_path: Path) -> ModelDaemon:
    """Libraries without a namespace around them."""
    return ModelDaemon("none", tmp_path, inside=lambda _namespace, argv: argv, pids=alive)


def test_units_are_those_of_tgt(target: ModelTarget, tmp_path: Path) -> None:
    """Drives 1 to N, the changer behind them, as with tgt: the domain is described alike."""
    foreign = Target(1, "iqn.2026-11.test:lib", LIBRARY, tmp_path)
    assert [unit.lun for unit in target.units()] == [unit.lun for unit in foreign.units()]
    assert target.changer_lun == foreign.changer_lun
    assert {unit.port for unit in target.units()} == {FIRST_PORT + NUMBER - 1}


def test_the_command_describes_the_library(target: ModelTarget) -> None:
    """Everything of the topology reaches the process: serials, barcodes, first slot, capacity."""
    words = " ".join(target.command())
    assert "tape serve" in words
    assert "--changer LIB0001 --drive DRV0001 --drive DRV0002 --slot VTL001L5 --slot VTL002L5" in words
    assert "--first-slot 1024 --capacity 4" in words
    assert f"--listen 127.0.0.1:{target.port} --name iqn.2026-11.test:lib" in words


def test_a_library_is_started_once_and_ended(
    target: ModelTarget, daemon: ModelDaemon, tmp_path: Path
) -> None:
    """`start` waits until it listens and keeps one that runs; `stop` ends it, and it can be started again."""
    daemon.start([target])
    pid = (tmp_path / f"tape-model-{NUMBER}.pid").read_text()
    with socket.create_connection(("127.0.0.1", target.port), timeout=10):
        pass
    daemon.start([target])
    assert (tmp_path / f"tape-model-{NUMBER}.pid").read_text() == pid
    assert (target.tapes / "VTL001L5.tape").exists()
    daemon.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", target.port), timeout=10)
    daemon.stop()


def test_a_library_that_cannot_start_says_why(target: ModelTarget, daemon: ModelDaemon) -> None:
    """The last line of its log is in the error."""
    with socket.create_server(("127.0.0.1", target.port)), pytest.raises(InfrastructureError) as caught:
        daemon.start([target])
    assert "LIB0001 did not start" in str(caught.value)
    assert "cannot listen" in str(caught.value)
    daemon.stop()


def test_a_topology_chooses_it_for_machines_only(tmp_path: Path) -> None:
    """`transport: iscsi-model` is taken with the provider libvirt and refused with processes, by line."""
    text = fast_topology(tmp_path).file.read_text()
    assert "transport: model" in text
    file = tmp_path / "chosen.yaml"
    file.write_text(text.replace("transport: model", f"transport: {MODEL_TARGET}"))
    with pytest.raises(TopologyError, match="is for the provider libvirt"):
        topologies.read(file)
    file.write_text(
        text.replace("transport: model", f"transport: {MODEL_TARGET}").replace(
            "provider: process", "provider: libvirt"
        )
    )
    assert topologies.read(file).libraries[0].transport == MODEL_TARGET
