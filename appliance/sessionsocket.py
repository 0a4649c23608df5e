"""The Unix sockets by which `spanreel session` reaches the processes of its own node.

Each process of a node listens in STATE/sessions, at a name made of its roles, readable for its own user only.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from appliance.errors import InfrastructureError
from appliance.ndmp.lazylog import get_logger
from appliance.ndmp.server import ACCEPT_RETRY_S
from appliance.ndmp.sessions import Sessions, say_goodbye
from appliance.sessionlines import (
    LINE_MAX,
    REQUEST_MAX,
    LineError,
    Request,
    answer,
    decode_answer,
    encode_request,
)

FOLDER = "sessions"
SUFFIX = ".sock"

ANSWER_TIMEOUT_S = 30.0
"""A node answers from memory; a kill waits `GONE_S` at most."""

GONE_S = 10.0
"""How long a kill waits for the session to give everything back; a drive may finish a command first."""

REQUEST_TIMEOUT_S = 5.0
"""Who connects sends its one line within this."""

_PRIVATE = 0o600
_PRIVATE_FOLDER = 0o700


class SessionSocket:
    """The listening end, in a process that serves roles."""

    def __init__(self, state: Path, roles: Iterable[str], sessions: Sessions) -> None:
        """`state`: the node's state folder.

        Raises InfrastructureError when the socket cannot be made, or another process of these roles has it.
        """
        self._sessions = sessions
        self._folder = state / FOLDER
        self._name = "+".join(sorted(roles)) + SUFFIX
        self._log = get_logger()
        self._stopped = threading.Event()
        try:
            self._folder.mkdir(mode=_PRIVATE_FOLDER, parents=True, exist_ok=True)
            self._listener = self._listen()
        except OSError as error:
            raise InfrastructureError(
                f"{self._folder / self._name}: cannot listen: {error.strerror}"
            ) from error

    def start(self) -> None:
        """Answer in a thread of its own."""
        threading.Thread(target=self._serve, name="session-socket", daemon=True).start()

    def stop(self) -> None:
        """Stop listening, and remove the socket."""
        self._stopped.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        (self._folder / self._name).unlink(missing_ok=True)

    def _listen(self) -> socket.socket:
        self._remove_stale()
        listener = socket.socket(socket.AF_UNIX)
        try:
            # The mode of the socket before it has a name is that of the name: nobody connects in between.
            os.fchmod(listener.fileno(), _PRIVATE)
            with _short(self._folder) as folder:
                listener.bind(f"{folder}/{self._name}")
            listener.listen()
        except BaseException:
            listener.close()
            raise
        return listener

    def _remove_stale(self) -> None:
        """Remove what a process that was killed left.  Raises InfrastructureError when one listens."""
        path = self._folder / self._name
        try:
            with _connected(path):
                pass
        except FileNotFoundError:
            return
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except BlockingIOError:
            # Its queue is full: it listens, and is busy.
            pass
        raise InfrastructureError(
            f"{path}: another process of this node has these roles; is it running twice?"
        )

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                if self._stopped.wait(ACCEPT_RETRY_S):
                    return
                self._log.error("no session command can be accepted", why=str(error))
                continue
            # One after the other: whoever may connect may also end the process.
            with connection, contextlib.suppress(OSError):
                connection.settimeout(REQUEST_TIMEOUT_S)
                connection.sendall(answer(_read_line(connection, REQUEST_MAX), self._list, self._kill))

    def _list(self) -> list[dict[str, object]]:
        return [live.describe() for live in self._sessions.all()]

    def _kill(self, number: str) -> bool | None:
        live = self._sessions.find(number)
        if live is None:
            return None
        self._log.warning("session killed", session=number, peer=live.session.peer)
        say_goodbye([live], "the session was ended by the administrator")
        live.cut()
        return live.gone.wait(GONE_S)


def ask_all(state: Path, request: Request) -> list[dict[str, Any]]:
    """Ask every process of this node, and return the answers that are no errors.

    Raises InfrastructureError when no process runs, does not answer, or may not be asked; LineError with the
    text of the last error when there is no other answer.
    """
    answers: list[dict[str, Any]] = []
    refused: LineError | None = None
    asked = 0
    for path in sorted((state / FOLDER).glob(f"*{SUFFIX}")):
        try:
            with _connected(path) as connection:
                asked += 1
                connection.sendall(encode_request(request))
                answers.append(decode_answer(_read_line(connection, LINE_MAX)))
        except LineError as error:
            refused = error
        except (ConnectionRefusedError, FileNotFoundError):
            # Left by a process that was killed.
            continue
        except OSError as error:
            raise InfrastructureError(f"{path}: no answer: {error.strerror or error}") from error
    if not asked:
        raise InfrastructureError(
            f"no process of this node answers at {state / FOLDER}; is `spanreel serve` running, as this user?"
        )
    if refused is not None and not answers:
        raise refused
    return answers


@contextlib.contextmanager
def _connected(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as connection, _short(path.parent) as folder:
        connection.settimeout(ANSWER_TIMEOUT_S)
        connection.connect(f"{folder}/{path.name}")
        yield connection


@contextlib.contextmanager
def _short(folder: Path) -> Iterator[str]:
    """A short name of a folder while the block runs: addresses of Unix sockets hold 107 bytes."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _read_line(connection: socket.socket, limit: int) -> bytes:
    """One line, or what came of it."""
    pieces, count = [], 0
    while count < limit:
        piece = connection.recv(min(1 << 16, limit - count))
        pieces.append(piece)
        count += len(piece)
        if not piece or piece.endswith(b"\n"):
            break
    return b"".join(pieces)
