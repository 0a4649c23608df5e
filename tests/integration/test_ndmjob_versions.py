"""A foreign DMA, ndmjob, that speaks version 3, or one version to each server of a job.

What it restored is judged as in test_ndmjob.py, by reading both trees here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.integration import test_ndmjob as by_version_4
from tests.integration.test_ndmjob import BLOCKS_OF_512, OKAY, RESTORED, Witness, comparable

pytestmark = by_version_4.pytestmark
witness = by_version_4.witness


def job(witness: Witness, entry: str, versions: tuple[int, int], *words: str) -> str:
    """A backup or restore; `versions` for file server and media server."""
    data, tape = versions
    agents = ("-D", witness.agent(entry, data), "-T", witness.agent(witness.info["tape"]["node"], tape))
    return witness.run("-v", *words, *agents, "-f", witness.drive, "-B", "tar", "-b", BLOCKS_OF_512)


@pytest.fixture
def cleared(witness: Witness) -> Iterator[Witness]:
    """The lab with nothing in the places that are restored into."""
    witness.clear()
    yield witness
    witness.clear()


@pytest.mark.parametrize(
    "versions", [(3, 3), (3, 4), (4, 3)], ids=lambda pair: f"data {pair[0]} tape {pair[1]}"
)
def test_a_backup_and_a_restore_in_any_mixture(cleared: Witness, versions: tuple[int, int]) -> None:
    """Data and tape agents of one job may speak different versions; the trees are equal."""
    index = f"versions-{versions[0]}-{versions[1]}"
    said = job(cleared, "fs2", versions, "-c", "-C", "/", "-I", index)
    assert OKAY in said, said
    said = job(cleared, "fs1", versions, "-x", "-C", "/restored", "-J", index)
    assert OKAY in said, said
    assert comparable(cleared.tree(RESTORED)) == comparable(cleared.tree(b"/"))


def test_a_file_that_was_saved_by_version_4_comes_back_by_version_3(cleared: Witness) -> None:
    """What is on tape, and the index, know no version; LOG_FILE says how each name went."""
    assert OKAY in job(cleared, "fs1", (4, 4), "-c", "-C", "/", "-I", "crossed")
    said = job(
        cleared, "fs2", (3, 3), "-x", "-C", "/restored", "-J", "crossed", "/new=/software/large", "/no"
    )
    assert "LOG_FILE messages: 1 OK, 1 ERROR, total 2 of 2" in said, said
    assert cleared.tree(RESTORED)[b"/new"][4] == cleared.tree(b"/")[b"/software/large"][4]


def test_with_the_data_server_listening(cleared: Witness) -> None:
    """Version 3 the other way round: DATA_LISTEN and MOVER_CONNECT."""
    assert OKAY in job(cleared, "fs2", (3, 3), "-c", "-C", "/home", "-I", "swapped3", "-o", "swap-connect")
    said = job(cleared, "fs1", (3, 3), "-x", "-C", "/restored/3", "-J", "swapped3", "-o", "swap-connect")
    assert OKAY in said, said
    after = {path: facts for path, facts in cleared.tree(RESTORED + b"/3").items() if path}
    assert after == {path: facts for path, facts in cleared.tree(b"/home").items() if path}


def test_the_servers_pass_the_conformance_tests_of_version_3(witness: Witness) -> None:
    """`-o test-data` and `-o test-mover`, every step."""
    said = witness.run("-v", "-o", "test-data", "-D", witness.agent("fs1", 3), "-B", "tar")
    assert re.search(r"FINAL test-data Passed -- pass=\d+ warn=0 fail=0", said), said
    media = witness.agent(witness.info["tape"]["node"], 3)
    said = witness.run("-v", "-o", "test-mover", "-T", media, "-f", witness.drive, "-b", "20")
    assert re.search(r"FINAL test-mover Passed -- pass=\d+ warn=0 fail=0", said), said


def test_it_sees_what_the_servers_have(witness: Witness) -> None:
    """`-q`: host, backup types and devices in version 3's words."""
    said = witness.run("-q", "-D", witness.agent("fs1", 3))
    assert "tar" in said
    assert "NDMPv3" in said or "NDMP3" in said
    media = witness.agent(witness.info["tape"]["node"], 3)
    assert witness.drive in witness.run("-q", "-T", media)


def test_version_2_is_refused(witness: Witness) -> None:
    """Negotiation ends in a refusal, and the server goes on."""
    said = witness.run("-q", "-D", witness.agent("fs1", 2))
    assert "connect-open" in said or "version" in said, said
    assert "NDMPv3" in (said := witness.run("-q", "-D", witness.agent("fs1", 3))) or "NDMP3" in said
