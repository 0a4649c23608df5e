"""What one node does, or fails to do, and what the others make of it."""

from __future__ import annotations

from appliance.ndmp.enums import DataHaltReason
from tests.unit.cluster.conftest import Cluster


def test_parts_of_one_owner_in_a_row(cluster: Cluster) -> None:
    """The end of the session for one part is not taken for the loss of the owner in the next."""
    names = [f"part{number}" for number in range(8)]
    cluster.add(*((f"/{name}", "fs2", name) for name in names))
    for name in names:
        (cluster.local("fs2", name) / "file").write_text(name)
    dma, _, reason = cluster.backup("fs1")
    assert (reason, dma.log) == (DataHaltReason.SUCCESSFUL, [])
    assert {b"/" + name.encode() + b"/file" for name in names} < set(dma.history)
