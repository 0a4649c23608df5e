"""Files of the library model that a newer Spanreel wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tape.errors import TapeMisuseError
from tape.model import LibraryModel, LibrarySpec, read_description
from tape.model.cartridge import HEADER_BYTES, Cartridge, CartridgeHeader

SPEC = LibrarySpec("LIB1", ("DRV1",), ("ABC001L5",))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A library that is switched off."""
    LibraryModel(tmp_path, SPEC).close()
    return tmp_path


def test_a_newer_cartridge_is_refused_by_its_number(folder: Path) -> None:
    """Its header may have more in it; it is named as newer, not as damaged, and stays as it is."""
    path = folder / "ABC001L5.tape"
    header = json.dumps({"format": "spanreel-tape-2", "barcode": "ABC001L5", "colour": "red"})
    content = header.encode().ljust(HEADER_BYTES) + path.read_bytes()[HEADER_BYTES:]
    path.write_bytes(content)
    with pytest.raises(
        TapeMisuseError, match=r"ABC001L5.tape: a newer Spanreel.*tape-2.*up to spanreel-tape-1"
    ):
        Cartridge(path)
    assert path.read_bytes() == content


def test_a_newer_library_is_not_opened(folder: Path) -> None:
    """Neither by its folder alone nor by a configuration, which would write its description anew."""
    path = folder / "library.json"
    path.write_text(path.read_text().replace("spanreel-library-1", "spanreel-library-2"))
    content = path.read_bytes()
    with pytest.raises(TapeMisuseError, match=r"library.json: a newer Spanreel.*library-2"):
        read_description(folder)
    with pytest.raises(TapeMisuseError, match=r"library.json: a newer Spanreel.*library-2"):
        LibraryModel(folder, SPEC)
    assert path.read_bytes() == content


@pytest.mark.parametrize("found", ["spanreel-tape-0", "spanreel-tape-x", "tape-2", 7, None])
def test_another_format_is_none_of_ours(tmp_path: Path, found: object) -> None:
    """What was never a format of ours is not called newer."""
    header = json.dumps({"format": found, "barcode": "A", "capacity_bytes": 1}).encode().ljust(HEADER_BYTES)
    with pytest.raises(TapeMisuseError, match=r"has format .*; this version reads 'spanreel-tape-1'"):
        CartridgeHeader.decode(header, tmp_path / "A.tape")
