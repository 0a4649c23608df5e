"""Certificates, and the TLS that rests on them."""

from __future__ import annotations

import json
import re
import shutil
import socket
import ssl
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog

from appliance import cli
from appliance.config import NodeConfig, parse
from appliance.config_examples import example
from appliance.errors import ConfigurationError
from appliance.pki import NodeRequest, create_authority, issue, parse_request
from appliance.pki_register import renew, revoke
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


def _config(files: Path, revoked: Path | None = None) -> NodeConfig:
    text = example(["file-server"]).replace("/etc/spanreel/tls", str(files))
    line = f'revoked = "{revoked}"\n' if revoked is not None else ""
    return parse(re.sub(r"(?m)^revoked = .*\n", line, text), Path("node.toml"))


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


def _refused(server: ssl.SSLContext, client: ssl.SSLContext) -> str:
    """Why the server turns a client away."""
    left, right = socket.socketpair()
    left.settimeout(TIMEOUT_SECONDS)
    right.settimeout(TIMEOUT_SECONDS)
    with ThreadPoolExecutor(1) as pool:
        accepting = pool.submit(handshake, server, left, server_side=True)
        with client.wrap_socket(right), pytest.raises(PeerError) as error:
            accepting.result()
    return str(error.value)


def test_a_revoked_node_is_turned_away_without_a_restart(authority: Path, tmp_path: Path) -> None:
    """Contexts made before read the list again when it changes; others are let in as before."""
    files = issue(authority, tmp_path / "a", FS1)
    lost = _config(issue(authority, tmp_path / "a", NodeRequest("lost", ("file-server",))))
    good = _config(issue(authority, tmp_path / "a", CONN1))
    revoked = tmp_path / "crl.pem"
    shutil.copy(files / "crl.pem", revoked)
    config = _config(files, revoked)
    server, client = server_context(config), client_context(config)
    for one in _connect(server, client_context(lost)):
        one[0].close()
    revoke(authority, "lost")
    shutil.copy(authority / "crl.pem", revoked)
    assert "certificate revoked" in _refused(server, client_context(lost))
    # And the other way round: a revoked server is not spoken to.
    with pytest.raises(PeerError, match="certificate revoked"):
        _connect(server_context(lost), client)
    for one in _connect(server, client_context(good)):
        one[0].close()


def test_a_broken_list_of_revoked_leaves_the_last_one(authority: Path, tmp_path: Path) -> None:
    """A list that was copied half stops no cluster and lets no revoked node back in."""
    files = issue(authority, tmp_path / "b", FS1)
    lost = _config(issue(authority, tmp_path / "b", NodeRequest("gone", ("file-server",))))
    good = _config(issue(authority, tmp_path / "b", CONN1))
    revoke(authority, "gone")
    revoked = tmp_path / "crl.pem"
    shutil.copy(authority / "crl.pem", revoked)
    server = server_context(_config(files, revoked))
    for content in (b"", b"no list\n", (files / "ca.pem").read_bytes()):
        revoked.write_bytes(content)
        with structlog.testing.capture_logs() as lines:
            assert "certificate revoked" in _refused(server, client_context(lost))
        assert [line["event"] for line in lines] == ["the last list of revoked certificates stays"]
        for one in _connect(server, client_context(good)):
            one[0].close()


def test_a_node_does_not_start_without_its_list_of_revoked(authority: Path, tmp_path: Path) -> None:
    """A missing or foreign file is told with key and remedy, not taken for an empty list."""
    files = issue(authority, tmp_path, FS1)
    with pytest.raises(ConfigurationError, match=r"node\.toml: \[cluster\] revoked: cannot use .*crl\.pem"):
        server_context(_config(files, tmp_path / "none" / "crl.pem"))
    with pytest.raises(ConfigurationError, match="holds no list of revoked"):
        server_context(_config(files, files / "ca.pem"))


def test_renewing_keeps_key_roles_and_address(tmp_path: Path) -> None:
    """The new certificate works with the key that lies on the node, and holds longer than the old one."""
    authority = tmp_path / "ca"
    create_authority(authority)
    early = datetime.now(UTC) - timedelta(days=700)
    files = issue(authority, tmp_path / "node", FS1, now=early)
    renewed, until = renew(authority, tmp_path / "office", "fs1")
    assert sorted(path.name for path in renewed.iterdir()) == ["ca.pem", "crl.pem", "node.pem"]
    assert until > datetime.now(UTC) + timedelta(days=700)
    shutil.copy(renewed / "node.pem", files / "node.pem")
    config = _config(files)
    (accepted, _), (connected, identity) = _connect(server_context(config), client_context(config))
    with accepted, connected:
        assert identity == Identity("fs1", frozenset({"file-server"}))
        certificate = connected.getpeercert()
        assert certificate is not None
        assert ("IP Address", "10.77.0.11") in certificate["subjectAltName"]


def test_a_revoked_key_is_not_renewed(authority: Path, tmp_path: Path) -> None:
    """A node whose certificate was revoked comes back with a new key only."""
    files = issue(authority, tmp_path, NodeRequest("fs7", ("file-server",)))
    revoke(authority, "fs7")
    with pytest.raises(ConfigurationError, match="--new-key"):
        renew(authority, tmp_path, "fs7")
    before = (files / "node.key").read_bytes()
    renew(authority, tmp_path, "fs7", new_key=True)
    assert (files / "node.key").read_bytes() != before
    config = _config(files, authority / "crl.pem")
    for one in _connect(server_context(config), client_context(config)):
        one[0].close()


def test_the_commands_renew_revoke_and_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One certificate is revoked by its number, all of a node by its name; unknown ones are told."""
    authority, out = str(tmp_path / "ca"), str(tmp_path / "nodes")
    assert cli.run(["ca", "init", "--out", authority]) == 0
    assert (
        cli.run(["ca", "issue", "--ca", authority, "--out", out, "fs1=file-server", "fs2=file-server"]) == 0
    )
    assert cli.run(["ca", "renew", "--ca", authority, "--out", out, "fs1"]) == 0
    assert "restart it" in capsys.readouterr().out

    def states() -> list[tuple[str, str]]:
        assert cli.run(["ca", "list", "--ca", authority, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)["certificates"]
        return sorted((each["name"], each["state"]) for each in found)

    assert states() == [("fs1", "valid"), ("fs1", "valid"), ("fs2", "valid")]
    assert cli.run(["ca", "list", "--ca", authority]) == 0
    serial = next(line for line in capsys.readouterr().out.splitlines() if "fs1" in line).split()[-1]
    assert cli.run(["ca", "revoke", "--ca", authority, serial.upper()]) == 0
    assert "crl.pem to every node" in capsys.readouterr().out
    assert states() == [("fs1", "revoked"), ("fs1", "valid"), ("fs2", "valid")]
    assert cli.run(["ca", "revoke", "--ca", authority, "fs1"]) == 0
    capsys.readouterr()
    assert states() == [("fs1", "revoked"), ("fs1", "revoked"), ("fs2", "valid")]
    assert cli.run(["ca", "revoke", "--ca", authority, "fs9"]) == 2
    assert cli.run(["ca", "renew", "--ca", authority, "--out", out, "fs9"]) == 2
    assert "fs9" in capsys.readouterr().err


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
    assert sorted(path.name for path in (out / "conn1").iterdir()) == [
        "ca.pem",
        "crl.pem",
        "node.key",
        "node.pem",
    ]
    server_context(_config(out / "fs1"))
    assert cli.run(["ca", "issue", "--ca", str(tmp_path), "--out", str(out), "fs1=file-server"]) == 2
    assert "ca.key: cannot read" in capsys.readouterr().err
