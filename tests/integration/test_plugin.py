"""The pytest plugin on the process lab: a user's own test."""

from __future__ import annotations

import pytest

from harness.pytest_plugin import ClientFolder, Dma
from harness.scenarios.tape import TapeFaults, hold

pytestmark = pytest.mark.process_lab


def test_a_deleted_file_comes_back(dma: Dma, client_folder: ClientFolder) -> None:
    """The example of the documentation."""
    client_folder.write("plan.txt", b"all of it")
    job = dma.backup(client_folder.path)
    client_folder.remove("plan.txt")
    dma.restore(job["id"], client_folder.path)
    assert client_folder.read("plan.txt") == b"all of it"


@pytest.mark.needs(faults=True)
def test_a_fault_is_scripted(dma: Dma, client_folder: ClientFolder, tape_faults: TapeFaults) -> None:
    """A test can have a drive fail, and see that the fault happened."""
    client_folder.write("file", bytes(100))
    tape_faults.set({**hold("WRITE(6)", 1), "delay": 0.1})
    assert dma.backup(client_folder.path)["status"] == "complete"
    assert len(tape_faults.struck()) == 1
