"""How paths and times are shown."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.text import local_time, path_from_json, path_json, show_path


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (b"/plain name", "/plain name"),
        ("/Müller/日本".encode(), "/Müller/日本"),
        (b"/latin\xe9", "/latin\\xe9"),
        (b"/two\nlines\x1b[31m", "/two\\x0alines\\x1b[31m"),
        ("/\u202egnp.exe".encode(), "/\\xe2\\x80\\xaegnp.exe"),
        ("/line\u2028separator".encode(), "/line\\xe2\\x80\\xa8separator"),
    ],
)
def test_people_see_utf8_and_hex_for_the_rest(path: bytes, shown: str) -> None:
    """Readable names stay readable; bytes that are not UTF-8 or act on terminals become xNN."""
    assert show_path(path) == shown


@given(st.binary())
def test_a_shown_path_is_one_line_that_any_terminal_takes(path: bytes) -> None:
    """No byte string can break out of its line or fail to be printed."""
    shown = show_path(path)
    shown.encode("utf-8")
    assert len(shown.splitlines()) <= 1


@given(st.binary())
def test_json_keeps_the_exact_bytes(path: bytes) -> None:
    """What path_json writes, path_from_json reads back, through real JSON, for any bytes."""
    assert path_from_json(json.loads(json.dumps(path_json(path, "local"))), "local") == path


def test_json_written_by_people_needs_no_base64() -> None:
    """A plain `path` is enough."""
    assert path_from_json({"path": "/projects/é"}) == "/projects/é".encode()


@pytest.mark.parametrize("entry", [{}, {"path": 3}, {"path_base64": 3}, {"path_base64": "%%%"}])
def test_a_malformed_json_path_is_named(entry: dict[str, object]) -> None:
    """The error names the key."""
    with pytest.raises(ValueError, match="'path"):
        path_from_json(entry)


def test_times_are_local_with_their_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stored UTC time is shown in the reader's zone, which is named."""
    monkeypatch.setenv("TZ", "JST-9")
    time.tzset()
    try:
        assert local_time(0) == "1970-01-01 09:00:00 JST"
    finally:
        monkeypatch.undo()
        time.tzset()
