"""Nodes agree on the version of what they say to each other, or say why they cannot."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

import pytest

from appliance import agreement
from appliance.agreement import BEFORE_NEGOTIATION, SPOKEN, agree, offer
from appliance.archive.formats import FIRST_FORMAT, FORMAT
from appliance.archive.frame import parse_comment
from appliance.archive.member import GlobalHeader
from appliance.archive.reader import MemberReader
from appliance.ndmp import extension as x
from appliance.ndmp import messages as m
from appliance.ndmp.client import Client
from appliance.ndmp.enums import DataHaltReason, ErrorCode
from appliance.ndmp.errors import ConnectionLostError
from appliance.ndmp.server import NdmpServer
from appliance.ndmp.session import Session
from appliance.peers import Peers
from tests.unit.cluster.conftest import Cluster

Versions = tuple[int, ...] | None


@pytest.fixture
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    """A session to a node that speaks the given versions; None: one that knows no negotiation."""
    theirs: Versions = request.param

    def setup(session: Session, _: object) -> None:
        if theirs is not None:
            session.add(offer(theirs))

    server = NdmpServer(("127.0.0.1", 0), setup)
    server.start()
    try:
        with Client.connect(server.address, "fs2") as made:
            made.open()
            yield made
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("client", "ours", "agreed"),
    [
        ((1,), (1,), 1),
        ((2, 1), (1,), 1),
        ((2, 1), (3, 2), 2),
        ((3, 2), (2, 1), 2),
        ((3, 2), (3, 2), 3),
        ((2, 1), (2, 1), 2),
        (None, (2, 1), 1),
        (None, (1,), 1),
    ],
    indirect=["client"],
)
def test_the_highest_version_that_both_speak_is_chosen(
    client: Client, ours: tuple[int, ...], agreed: int
) -> None:
    """It is the lower one of both nodes' newest, if the other still speaks that."""
    assert agree(client, "fs2", ours) == agreed


@pytest.mark.parametrize(
    ("client", "ours", "said"),
    [
        ((4, 3), (2, 1), r"fs2 speaks versions 3 to 4 .*, this node versions 1 to 2: .*; upgrade this node"),
        ((2, 1), (4, 3), r"fs2 speaks versions 1 to 2 .*, this node versions 3 to 4: .*; upgrade fs2"),
        (None, (3, 2), r"fs2 speaks version 1 .*, this node versions 2 to 3: .*; upgrade fs2"),
    ],
    indirect=["client"],
)
def test_nodes_too_far_apart_are_refused_by_name(client: Client, ours: tuple[int, ...], said: str) -> None:
    """The line names the node, both ranges, and which of the two to upgrade."""
    with pytest.raises(ConnectionLostError, match=said):
        agree(client, "fs2", ours)


def test_this_release_speaks_its_own_version_first() -> None:
    """A release speaks at most two, its own and the one before."""
    assert SPOKEN[0] == x.CLASS_VERSION
    assert list(SPOKEN) == sorted(SPOKEN, reverse=True)
    assert len(SPOKEN) <= 2
    assert BEFORE_NEGOTIATION == (1,)


def test_every_session_between_nodes_agrees(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """File servers and the connection server tell their versions, and whoever opens a session chooses."""
    asked: list[tuple[str, int]] = []

    def noted(client: Client, node: str) -> int:
        asked.append((node, agreement.agree(client, node)))
        return asked[-1][1]

    monkeypatch.setattr("appliance.peers.agree", noted)
    cluster.add(("/a", "fs2", "a"))
    cluster.backup("fs1")
    assert {node for node, _ in asked} >= {"fs1", "fs2", "conn1"}
    assert {version for _, version in asked} == {x.CLASS_VERSION}
    for node in ("fs2", "conn1"):
        with Peers(cluster.configs["fs1"]).open(node) as client, pytest.raises(Exception, match="EXT_DANDN"):
            client.do(m.ConfigGetExtListRequest())


def test_an_owner_two_releases_apart_costs_its_part(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job goes on without it, and its log says which node is to be upgraded."""
    newer = (x.CLASS_VERSION + 2, x.CLASS_VERSION + 1)

    def far_from_fs2(client: Client, node: str) -> int:
        return agreement.agree(client, node, newer if node == "fs2" else SPOKEN)

    cluster.add(("/a", "fs1", "a"), ("/b", "fs2", "b"))
    (cluster.local("fs1", "a") / "file").write_text("saved")
    monkeypatch.setattr("appliance.peers.agree", far_from_fs2)
    dma, _, reason = cluster.backup("fs1")
    assert reason is DataHaltReason.SUCCESSFUL
    assert b"/a/file" in dma.history
    wanted = re.compile(r"/b.*fs2 speaks versions 1 to 2 .*this node versions 3 to 4.*upgrade fs2")
    assert [line for line in dma.log if wanted.search(line)], dma.log


def formats(image: bytes) -> set[int]:
    """The formats of all comments of an image, each with its right checksum."""
    found = []
    for item in MemberReader(io.BytesIO(image).readinto):
        if isinstance(item, GlobalHeader):
            comment = parse_comment(item.records, item.offset)
            assert comment is not None
            assert comment.sound
            found.append(comment.version)
    assert len(found) >= 4
    return set(found)


@pytest.mark.parametrize(
    ("former", "version"), [(None, FORMAT), ("fs2", FIRST_FORMAT), ("conn1", FIRST_FORMAT)]
)
def test_an_image_has_a_format_that_all_nodes_read(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, former: str | None, version: int
) -> None:
    """An owner or a connection server of the release before is enough to have the older one, in all parts."""

    def spoken_to(client: Client, node: str) -> int:
        return agreement.agree(client, node, BEFORE_NEGOTIATION if node == former else SPOKEN)

    cluster.add(("/a", "fs1", "a"), ("/b", "fs2", "b"))
    for name, folder in (("fs1", "a"), ("fs2", "b")):
        (cluster.local(name, folder) / "file").write_text("saved")
    monkeypatch.setattr("appliance.peers.agree", spoken_to)
    _, mover, reason = cluster.backup("fs1")
    assert reason is DataHaltReason.SUCCESSFUL
    assert formats(mover.image) == {version}
    dma, _ = cluster.restore("fs1", mover.image, (b"/a", b"/a/back"), (b"/b", b"/b/back"))
    assert dma.log == []


def test_an_owner_that_is_away_when_the_job_begins_is_taken_for_an_old_one(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be back when its part is due: then it reads what it wrote."""
    real = Peers.open

    def away_at_first(peers: Peers, node: str, *more: object, **options: object) -> Client:
        if node == "fs2" and "patience" in options:
            raise ConnectionLostError("fs2 is away", ErrorCode.CONNECT)
        return real(peers, node, *more, **options)  # type: ignore[arg-type]

    cluster.add(("/a", "fs1", "a"), ("/b", "fs2", "b"))
    monkeypatch.setattr(Peers, "open", away_at_first)
    _, mover, reason = cluster.backup("fs1")
    assert reason is DataHaltReason.SUCCESSFUL
    assert formats(mover.image) == {FIRST_FORMAT}


def test_an_owner_that_goes_back_to_an_old_release_within_a_job_is_skipped(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image has one format: the part is named, nothing of another one gets into the image."""
    # Before its part is due it is asked for its bases, and for a snapshot.
    before, asked = 2, list[str]()

    def older_and_older(client: Client, node: str) -> int:
        asked.append(node)
        spoken = BEFORE_NEGOTIATION if node == "fs2" and asked.count("fs2") > before else SPOKEN
        return agreement.agree(client, node, spoken)

    cluster.add(("/a", "fs1", "a"), ("/b", "fs2", "b"))
    monkeypatch.setattr("appliance.peers.agree", older_and_older)
    dma, mover, _ = cluster.backup("fs1")
    assert formats(mover.image) == {FORMAT}
    wanted = re.compile(r"/b: skipped, its file server fs2 did not start: .*speaks version 1 now")
    assert [line for line in dma.log if wanted.search(line)], dma.log
