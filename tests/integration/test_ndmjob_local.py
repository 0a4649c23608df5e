"""A foreign DMA, ndmjob, with one control connection to a node that is file server and media server both.

DATA and MOVER are joined by LOCAL there; the files come from all owners all the same, over the connection
server.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration import test_ndmjob as two_servers
from tests.integration.test_ndmjob import BLOCKS_OF_512, OKAY, RESTORED, Witness, comparable

pytestmark = two_servers.pytestmark
witness = two_servers.witness

NODE, CHANGER, DRIVE, SLOT = "fs3", "changer:SPRLIB0002", "drive:SPRDRV0003", 4096


@pytest.fixture(params=[4, 3])
def local(request: pytest.FixtureRequest, witness: Witness) -> Iterator[tuple[Witness, str]]:
    """A cartridge in that node's own drive, and ndmjob's word for the node in each version."""
    agent = witness.agent(NODE, request.param)
    said = witness.run("-v", "-o", f"load={SLOT}", "-R", agent, "-r", CHANGER, "-T", agent, "-f", DRIVE)
    assert "Operation complete" in said, said
    witness.clear()
    yield witness, agent
    witness.clear()


def test_one_session_for_both(local: tuple[Witness, str]) -> None:
    """Without -T ndmjob joins the two by LOCAL: a backup and a restore over three owners, equal trees."""
    witness, agent = local
    node = ("-D", agent, "-f", DRIVE, "-B", "tar", "-b", BLOCKS_OF_512)
    said = witness.run("-v", "-c", "-C", "/", "-I", "local", *node, "-vvvvvvvv")
    assert OKAY in said, said
    assert "_ADDR_LOCAL" in said
    assert "_ADDR_TCP" not in said.split("Operation started")[-1]
    said = witness.run("-v", "-x", "-C", "/restored", "-J", "local", *node)
    assert OKAY in said, said
    assert comparable(witness.tree(RESTORED)) == comparable(witness.tree(b"/"))


def test_one_file_by_direct_access(local: tuple[Witness, str]) -> None:
    """The data server has the session's mover read what it needs, without the DMA's help."""
    witness, agent = local
    node = ("-D", agent, "-f", DRIVE, "-B", "tar", "-b", BLOCKS_OF_512)
    assert OKAY in witness.run("-v", "-c", "-C", "/", "-I", "local", *node)
    said = witness.run(
        "-v", "-x", "-C", "/restored", "-J", "local", "-E", "DIRECT=y", *node, "/software/large"
    )
    assert OKAY in said, said
    assert "LOG_FILE messages: 1 OK, 0 ERROR, total 1 of 1" in said, said
    assert witness.tree(RESTORED)[b"/software/large"][4] == witness.tree(b"/software")[b"/large"][4]
