"""A fresh media server for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.mediaserver.support import Site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A media server with the default profile."""
    made = Site(tmp_path / "library")
    yield made
    made.close()


@pytest.fixture
def strict_site(tmp_path: Path) -> Iterator[Site]:
    """A media server that keeps to the letter of the draft."""
    made = Site(tmp_path / "library", strict=True)
    yield made
    made.close()
