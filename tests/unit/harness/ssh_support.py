"""Machines for the provider `machines` without any: SSH servers in this process that run commands here.

Each connection is a pair of sockets; a server lets one key in, and can be switched off.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

import paramiko

from harness.providers.libvirt.identity import ensure_key


class LocalMachine(paramiko.ServerInterface):
    """One SSH server; commands run on this machine."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.host_key = ensure_key(folder / "host")
        self.identity = folder / "client"
        self._client_key = ensure_key(self.identity)
        self._host = paramiko.Ed25519Key.from_private_key_file(str(folder / "host"))
        self._transports: list[paramiko.Transport] = []
        self.is_on = True
        self.commands: list[list[str]] = []

    def connect(self, timeout: float) -> socket.socket:
        """Stand for `socket.create_connection`."""
        if not self.is_on:
            raise ConnectionRefusedError(111, "Connection refused")
        ours, theirs = socket.socketpair()
        transport = paramiko.Transport(theirs)
        transport.add_server_key(self._host)
        self._transports.append(transport)
        transport.start_server(event=threading.Event(), server=self)
        ours.settimeout(timeout)
        return ours

    def close(self) -> None:
        """End all connections."""
        for transport in self._transports:
            transport.close()
        for transport in self._transports:
            transport.join(5)

    # --- what paramiko asks ---------------------------------------------------------------------

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        good = key.get_base64() == self._client_key.split()[1]
        return paramiko.AUTH_SUCCESSFUL if good else paramiko.AUTH_FAILED

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self.commands.append(shlex.split(os.fsdecode(command)))
        threading.Thread(target=_serve, args=(channel, command), daemon=True).start()
        return True


def _serve(channel: paramiko.Channel, command: bytes) -> None:
    """Run one command with its three streams."""
    with subprocess.Popen(
        ["sh", "-c", command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        feeding = threading.Thread(target=_feed, args=(channel, child.stdin), daemon=True)
        errors = threading.Thread(target=_pass_on, args=(child.stderr, channel.sendall_stderr), daemon=True)
        feeding.start()
        errors.start()
        _pass_on(child.stdout, channel.sendall)
        errors.join()
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            channel.send_exit_status(child.wait())
            channel.close()
        feeding.join(5)


def _feed(channel: paramiko.Channel, stdin: IO[bytes]) -> None:
    with contextlib.suppress(OSError), stdin:
        while block := channel.recv(65536):
            stdin.write(block)


def _pass_on(source: IO[bytes], send: Callable[[bytes], None]) -> None:
    with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
        while block := source.read(65536):
            send(block)
