"""`spanreel session`, from the command to the sessions of processes; and the figures for Prometheus."""

from __future__ import annotations

import json
import socket
import stat
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import cli, sessionsocket
from appliance.config_examples import example
from appliance.errors import InfrastructureError
from appliance.metrics import MetricsServer
from appliance.ndmp import messages as m
from appliance.ndmp.client import Client
from appliance.ndmp.errors import ConnectionLostError
from appliance.ndmp.server import NdmpServer
from appliance.ndmp.session import Session
from appliance.ndmp.sessions import Sessions
from appliance.ndmp.xdr import Struct
from appliance.sessionlines import (
    LineError,
    Request,
    answer,
    decode_answer,
    decode_request,
    encode_request,
)
from appliance.sessionsocket import SessionSocket

WAIT_S = 20


class Moving:
    """A service that has moved bytes, for a job."""

    def __init__(self) -> None:
        self.moved = 4711
        self.now = "active"
        self.closed = threading.Event()
        self.hang = threading.Event()
        self.hang.set()

    def handlers(self) -> Mapping[type[Struct], Callable[[Any], Struct]]:
        return {m.DataAbortRequest: lambda _: m.DataAbortReply()}

    def status(self) -> dict[str, dict[str, object]]:
        return {"data": {"state": self.now, "job": "J1", "bytes": self.moved, "moved": self.moved}}

    def close(self) -> None:
        assert self.hang.wait(WAIT_S)
        self.closed.set()


class Node:
    """A process of a node: a server and its socket."""

    def __init__(self, folder: Path, role: str = "media-server") -> None:
        # Longer than the address of a Unix socket may be.
        self.state = folder / ("long" * 30)
        self.sessions = Sessions()
        self.service = Moving()
        self.server = NdmpServer(("127.0.0.1", 0), self._setup, sessions=self.sessions)
        self.server.start()
        self.socket = SessionSocket(self.state, [role], self.sessions)
        self.socket.start()
        self.config = folder / "node.toml"
        text = example(["backup-server"]).replace('"/var/lib/spanreel"', f'"{self.state}"')
        self.config.write_text(text)

    def _setup(self, session: Session, _: socket.socket) -> None:
        session.add(self.service)

    def run(self, *arguments: str) -> int:
        return cli.run(["session", *arguments, "--config", str(self.config)])

    def stop(self) -> None:
        self.service.hang.set()
        self.server.stop()
        self.socket.stop()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A running process."""
    made = Node(tmp_path)
    yield made
    made.stop()


def connected(node: Node) -> Client:
    """A DMA whose session is listed."""
    client = Client.connect(node.server.address)
    client.do(m.DataAbortRequest())
    return client


def test_sessions_are_listed_with_what_they_do(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    """For people a line each, for programs JSON with every fact."""
    with connected(node) as client:
        peer = "{}:{}".format(*client._stream.getsockname())
        assert node.run("list", "--json") == 0
        (one,) = json.loads(capsys.readouterr().out)["sessions"]
        assert node.run("list") == 0
        head, line = capsys.readouterr().out.splitlines()
    assert one["peer"] == peer
    assert one["services"]["data"] == {"state": "active", "job": "J1", "bytes": 4711, "moved": 4711}
    assert head.split()[0] == "session"
    assert line.split()[0] == one["id"]
    assert "data active 4711 bytes of J1" in line


def test_a_killed_session_is_told_and_gives_everything_back(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    """The peer hears why; the command returns once the services are closed."""
    with connected(node) as client:
        (live,) = node.sessions.all()
        assert node.run("kill", live.id) == 0
        assert node.service.closed.is_set()
        assert capsys.readouterr().out.endswith(f"session {live.id} ended\n")
        assert client.posts.get(timeout=WAIT_S) is None
        with pytest.raises(ConnectionLostError, match="ended by the administrator"):
            client.do(m.DataAbortRequest())


def test_a_session_that_cannot_end_at_once_is_told(
    node: Node, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A drive in the middle of a command is not waited for without end."""
    monkeypatch.setattr(sessionsocket, "GONE_S", 0.1)
    node.service.hang.clear()
    with connected(node):
        (live,) = node.sessions.all()
        assert node.run("kill", live.id) == 4
        assert "ends when its present request does" in capsys.readouterr().err


def test_an_unknown_session_is_a_usage_error(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    """The error says where to look."""
    assert node.run("kill", "0000-1") == 2
    assert "there is no session 0000-1; `spanreel session list`" in capsys.readouterr().err


def test_all_processes_of_a_node_are_asked(node: Node, tmp_path: Path) -> None:
    """Roles that run apart are listed and killed together, wherever the session is."""
    other = Node(tmp_path, "file-server")
    try:
        with connected(node), connected(other):
            answers = sessionsocket.ask_all(node.state, Request("list"))
            assert sorted(len(each["sessions"]) for each in answers) == [1, 1]
            (live,) = other.sessions.all()
            assert other.run("kill", live.id) == 0
            assert len(node.sessions.all()) == 1
    finally:
        other.stop()


def test_the_socket_is_private_and_taken_once(node: Node) -> None:
    """Only the node's own user may ask; a second process of the same roles does not push the first aside."""
    path = node.state / "sessions" / "media-server.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(InfrastructureError, match="is it running twice"):
        SessionSocket(node.state, ["media-server"], Sessions())
    assert len(sessionsocket.ask_all(node.state, Request("list"))) == 1


def test_a_process_too_busy_to_be_asked_keeps_its_place(tmp_path: Path) -> None:
    """A socket whose queue is full is somebody's: a second process of these roles does not take it away."""
    path = tmp_path / sessionsocket.FOLDER / "media-server.sock"
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(str(path))
        busy.listen(0)
        waiting.connect(str(path))
        with pytest.raises(InfrastructureError, match="is it running twice"):
            SessionSocket(tmp_path, ["media-server"], Sessions())
        assert path.is_socket()


def test_a_process_that_was_killed_leaves_nothing_in_the_way(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    """A socket that nobody listens on is no answer, and is replaced at the next start."""
    node.socket._stopped.set()
    node.socket._listener.shutdown(socket.SHUT_RDWR)
    node.socket._listener.close()
    assert node.run("list") == 3
    assert "is `spanreel serve` running" in capsys.readouterr().err
    again = SessionSocket(node.state, ["media-server"], node.sessions)
    again.start()
    assert node.run("list") == 0
    again.stop()


@given(
    st.one_of(st.binary(), st.sampled_from([b"[]", b'{"do":"kill"}', b'{"do":"list","id":"1"}', b'{"do":1}']))
)
def test_any_line_gets_an_answer(line: bytes) -> None:
    """What is no request is told so; nothing is killed by it."""
    killed: list[str] = []

    def kill(number: str) -> bool | None:
        killed.append(number)
        return None

    with pytest.raises(LineError):
        decode_answer(answer(line, list, kill))
    assert killed == []


def test_requests_and_answers_go_both_ways() -> None:
    """What one side writes the other one reads."""
    for request in (Request("list"), Request("kill", "3f9a-1")):
        assert decode_request(encode_request(request)) == request
    line = encode_request(Request("kill", "3f9a-1"))
    assert decode_answer(answer(line, list, lambda _: True)) == {"killed": "3f9a-1", "gone": True}
    with pytest.raises(LineError, match="there is no session 3f9a-1"):
        decode_answer(answer(line, list, lambda _: None))


def scrape(address: str) -> dict[str, float]:
    """Every sample of a node, as Prometheus would read it."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=WAIT_S) as reply:
        text = reply.read().decode()
    samples = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in samples}


@pytest.fixture
def metrics(node: Node) -> Iterator[str]:
    """The address of the figures of a node."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    server = MetricsServer(address, node.sessions)
    yield address
    server.stop()


def test_figures_follow_the_sessions(node: Node, metrics: str) -> None:
    """Gauges go up and down with sessions, counters of bytes survive the session that counted."""
    before = scrape(metrics)
    assert before['spanreel_sessions{port="ndmp",state="open"}'] == 0
    with connected(node):
        (live,) = node.sessions.all()
        during = scrape(metrics)
        assert during['spanreel_sessions{port="ndmp",state="open"}'] == 1
        assert during['spanreel_data_states{state="active"}'] == 1
        assert during['spanreel_bytes_total{service="data"}'] == 4711
    assert live.gone.wait(WAIT_S)
    after = scrape(metrics)
    assert after['spanreel_sessions{port="ndmp",state="open"}'] == 0
    assert after['spanreel_data_states{state="active"}'] == 0
    assert after['spanreel_bytes_total{service="data"}'] == 4711
    assert after["spanreel_process_open_fds"] > 0


def test_figures_count_what_happened(node: Node, metrics: str) -> None:
    """Refusals, jobs and what parts of the process count by themselves have their labels."""
    node.sessions.count("refusals", "full")
    node.sessions.count("jobs", "incomplete")
    node.sessions.add_source(lambda: [("device errors", "DRV1", 3), ("login failures", "", 2)])
    node.sessions.add_source(lambda: [("login failures", "", 1), ("catalogue jobs", "failed", 5)])
    found = scrape(metrics)
    assert found['spanreel_session_refusals_total{reason="full"}'] == 1
    assert found['spanreel_jobs_total{outcome="incomplete"}'] == 1
    assert found['spanreel_tape_errors_total{serial="DRV1"}'] == 3
    assert found["spanreel_failed_logins_total"] == 3
    assert found['spanreel_catalogue_jobs{status="failed"}'] == 5


def test_an_address_in_use_is_told(node: Node, metrics: str) -> None:
    """Two processes of one node need two ports; the error names the key."""
    with pytest.raises(InfrastructureError, match=r"metrics cannot listen on .* needs a port of its own"):
        MetricsServer(metrics, node.sessions)


def test_waiting_ends_when_no_session_has_work(
    node: Node, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session without work is not waited for; one with work is named, and is the error after --minutes."""
    with connected(node):
        (live,) = node.sessions.all()
        assert node.run("wait", "--minutes", "0") == 1
        wanted = f"still takes part in a job after 0 minutes: session {live.id} of "
        assert wanted in capsys.readouterr().err
        idle = lambda _: setattr(node.service, "now", "idle")  # noqa: E731
        monkeypatch.setattr("appliance.commands.session.time.sleep", idle)
        assert node.run("wait") == 0
        out = capsys.readouterr()
        assert "data active 4711 bytes of J1" in out.err
        assert out.out.endswith("this node takes part in no job\n")
