"""What `spanreel session` and a running node say to each other: one JSON object a line.  No I/O.

request   {"do": "list"}                      {"do": "kill", "id": "3f9a-12"}
answer    {"sessions": [...]}                 {"killed": "3f9a-12", "gone": true}
          {"error": "what is wrong"}
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

LINE_MAX = 64 << 20
"""Bytes of a line: 16,384 sessions of a kilobyte or two fit."""

REQUEST_MAX = 4096
"""Bytes of a request: an id is short."""


class LineError(Exception):
    """A line that is no request or answer; the text says why."""


@dataclass(frozen=True)
class Request:
    """What is asked for: `do` is `list` or `kill`, `id` the session to kill."""

    do: str
    id: str = ""


def encode_request(request: Request) -> bytes:
    """Return the line of a request."""
    return _line({"do": request.do, "id": request.id} if request.id else {"do": request.do})


def decode_request(line: bytes) -> Request:
    """Return the request in a line.  Raises LineError."""
    found = _object(line)
    do, number = found.get("do"), found.get("id", "")
    if do not in ("list", "kill") or not isinstance(number, str) or (do == "kill") != bool(number):
        raise LineError("a request is list, or kill with an id")
    return Request(do, number)


def answer(
    line: bytes, sessions: Callable[[], list[dict[str, object]]], kill: Callable[[str], bool | None]
) -> bytes:
    """Return the line that answers a request's line.

    `kill` ends a session and returns whether it is gone already; None when there is no such session.
    """
    try:
        request = decode_request(line)
    except LineError as error:
        return _line({"error": str(error)})
    if request.do == "list":
        return _line({"sessions": sessions()})
    gone = kill(request.id)
    if gone is None:
        return _line({"error": f"there is no session {request.id}"})
    return _line({"killed": request.id, "gone": gone})


def decode_answer(line: bytes) -> dict[str, Any]:
    """Return what an answer holds.  Raises LineError, with the text of one that is an error."""
    found = _object(line)
    if "error" in found:
        raise LineError(str(found["error"]))
    return found


def _object(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise LineError(f"not JSON: {error}") from error
    if not isinstance(found, dict):
        raise LineError("not a JSON object")
    return found


def _line(document: dict[str, object]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"
