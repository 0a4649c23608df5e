"""The library model as an iSCSI target, for its tests by hand and by a foreign initiator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from iscsi_support import TARGET
from tape_support import loaded

from tape.iscsi import IscsiServer, ModelUnits
from tape.model import LibraryModel


@pytest.fixture
def library(tmp_path: Path) -> Iterator[LibraryModel]:
    """A library whose first drive is loaded."""
    model = loaded(tmp_path)
    yield model
    model.close()


@pytest.fixture
def server(library: LibraryModel) -> Iterator[IscsiServer]:
    """It, as a target."""
    target = IscsiServer(ModelUnits(library), TARGET, ("127.0.0.1", 0))
    target.start()
    yield target
    target.stop()
