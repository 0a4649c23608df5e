"""Packets as evidence: recorded where there is a bridge, kept of what fails, never a failure of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness_support import FakeProvider, new_lab

from harness import packets
from harness.errors import InfrastructureError
from harness.job.record import Run


class FakeCapture:
    """Writes a file from entry on; says that packets were dropped."""

    def __init__(self, _provider: object, target: Path) -> None:
        self.target = target

    def __enter__(self) -> None:
        self.target.write_bytes(b"packets")
        self.target.with_suffix(".log").write_text("listening on lab0")

    def __exit__(self, *_error: object) -> None:
        raise InfrastructureError("the capture is not complete: 3 packets dropped by kernel")


class NoTool(FakeCapture):
    """Cannot be started."""

    def __enter__(self) -> None:
        raise InfrastructureError("tcpdump does not start")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run on a lab with a bridge."""
    monkeypatch.setattr(FakeProvider, "bridge", "lab0")
    monkeypatch.setattr(packets, "Capture", FakeCapture)
    provider = new_lab(FakeProvider, tmp_path, monkeypatch)
    return Run(provider, tmp_path)


def test_what_nobody_keeps_is_gone(run: Run) -> None:
    """What a scenario that passed recorded is removed, with the log; a capture with holes is no failure."""
    with packets.recording(run) as recorded:
        assert recorded is not None
        assert recorded.read_bytes() == b"packets"
    assert list(run.folder.glob("packets.*")) == []
    assert run.checks == []


def test_what_was_moved_stays(run: Run, tmp_path: Path) -> None:
    """Evidence takes the file away while it is still being written."""
    with packets.recording(run) as recorded:
        assert recorded is not None
        recorded.replace(tmp_path / "kept.pcap")
    assert (tmp_path / "kept.pcap").read_bytes() == b"packets"


def test_a_host_without_the_tool_is_noted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scenario runs; the report says why there are no packets."""
    monkeypatch.setattr(packets, "Capture", NoTool)
    with packets.recording(run) as recorded:
        assert recorded is None
    assert run.notes == ["no packets were recorded: tcpdump does not start"]


def test_a_lab_without_a_bridge_records_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes talk over loopback, where relays record."""
    monkeypatch.setattr(FakeProvider, "bridge", None)
    with packets.recording(run) as recorded:
        assert recorded is None
    assert run.notes == []
