"""Who may do what in a cluster: accounts at the entry server, roles between nodes; and lost peers."""

from __future__ import annotations

import contextlib
import io
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from appliance import logs, pki, tls
from appliance.config import NodeConfig, load
from appliance.ndmp import dataconn
from appliance.ndmp import extension as x
from appliance.ndmp import messages as m
from appliance.ndmp.accounts import Account
from appliance.ndmp.client import Client
from appliance.ndmp.enums import ALL_ONES, AddressType, DataHaltReason, DataState, ErrorCode, MoverMode
from appliance.ndmp.errors import ConnectionLostError, ReplyError
from appliance.ndmp.types import Name, Pval
from appliance.peers import Peers
from tests.unit.cluster.conftest import NODES, WAIT_S, Cluster, Dma

OUTSIDE = "127.79.0.31"
"""The media server's address in these tests."""


def rules(cluster: Cluster, node: str, *lines: str) -> None:
    """Restart a node with these lines in its section about data connections."""
    cluster.roles[node].stop()
    file = cluster.folder / node / "spanreel.toml"
    section = "[ndmp]" if node.startswith("fs") else "[connection_server]"
    file.write_text(file.read_text().replace(section, "\n".join([section, *lines])))
    cluster.configs[node] = load(file)
    role = type(cluster.roles[node])(cluster.configs[node])
    role.start()
    cluster.roles[node] = role


def limit(cluster: Cluster, entry: str, account: Account) -> None:
    """Give the DMA's account on a file server these rights."""
    cluster.roles[entry]._port._accounts.users["dma"] = account  # type: ignore[union-attr]


def refusal(dma: Dma, request: m.DataStartBackupRequest | m.DataStartRecoverRequest) -> tuple[ErrorCode, str]:
    """How the start of an operation is refused: code, and the line in the DMA's log."""
    with pytest.raises(ReplyError) as error:
        dma.client.do(request)
    post = dma.client.posts.get(timeout=WAIT_S)
    assert post is not None
    body = post.body()
    assert isinstance(body, m.LogMessagePost)
    return error.value.code, body.entry.decode()


def start_backup(path: bytes) -> m.DataStartBackupRequest:
    """The request for a full backup."""
    return m.DataStartBackupRequest(b"tar", (Pval(b"FILESYSTEM", path), Pval(b"HIST", b"y")))


def test_an_account_backs_up_its_subtrees_only(cluster: Cluster) -> None:
    """PERMISSION for everything else, with path and account in a line of the DMA's log."""
    cluster.add(("/projects", "fs1", "p"), ("/home", "fs1", "h"))
    limit(cluster, "fs1", Account("a test's password", subtrees=(b"/projects",)))
    dma, mover = cluster.dma("fs1"), cluster.mover()
    mover.take()
    dma.client.do(m.DataConnectRequest(mover.address))
    for path in (b"/home", b"/", b"/projects/../home"):
        code, line = refusal(dma, start_backup(path))
        assert code in (ErrorCode.PERMISSION, ErrorCode.ILLEGAL_ARGS)
        if b".." not in path:
            assert code is ErrorCode.PERMISSION
            assert line == f"account dma may not back up {path.decode()}; it may: /projects"
    dma.client.do(start_backup(b"/projects"))
    assert dma.await_halt() is DataHaltReason.SUCCESSFUL


@pytest.mark.parametrize(
    ("account", "said"),
    [
        (Account("x", restore=False), "account dma may not restore; see `restore` in the accounts file"),
        (Account("x", subtrees=(b"/home",)), "account dma may not restore to /projects; it may: /home"),
    ],
)
def test_restoring_is_a_right_of_its_own(cluster: Cluster, account: Account, said: str) -> None:
    """An account that may back everything up still restores nothing, or to its subtrees only."""
    cluster.add(("/projects", "fs1", "p"), ("/home", "fs2", "h"))
    dma, mover = cluster.dma("fs1"), cluster.mover()
    mover.take()
    session = next(live.session for live in cluster.roles["fs1"].sessions.all() if live.port == "ndmp")
    session.account = account
    dma.client.do(m.DataConnectRequest(mover.address))
    names = (Name(b"/a", b"/home"), Name(b"/a", b"/projects"))
    assert refusal(dma, m.DataStartRecoverRequest((), names, b"tar")) == (ErrorCode.PERMISSION, said)


def test_a_mover_outside_the_networks_is_not_connected_to(cluster: Cluster) -> None:
    """The entry server refuses before anybody is asked, and the connection server by its own list."""
    for node, networks in (("fs1", "127.79.0.0/28"), ("conn1", "127.79.0.0/27")):
        rules(cluster, node, f'data_networks = ["{networks}"]')
    for entry in ("fs1", "fs2"):
        dma = cluster.dma(entry)
        outside = dataconn.address_of(("127.79.0.33", 1))
        with pytest.raises(ReplyError) as error:
            dma.client.do(m.DataConnectRequest(outside))
        assert error.value.code is ErrorCode.CONNECT
        assert dma.state().state is DataState.IDLE


def test_a_listener_for_the_mover_ends_in_time(cluster: Cluster) -> None:
    """When no mover comes, the channel gives up and the DMA is told: HALTED, CONNECT_ERROR."""
    rules(cluster, "conn1", "accept_timeout = 0.2", 'data_ports = "28200-28209"')
    dma = cluster.dma("fs1")
    reply = dma.client.call(m.DataListenRequest(AddressType.TCP), m.DataListenReply)
    assert 28200 <= reply.connect_addr.tcp[0].port < 28210
    assert dma.await_halt() is DataHaltReason.CONNECT_ERROR
    assert dma.state().state is DataState.HALTED
    dma.client.do(m.DataStopRequest())
    assert dma.state().state is DataState.IDLE


def test_a_stranger_does_not_become_the_mover(cluster: Cluster) -> None:
    """Who comes to the channel's listener from outside is closed; the mover inside is taken."""
    rules(cluster, "conn1", f'data_networks = ["{OUTSIDE}"]')
    dma = cluster.dma("fs1")
    reply = dma.client.call(m.DataListenRequest(AddressType.TCP), m.DataListenReply)
    where = dataconn.endpoint_of(reply.connect_addr.tcp[0])
    with socket.create_connection(where, WAIT_S, ("127.79.0.66", 0)) as stranger:
        assert stranger.recv(1) == b""
    assert dma.state().state is DataState.LISTEN
    with dataconn.connect(reply.connect_addr, OUTSIDE):
        cluster.add(("/projects", "fs1", "p"))
        dma.client.do(start_backup(b"/projects"))
        dma.client.do(m.DataAbortRequest())
        assert dma.await_halt() is DataHaltReason.ABORTED


def test_channel_and_feed_of_a_lost_entry_server_are_gone(cluster: Cluster) -> None:
    """Its sessions end without a word: the mover sees the end, and the channel can be fed no more."""
    mover, config = cluster.mover(), cluster.configs["fs1"]
    taking = mover.take()
    conn = cluster.roles["conn1"]
    with Peers(config).open("conn1") as entry, Peers(config).open("conn1") as feeder:
        channel = entry.call(x.ChannelOpenRequest(b"J1"), x.ChannelOpenReply).channel
        entry.do(m.DataConnectRequest(mover.address))
        feeder.call(x.FeedAttachRequest(channel), x.FeedAttachReply)
        feeder.do(m.MoverSetWindowRequest(0, ALL_ONES))
        address = feeder.call(m.MoverListenRequest(MoverMode.READ, AddressType.TCP), m.MoverListenReply)
        told = {name: facts for live in conn.sessions.all() for name, facts in live.session.status().items()}
        assert (told["channel"]["job"], told["feed"]["job"]) == ("J1", "J1")
        assert (told["channel"]["state"], told["feed"]["state"]) == ("connected", "listen")
        lives = conn.sessions.all()
        dataconn.shut(entry._stream)
        dataconn.shut(feeder._stream)
        for live in lives:
            assert live.gone.wait(WAIT_S)
    taking.join(WAIT_S)
    assert not taking.is_alive()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(dataconn.endpoint_of(address.connect_addr.tcp[0]), WAIT_S)
    with Peers(config).open("conn1") as late, pytest.raises(ReplyError) as error:
        late.call(x.FeedAttachRequest(channel), x.FeedAttachReply)
    assert error.value.code is ErrorCode.NOT_AUTHORIZED


def test_killing_the_dmas_session_ends_its_job_everywhere(cluster: Cluster) -> None:
    """Owner, feed and channel of the job are free within seconds, as if the DMA were lost."""
    cluster.add(("/projects", "fs2", "p"))
    (cluster.local("fs2", "p") / "large").write_bytes(bytes(64 << 20))
    dma = cluster.dma("fs1")
    with dataconn.listen(OUTSIDE) as listener:
        dma.client.do(m.DataConnectRequest(dataconn.local_address(listener)))
        stream, _ = listener.accept()
        with stream:
            dma.client.do(start_backup(b"/projects"))
            assert stream.recv(1 << 16)
            lives = [live for role in cluster.roles.values() for live in role.sessions.all()]
            next(live for live in lives if live.port == "ndmp").cut()
            for live in lives:
                if live.session.peer.startswith(NODES["fs1"]) or live.port == "ndmp":
                    assert live.gone.wait(WAIT_S)
    assert cluster.roles["fs1"].sessions.counts()["jobs", "aborted"] == 1


def test_lines_of_a_job_carry_session_peer_and_job(cluster: Cluster) -> None:
    """On every node, whatever logs for the job's sessions can be found by the job's name."""
    output = io.StringIO()
    cluster.add(("/projects", "fs2", "p"))
    try:
        logs.setup("debug", output)
        dma, _, reason = cluster.backup("fs1", b"/projects")
    finally:
        structlog.reset_defaults()
    assert reason is DataHaltReason.SUCCESSFUL
    job = dma.env()[b"SPANREEL_JOB"].decode()
    halted = [line for line in output.getvalue().splitlines() if 'event="data halted"' in line]
    # The entry server's, the owners' and the channel's.
    assert len(halted) >= 3
    for line in halted:
        assert f"job={job}" in line
        assert re.search(r"session=[0-9a-f]{4}-\d+ peer=127\.[0-9.]+:\d+ ", line)
    assert any("user=dma" in line for line in halted)
    assert any("node=fs1" in line for line in halted)
    assert cluster.roles["fs1"].sessions.counts()["jobs", "complete"] == 1


def _other_role(cluster: Cluster) -> Path:
    request = pki.parse_request("media1=media-server@127.79.0.31")
    return pki.issue(cluster.folder / "ca", cluster.folder / "bad", request)


def _connection_server(cluster: Cluster) -> Path:
    return cluster.folder / "tls" / "conn1"


@pytest.mark.parametrize("server", ["fs1", "conn1"])
@pytest.mark.parametrize("make", [_other_role, _connection_server])
def test_other_roles_say_nothing_between_nodes(
    cluster: Cluster, server: str, make: Callable[[Cluster], Path]
) -> None:
    """A media server's or a connection server's certificate opens neither feeds, parts nor the map."""
    config = with_files(cluster, make(cluster))
    with captured(cluster, server) as lines, pytest.raises(ConnectionLostError, match="needs file-server"):
        Client.connect((NODES[server], cluster_port(cluster)), server, tls=tls.client_context(config))
    assert "this needs file-server" in lines.getvalue()
    assert cluster.roles[server].sessions.counts()["refusals", "role"] == 1


def test_strangers_get_nowhere_and_leave_one_line(cluster: Cluster) -> None:
    """No certificate, one of another authority, or no TLS: refused before a byte of NDMP is read."""
    pki.create_authority(cluster.folder / "ca2")
    foreign = pki.issue(
        cluster.folder / "ca2", cluster.folder / "foreign", pki.parse_request("fs1=file-server")
    )
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    other = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    other.load_cert_chain(foreign / "node.pem", foreign / "node.key")
    for context in (bare, other):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with captured(cluster, "fs2") as lines:
            with pytest.raises(ConnectionLostError):
                Client.connect((NODES["fs2"], cluster_port(cluster)), "fs2", tls=context)
            told = lines.lines("no node of this cluster")
        assert len(told) == 1
        assert " peer=127.79.0." in told[0] or " peer=127.0.0.1" in told[0]
        assert cluster.roles["fs2"].sessions.counts()["refusals", "certificate"] == 1


class Output(io.StringIO):
    """A log that can be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self._written = threading.Condition()

    def write(self, text: str) -> int:
        with self._written:
            self._written.notify_all()
            return super().write(text)

    def lines(self, words: str) -> list[str]:
        """The lines with these words, once there is one."""
        with self._written:
            assert self._written.wait_for(lambda: words in self.getvalue() and self._is_whole(), WAIT_S)
            return [line for line in self.getvalue().splitlines() if words in line]

    def _is_whole(self) -> bool:
        return self.getvalue().endswith("\n")


@contextlib.contextmanager
def captured(cluster: Cluster, node: str) -> Iterator[Output]:
    """What a node, started anew, logs meanwhile."""
    output = Output()
    logs.setup("info", output)
    try:
        rules(cluster, node)
        yield output
    finally:
        structlog.reset_defaults()


def cluster_port(cluster: Cluster) -> int:
    """The port between nodes."""
    assert cluster.configs["fs1"].cluster is not None
    return cluster.configs["fs1"].cluster.port


def with_files(cluster: Cluster, files: Path) -> NodeConfig:
    """A node's configuration with other certificate files."""
    file = cluster.folder / "other.toml"
    text = (cluster.folder / "fs1" / "spanreel.toml").read_text()
    file.write_text(text.replace(str(cluster.folder / "tls" / "fs1"), str(files)))
    return load(file)
