"""Certificates, and the TLS that rests on them."""

from __future__ import annotations

import socket
import ssl
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance import cli
from appliance.config import NodeConfig, parse
from appliance.config_examples import example
from appliance.errors import ConfigurationError
from appliance.pki import NodeRequest, create_authority, issue, parse_request
from appliance.tls import (
    Identity,
    PeerError,
    RoleError,
    client_context,
    handshake,
    server_context,
)

# A handshake on a socket pair takes milliseconds; this only ends a test that hangs.
TIMEOUT_SECONDS = 20

FS1 = NodeRequest("fs1", ("file-server",), "10.77.0.11")
CONN1 = NodeRequest("conn1", ("connection-server", "media-server"))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of an authority."""
    directory = tmp_path_factory.mktemp("pki") / "ca"
    create_authority(directory)
    return directory


def _config(files: Path) -> NodeConfig:
    text = example(["file-server"]).replace("/etc/spanreel/tls", str(files))
    return parse(text, Path("node.toml"))


def _connect(
    server: ssl.SSLContext, client: ssl.SSLContext
) -> tuple[tuple[ssl.SSLSocket, Identity], tuple[ssl.SSLSocket, Identity]]:
    """Shake hands over a socket pair; the result is (what the server has, what the client has)."""
    left, right = socket.socketpair()
    left.settimeout(TIMEOUT_SECONDS)
    right.settimeout(TIMEOUT_SECONDS)
    with ThreadPoolExecutor(1) as pool:
        accepting = pool.submit(handshake, server, left, server_side=True)
        connected = handshake(client, right, server_side=False)
        return accepting.result(), connected


def test_a_request_is_name_roles_and_address() -> None:
    """The forms of NAME=ROLE[+ROLE][@ADDRESS]."""
    assert parse_request("fs1=file-server") == NodeRequest("fs1", ("file-server",))
    assert parse_request("a=file-server+media-server@10.0.0.1") == NodeRequest(
        "a", ("file-server", "media-server"), "10.0.0.1"
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fs1",
        "fs1=",
        "=file-server",
        "FS=file-server",
        "fs1=tape",
        "fs1=file-server@x",
        "fs1=file-server@",
    ],
)
def test_a_malformed_request_is_refused(text: str) -> None:
    """The error repeats what was written."""
    with pytest.raises(ConfigurationError, match=r"must be NAME=|no role|not an IP address"):
        parse_request(text)


def test_an_authority_is_never_overwritten(authority: Path) -> None:
    """A second `ca init` in the same place would cut off every node, and is refused."""
    before = (authority / "ca.key").read_bytes()
    with pytest.raises(ConfigurationError, match="holds an authority already"):
        create_authority(authority)
    assert (authority / "ca.key").read_bytes() == before


def test_keys_are_private(authority: Path, tmp_path: Path) -> None:
    """Both keys are 0600, and a widened authority key is refused."""
    directory = issue(authority, tmp_path, FS1)
    for key in (authority / "ca.key", directory / "node.key"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    other = tmp_path / "other"
    create_authority(other)
    (other / "ca.key").chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        issue(other, tmp_path, FS1)


def test_nodes_know_each_other_by_certificate(authority: Path, tmp_path: Path) -> None:
    """Over TLS 1.3, each side learns the other's node name and roles."""
    server = _config(issue(authority, tmp_path, FS1))
    client = _config(issue(authority, tmp_path, CONN1))
    (accepted, seen_by_server), (connected, seen_by_client) = _connect(
        server_context(server), client_context(client)
    )
    with accepted, connected:
        assert accepted.version() == "TLSv1.3"
        assert seen_by_server == Identity("conn1", frozenset({"connection-server", "media-server"}))
        assert seen_by_client == Identity("fs1", frozenset({"file-server"}))
        certificate = connected.getpeercert()
        assert certificate is not None
        assert ("IP Address", "10.77.0.11") in certificate["subjectAltName"]


def test_a_stream_that_is_cut_is_no_end(authority: Path, tmp_path: Path) -> None:
    """A connection that goes away without TLS's closing message raises after its last data."""
    config = _config(issue(authority, tmp_path, FS1))
    (accepted, _), (connected, _) = _connect(server_context(config), client_context(config))
    with accepted, connected:
        connected.sendall(b"data")
        # Below TLS, so that no closing message goes out.
        connected.shutdown(socket.SHUT_WR)
        assert accepted.recv(16) == b"data"
        # SSLEOFError from Python 3.11.4 on, its base class with the same words before (Debian 12).
        with pytest.raises(ssl.SSLError, match=r"(?i)EOF"):
            accepted.recv(16)


def test_a_stream_that_is_closed_ends_cleanly(authority: Path, tmp_path: Path) -> None:
    """TLS's closing message reads as the end of the stream."""
    config = _config(issue(authority, tmp_path, FS1))
    (accepted, _), (connected, _) = _connect(server_context(config), client_context(config))
    with accepted, connected, ThreadPoolExecutor(1) as pool:
        connected.sendall(b"data")
        closing = pool.submit(connected.unwrap)
        assert (accepted.recv(16), accepted.recv(16)) == (b"data", b"")
        accepted.unwrap()
        closing.result()


def _stranger(authority: Path, tmp_path: Path) -> Path:
    create_authority(tmp_path / "stranger")
    return issue(tmp_path / "stranger", tmp_path / "other", FS1)


def _expired(authority: Path, tmp_path: Path) -> Path:
    return issue(authority, tmp_path / "old", FS1, now=datetime.now(UTC) - timedelta(days=1000))


def _future(authority: Path, tmp_path: Path) -> Path:
    return issue(authority, tmp_path / "new", FS1, now=datetime.now(UTC) + timedelta(days=3))


@pytest.mark.parametrize("make", [_stranger, _expired, _future])
def test_a_certificate_that_does_not_hold_is_refused(
    authority: Path, tmp_path: Path, make: Callable[[Path, Path], Path]
) -> None:
    """A node of another cluster, or one whose certificate has run out, is turned away by both sides."""
    good = _config(issue(authority, tmp_path, FS1))
    bad = _config(make(authority, tmp_path))
    with pytest.raises(PeerError, match="no TLS with a node of this cluster"):
        _connect(server_context(bad), client_context(good))
    left, right = socket.socketpair()
    left.settimeout(TIMEOUT_SECONDS)
    right.settimeout(TIMEOUT_SECONDS)
    with ThreadPoolExecutor(1) as pool:
        accepting = pool.submit(handshake, server_context(good), left, server_side=True)
        wrapper = client_context(bad)
        # The client's own check of the server must not end the handshake first.
        wrapper.verify_mode = ssl.CERT_NONE
        with right, wrapper.wrap_socket(right), pytest.raises(PeerError):
            accepting.result()


def test_a_clock_that_is_behind_still_accepts(authority: Path, tmp_path: Path) -> None:
    """A certificate made by a clock up to a day ahead is valid now."""
    early = issue(authority, tmp_path, FS1, now=datetime.now(UTC) + timedelta(hours=23))
    config = _config(early)
    (accepted, _), (connected, identity) = _connect(server_context(config), client_context(config))
    with accepted, connected:
        assert identity.node == "fs1"


def test_a_client_without_certificate_is_refused(authority: Path, tmp_path: Path) -> None:
    """The server insists on a certificate."""
    server = _config(issue(authority, tmp_path, FS1))
    left, right = socket.socketpair()
    left.settimeout(TIMEOUT_SECONDS)
    right.settimeout(TIMEOUT_SECONDS)
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname = False
    bare.verify_mode = ssl.CERT_NONE
    with ThreadPoolExecutor(1) as pool:
        accepting = pool.submit(handshake, server_context(server), left, server_side=True)
        with right, bare.wrap_socket(right), pytest.raises(PeerError):
            accepting.result()


def test_roles_are_required_by_name() -> None:
    """One of the roles suffices; none of them is an error that names node and roles."""
    identity = Identity("fs2", frozenset({"file-server"}))
    identity.require("connection-server", "file-server")
    with pytest.raises(RoleError, match="node fs2 has file-server; this needs connection-server"):
        identity.require("connection-server")


def test_unusable_files_name_the_section_and_the_remedy(authority: Path, tmp_path: Path) -> None:
    """A missing certificate or a widened key stops a node with one clear line."""
    directory = issue(authority, tmp_path, FS1)
    (directory / "node.pem").unlink()
    with pytest.raises(ConfigurationError, match=r"node\.toml: \[cluster\].*spanreel ca"):
        server_context(_config(directory))
    (directory / "node.key").chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        client_context(_config(directory))


def test_the_commands_make_a_cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`ca init` and `ca issue` make files that nodes can use; one bad name makes none at all."""
    authority, out = str(tmp_path / "ca"), tmp_path / "nodes"
    assert cli.run(["ca", "init", "--out", authority]) == 0
    issue_here = ["ca", "issue", "--ca", authority, "--out", str(out)]
    assert cli.run([*issue_here, "fs1=file-server", "fs2=tape"]) == 2
    assert not out.exists()
    assert cli.run([*issue_here, "fs1=file-server@10.77.0.11", "conn1=connection-server"]) == 0
    assert sorted(path.name for path in (out / "conn1").iterdir()) == ["ca.pem", "node.key", "node.pem"]
    server_context(_config(out / "fs1"))
    assert cli.run(["ca", "issue", "--ca", str(tmp_path), "--out", str(out), "fs1=file-server"]) == 2
    assert "ca.key: cannot read" in capsys.readouterr().err
