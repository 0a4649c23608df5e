"""A fresh media server for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.mediaserver.support import Site


@pytest.fixture
def commands() -> str:
    """How a drive's commands run, of `support.COMMANDS`.  Tests of streams have all."""
    return "waiting"


@pytest.fixture
def site(tmp_path: Path, commands: str) -> Iterator[Site]:
    """A media server with the default profile."""
    made = Site(tmp_path / "library", commands=commands)
    yield made
    made.close()


@pytest.fixture
def strict_site(tmp_path: Path, commands: str) -> Iterator[Site]:
    """A media server that keeps to the letter of the draft."""
    made = Site(tmp_path / "library", strict=True, commands=commands)
    yield made
    made.close()
