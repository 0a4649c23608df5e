"""A fresh media server for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.mediaserver.support import Site


@pytest.fixture
def overlaps() -> bool:
    """Whether a drive's commands run by themselves, as with sg.  Tests of streams have both."""
    return False


@pytest.fixture
def site(tmp_path: Path, overlaps: bool) -> Iterator[Site]:
    """A media server with the default profile."""
    made = Site(tmp_path / "library", overlaps=overlaps)
    yield made
    made.close()


@pytest.fixture
def strict_site(tmp_path: Path, overlaps: bool) -> Iterator[Site]:
    """A media server that keeps to the letter of the draft."""
    made = Site(tmp_path / "library", strict=True, overlaps=overlaps)
    yield made
    made.close()
