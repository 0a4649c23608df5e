"""Fixtures of the backup server's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.backupserver.catalogue import Catalogue, open_catalogue


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    """A fresh catalogue."""
    with open_catalogue(tmp_path / "catalogue.sqlite") as opened:
        yield opened
