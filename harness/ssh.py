"""SSH to a node, wrapped once: paramiko with timeouts everywhere and the node's name in every error.

One connection per node, opened when first needed, shared by all threads, opened again after it broke.
Commands run in channels of it, so several can run at once.
"""

from __future__ import annotations

import base64
import contextlib
import io
import os
import shlex
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import paramiko

from harness.errors import CommandError, InfrastructureError

# A machine that was emulated on a busy host has needed 20 s for the key exchange.
CONNECT_SECONDS = 60.0
# A dead peer is noticed while nothing is sent.
KEEPALIVE_SECONDS = 15
# After its time a command gets TERM, this long later KILL; then we stop waiting for the node, too.
KILL_GRACE_SECONDS = 5
_NODE_GRACE_SECONDS = 30.0
_BLOCK_BYTES = 256 * 1024

Connect = Callable[[float], socket.socket]


@dataclass
class Ssh:
    """One node over SSH.

    `connect` makes the TCP connection (in a network namespace, if need be). The node must show
    `host_key`, an OpenSSH public key (or several kinds, a line each); we answer with the private key in
    `identity`.  `prefix` stands before every command (sudo).
    """

    node: str
    connect: Connect
    user: str
    identity: Path
    host_key: str
    environment: dict[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()
    _client: paramiko.SSHClient | None = field(default=None, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def open(self, timeout: float = CONNECT_SECONDS) -> paramiko.Transport:
        """The connection, made now if there is none."""
        with self._lock:
            transport = self._client.get_transport() if self._client else None
            if transport is None or not transport.is_active():
                self._client = self._connected(timeout)
                transport = self._client.get_transport()
            assert transport is not None
            return transport

    def close(self) -> None:
        """End the connection; the next command opens another."""
        with self._lock:
            if self._client:
                self._client.close()
                self._client = None

    def exec(
        self,
        argv: Sequence[str],
        *,
        stdin: BinaryIO | None,
        stdout: BinaryIO,
        stderr: BinaryIO,
        timeout: float,
        idle: float | None = None,
    ) -> int:
        """Run a command, streaming, and return its exit code.

        After `timeout` seconds the node ends it; `idle` bounds the time without a byte of output.
        """
        transport = self.open()
        try:
            channel = transport.open_session(timeout=CONNECT_SECONDS)
            channel.exec_command(self._command_line(argv, timeout))
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise InfrastructureError(f"{self.node}: cannot run {argv[0]} over SSH: {error}") from error
        with contextlib.closing(channel):
            return _Streams(self.node, argv, channel, stdin, stdout, stderr).pump(timeout, idle)

    def run(self, argv: Sequence[str], stdin: bytes = b"", *, timeout: float = 600.0) -> bytes:
        """Run a command that must succeed; return its standard output."""
        out, err = io.BytesIO(), io.BytesIO()
        code = self.exec(argv, stdin=io.BytesIO(stdin), stdout=out, stderr=err, timeout=timeout)
        if code != 0:
            raise CommandError(self.node, argv, code, err.getvalue() or out.getvalue())
        return out.getvalue()

    def put(self, source: BinaryIO, target: str, mode: int) -> None:
        """Write a file on the node in one step: parents are made, a reader never sees half of it."""
        script = (
            f'set -e; d=$(dirname -- "$1"); mkdir -p -- "$d"; t=$(mktemp -- "$d/.put.XXXXXX"); '
            f'cat >"$t"; chmod {mode:o} "$t"; mv -f -- "$t" "$1"'
        )
        self._shell(script, target, source, io.BytesIO())

    def get(self, source: str, target: BinaryIO) -> None:
        """Read a file of the node."""
        self._shell('exec cat -- "$1"', source, None, target)

    def _shell(self, script: str, path: str, stdin: BinaryIO | None, stdout: BinaryIO) -> None:
        argv, err = ["sh", "-c", script, "sh", path], io.BytesIO()
        code = self.exec(argv, stdin=stdin, stdout=stdout, stderr=err, timeout=3600.0)
        if code != 0:
            raise CommandError(self.node, ["copy", path], code, err.getvalue())

    def _connected(self, timeout: float) -> paramiko.SSHClient:
        client = paramiko.SSHClient()
        for line in self.host_key.splitlines():
            kind, blob = line.split()[:2]
            client.get_host_keys().add(
                self.node, kind, paramiko.PKey.from_type_string(kind, base64.b64decode(blob))
            )
        client.set_missing_host_key_policy(paramiko.RejectPolicy())
        try:
            client.connect(
                self.node,
                username=self.user,
                key_filename=str(self.identity),
                sock=self.connect(timeout),
                timeout=timeout,
                banner_timeout=timeout,
                auth_timeout=timeout,
                channel_timeout=timeout,
                allow_agent=False,
                look_for_keys=False,
            )
        except (paramiko.SSHException, OSError, EOFError) as error:
            client.close()
            raise InfrastructureError(
                f"{self.node}: no SSH connection: {error or type(error).__name__}"
            ) from error
        transport = client.get_transport()
        assert transport is not None
        transport.set_keepalive(KEEPALIVE_SECONDS)
        return client

    def _command_line(self, argv: Sequence[str], timeout: float) -> bytes:
        """What the node's shell gets: nothing in argv is interpreted, and the command ends with its time."""
        words = [*self.prefix, "timeout", f"--kill-after={KILL_GRACE_SECONDS}", f"{timeout:.0f}", "env"]
        words += [f"{name}={value}" for name, value in self.environment.items()]
        # The shell stays: it makes an exit code of the signal that ended a command; paramiko would lose it.
        return os.fsencode(shlex.join([*words, *argv]) + "; exit $?")


class _Streams:
    """The three streams of one running command, each moved by a thread of its own."""

    def __init__(
        self,
        node: str,
        argv: Sequence[str],
        channel: paramiko.Channel,
        stdin: BinaryIO | None,
        stdout: BinaryIO,
        stderr: BinaryIO,
    ) -> None:
        self._node = node
        self._argv = argv
        self._channel = channel
        self._stdin = stdin
        self._outputs = (
            threading.Thread(target=self._receive, args=(channel.recv, stdout), daemon=True),
            threading.Thread(target=self._receive, args=(channel.recv_stderr, stderr), daemon=True),
        )
        self._failure: OSError | None = None
        self._last_byte = time.monotonic()

    def pump(self, timeout: float, idle: float | None) -> int:
        """Move bytes until the command has ended; return its exit code."""
        # The thread that reads our input may be left waiting for a terminal; it ends with the process.  Its
        # descriptor is its own: by the time it runs the command may be over, and the number given to the
        # input of the next one.
        source = None if self._stdin is None else own_descriptor(self._stdin)
        threading.Thread(target=self._send, args=(source,), daemon=True).start()
        for thread in self._outputs:
            thread.start()
        deadline = time.monotonic() + timeout + KILL_GRACE_SECONDS + _NODE_GRACE_SECONDS
        while any(thread.is_alive() for thread in self._outputs):
            now = time.monotonic()
            if now > deadline or (idle is not None and now - self._last_byte > idle):
                self._channel.close()
                bound = f"{timeout:.0f} s" if now > deadline else f"{idle:.0f} s without output"
                raise InfrastructureError(f"{self._node}: `{self._argv[0]}` did not end within {bound}")
            for thread in self._outputs:
                thread.join(0.2)
        if self._failure is not None:
            raise self._failure
        # -1: the connection broke before the node could say how the command ended.
        code = self._channel.recv_exit_status()
        if code < 0:
            raise InfrastructureError(f"{self._node}: lost the connection while `{self._argv[0]}` ran")
        return code

    def _send(self, source: BinaryIO | None) -> None:
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            while source is not None and (block := source.read(_BLOCK_BYTES)):
                self._channel.sendall(block)
            self._channel.shutdown_write()
        if source is not None and source is not self._stdin:
            source.close()

    def _receive(self, receive: Callable[[int], bytes], target: BinaryIO) -> None:
        try:
            while block := receive(_BLOCK_BYTES):
                self._last_byte = time.monotonic()
                target.write(block)
                target.flush()
        except OSError as error:
            # Our side cannot take more (a closed pipe, a full disk): the command need not go on.
            self._failure = error
            self._channel.close()


def own_descriptor(stream: BinaryIO) -> BinaryIO:
    """A stream's bytes by a descriptor of one's own, if it has one.

    Without a buffer: a daemon thread inside a buffered reader would hold its lock while the interpreter ends.
    """
    try:
        descriptor = stream.fileno()
    except (AttributeError, OSError):
        return stream
    return open(os.dup(descriptor), "rb", buffering=0)
