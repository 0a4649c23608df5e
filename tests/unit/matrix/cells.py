"""A matrix as text: a request a line, a column a state, in each cell the expected error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from appliance.ndmp.enums import ErrorCode
from appliance.ndmp.xdr import Struct

WORDS = {
    "ok": ErrorCode.NO_ERR,
    "STATE": ErrorCode.ILLEGAL_STATE,
    "ARGS": ErrorCode.ILLEGAL_ARGS,
    "PREC": ErrorCode.PRECONDITION,
    "PERM": ErrorCode.PERMISSION,
    "AUTH": ErrorCode.NOT_AUTHORIZED,
    "NOTOPEN": ErrorCode.DEV_NOT_OPEN,
    "OPENED": ErrorCode.DEVICE_OPENED,
    "BUSY": ErrorCode.DEVICE_BUSY,
    "NODEV": ErrorCode.NO_DEVICE,
    "NOSUP": ErrorCode.NOT_SUPPORTED,
    "CONN": ErrorCode.CONNECT,
    "READING": ErrorCode.READ_IN_PROGRESS,
    "EOM": ErrorCode.EOM,
    "EOF": ErrorCode.EOF,
}


class Cell(NamedTuple):
    """One cell of a matrix."""

    state: str
    request: str
    expected: ErrorCode

    def __str__(self) -> str:
        return f"{self.state} {self.request}"


def cells(matrix: str, requests: Mapping[str, Struct]) -> Iterator[Cell]:
    """The cells of a matrix, whose first line names the states; `.` leaves one out."""
    head, *lines = [line.split() for line in matrix.strip().splitlines()]
    seen = set()
    for name, *words in lines:
        assert len(words) == len(head), name
        assert name in requests, name
        seen.add(name)
        for state, word in zip(head, words, strict=True):
            if word != ".":
                yield Cell(state, name, WORDS[word])
    assert seen == set(requests), "every request has its line"
