import contextlib
import io
import os
import shlex
import socket
import tempfile
import threading

import paramiko
import pytest

from harness.errors import CommandError, InfrastructureError
from harness.providers.libvirt.identity import ensure_key
from harness.ssh import Ssh, own_descriptor


class FakeNode(paramiko.ServerInterface):
    """An SSH server that answers commands from a table: text of the command → (code, stdout, stderr)."""

    def __init__(self, answers, client_key):
        self.answers = answers
        self.client_key = client_key
        self.commands = []

    def check_auth_publickey(self, username, key):
        good = username == "root" and key.get_base64() == self.client_key.split()[1]
        return paramiko.AUTH_SUCCESSFUL if good else paramiko.AUTH_FAILED

    def get_allowed_auths(self, username):
        return "publickey"

    def check_channel_request(self, kind, chanid):
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel, command):
        self.commands.append(command)
        threading.Thread(target=self.answer, args=(channel, command), daemon=True).start()
        return True

    def answer(self, channel, command):
        stdin = b""
        while block := channel.recv(65536):
            stdin += block
        answer = next(item for word, item in self.answers.items() if word in command)
        code, out, err = answer(stdin) if callable(answer) else answer
        # The client may have given up by now.
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            channel.sendall(out)
            channel.sendall_stderr(err)
            if code is not None:
                channel.send_exit_status(code)
            channel.close()


@pytest.fixture
def node(tmp_path):
    """A connection to a fake node, and the node."""
    host_public = ensure_key(tmp_path / "host")
    client_public = ensure_key(tmp_path / "client")
    server = FakeNode({}, client_public)
    transports = []

    def connect(timeout):
        ours, theirs = socket.socketpair()
        transport = paramiko.Transport(theirs)
        transport.add_server_key(paramiko.Ed25519Key.from_private_key_file(str(tmp_path / "host")))
        transports.append(transport)
        transport.start_server(event=threading.Event(), server=server)
        ours.settimeout(timeout)
        return ours

    ssh = Ssh("fs1", connect, "root", tmp_path / "client", host_public, {"LC_ALL": "C.UTF-8"})
    yield ssh, server
    ssh.close()
    for transport in transports:
        transport.close()
    for transport in transports:
        transport.join(5)


def run(ssh, argv, stdin=b"", timeout=20):
    """Run a command and collect what it wrote."""
    out, err = io.BytesIO(), io.BytesIO()
    code = ssh.exec(argv, stdin=io.BytesIO(stdin), stdout=out, stderr=err, timeout=timeout)
    return code, out.getvalue(), err.getvalue()


def test_streams_and_exit_code_pass_through(node):
    """Streams and exit code pass through."""
    ssh, server = node
    server.answers[b"cat"] = lambda stdin: (7, stdin[::-1], b"oops")
    assert run(ssh, ["cat"], b"abc") == (7, b"cba", b"oops")


def test_what_is_sent_late_is_not_the_next_commands_input():
    """A command may be over before its input was read; the number of that file is the next one's by then."""
    with tempfile.TemporaryFile() as first:
        first.write(b"first")
        first.seek(0)
        late = own_descriptor(first)
    with tempfile.TemporaryFile() as second, late:
        second.write(b"second")
        second.seek(0)
        assert late.read() == b"first"
        assert second.read() == b"second"


def test_arguments_reach_the_command_as_they_are(node):
    """Arguments reach the command as they are."""
    ssh, server = node
    server.answers[b"printf"] = (0, b"", b"")
    argv = ["printf", "a b", "$HOME", "it's", "x\ny", os.fsdecode(b"\xff")]
    run(ssh, argv)
    words = shlex.split(os.fsdecode(server.commands[0]).rsplit(";", 1)[0])
    assert words[words.index("env") + 2 :] == argv


def test_failed_run_names_the_node_and_its_words(node):
    """Failed run names the node and its words."""
    ssh, server = node
    server.answers[b"false"] = (1, b"", b"no such thing")
    with pytest.raises(CommandError, match=r"fs1: `false` ended with exit code 1: no such thing"):
        ssh.run(["false"])


def test_lost_connection_is_no_exit_code(node):
    """Lost connection is no exit code."""
    ssh, server = node
    server.answers[b"crash"] = (None, b"", b"")
    with pytest.raises(InfrastructureError, match="fs1: lost the connection while `crash` ran"):
        run(ssh, ["crash"])


def test_silence_is_bounded_when_asked(node):
    """Silence is bounded when asked."""
    ssh, server = node
    over = threading.Event()
    server.answers[b"hang"] = lambda stdin: (int(over.wait(60)), b"", b"")
    try:
        with pytest.raises(InfrastructureError, match="fs1: `hang` did not end within 1 s without output"):
            ssh.exec(["hang"], stdin=None, stdout=io.BytesIO(), stderr=io.BytesIO(), timeout=30, idle=1)
    finally:
        over.set()


def test_our_own_full_disk_is_our_own_error(node):
    """Our own full disk is our own error."""
    ssh, server = node
    server.answers[b"yes"] = (0, b"y" * 100_000, b"")
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(OSError, match="No space left"):
        ssh.exec(["yes"], stdin=None, stdout=full, stderr=io.BytesIO(), timeout=20)


def test_another_host_key_is_refused(node, tmp_path):
    """Another host key is refused."""
    ssh, _server = node
    ssh.host_key = ensure_key(tmp_path / "other")
    with pytest.raises(InfrastructureError, match="fs1: no SSH connection"):
        ssh.open(5)


def test_unreachable_node_is_named(tmp_path):
    """Unreachable node is named."""

    def refuse(timeout):
        raise ConnectionRefusedError(111, "Connection refused")

    ssh = Ssh("fs2", refuse, "root", tmp_path / "client", ensure_key(tmp_path / "client"))
    with pytest.raises(InfrastructureError, match=r"fs2: no SSH connection.*refused"):
        ssh.open(1)


def test_files_are_sent_and_fetched(node):
    """Files are sent and fetched."""
    ssh, server = node
    seen = []
    server.answers[b"mktemp"] = lambda stdin: (seen.append(stdin), (0, b"", b""))[1]
    server.answers[b"exec cat"] = (0, b"content", b"")
    ssh.put(io.BytesIO(b"sent"), "/etc/x", 0o640)
    assert seen == [b"sent"]
    assert b"chmod 640" in server.commands[0]
    target = io.BytesIO()
    ssh.get("/etc/x", target)
    assert target.getvalue() == b"content"
