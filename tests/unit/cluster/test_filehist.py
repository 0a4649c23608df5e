"""DATA_START_RECOVER_FILEHIST over the cluster: file history from an image alone (draft, 3.5.2.9)."""

from __future__ import annotations

import pytest

from appliance.ndmp import messages as m
from appliance.ndmp.enums import DataHaltReason, DataOperation
from appliance.ndmp.types import Name
from tests.unit.cluster.conftest import WAIT_S, Cluster, Dma
from tests.unit.cluster.test_backup import seed


def rebuild(cluster: Cluster, image: bytes, *names: bytes) -> tuple[Dma, DataHaltReason]:
    """Have fs2 tell what is in an image."""
    dma, mover = cluster.dma("fs2"), cluster.mover()
    giving = mover.give(image)
    dma.client.do(m.DataConnectRequest(mover.address))
    nlist = tuple(Name(name, b"") for name in names)
    dma.client.do(m.DataStartRecoverFilehistRequest((), nlist, b"tar"))
    reason = dma.await_halt()
    giving.join(WAIT_S)
    return dma, reason


@pytest.mark.parametrize("root", [b"/", b"/projects"])
def test_the_history_is_the_backups(cluster: Cluster, root: bytes) -> None:
    """Every name comes back at the place that the backup told; counts are in the environment."""
    seed(cluster)
    saved, mover, _ = cluster.backup("fs1", root)
    dma, reason = rebuild(cluster, mover.image)
    assert (reason, dma.log) == (DataHaltReason.SUCCESSFUL, [])
    assert dma.history == saved.history
    assert len(set(dma.nodes.values())) == len(dma.nodes)
    assert dma.env()[b"SPANREEL_FILES"] == b"%d" % len(saved.history)
    assert dma.state().operation is DataOperation.RECOVER_FILEHIST


def test_names_choose_what_is_told(cluster: Cluster) -> None:
    """An nlist has the history of what is at or below its names only."""
    seed(cluster)
    saved, mover, _ = cluster.backup("fs1")
    dma, _ = rebuild(cluster, mover.image, b"/projects/media", b"home/c.txt")
    assert dma.history.keys() == {b"/projects/media", b"/projects/media/b.bin", b"/home/c.txt"}
    assert dma.history.items() <= saved.history.items()


def test_a_cut_image_is_told(cluster: Cluster) -> None:
    """What was read by then is told, and the job failed, with the reason in the log."""
    seed(cluster)
    _, mover, _ = cluster.backup("fs1")
    dma, reason = rebuild(cluster, mover.image[: len(mover.image) // 2])
    assert reason is DataHaltReason.INTERNAL_ERROR
    assert any("the image ended early" in line for line in dma.log)


def test_an_abort_is_answered_at_once(cluster: Cluster) -> None:
    """A mover that sends nothing does not hold the abort up, and the next job runs."""
    seed(cluster)
    _, mover, _ = cluster.backup("fs1")
    dma, silent = cluster.dma("fs2"), cluster.mover()
    dma.client.do(m.DataConnectRequest(silent.address))
    dma.client.do(m.DataStartRecoverFilehistRequest((), (), b"tar"))
    dma.client.do(m.DataAbortRequest())
    assert dma.await_halt() is DataHaltReason.ABORTED
    _, reason = rebuild(cluster, mover.image)
    assert reason is DataHaltReason.SUCCESSFUL
