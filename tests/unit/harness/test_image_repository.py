"""The apt repository that lies beside plain Debian."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from harness.errors import InfrastructureError
from harness.image.repository import write_index


def test_the_index_names_each_package_with_size_and_checksum(tmp_path: Path) -> None:
    """Apt finds every package of the folder; a version's epoch is no colon in an address."""
    tree = tmp_path / "tree/DEBIAN"
    tree.mkdir(parents=True)
    control = "Package: tiny\nVersion: 2:1.0\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\n"
    (tree / "control").write_text(f"{control}Description: small\n")
    folder = tmp_path / "repository"
    folder.mkdir()
    command = ["dpkg-deb", "--root-owner-group", "--build", tree.parent, folder / "tiny_2%3a1.0_all.deb"]
    subprocess.run(command, check=True, capture_output=True)
    write_index(folder)
    made = folder / "tiny_2-1.0_all.deb"
    text = (folder / "Packages").read_text()
    assert text.startswith("Package: tiny\nVersion: 2:1.0\n")
    digest = hashlib.sha256(made.read_bytes()).hexdigest()
    assert text.endswith(f"Filename: ./{made.name}\nSize: {made.stat().st_size}\nSHA256: {digest}\n")


def test_an_empty_folder_is_no_repository(tmp_path: Path) -> None:
    """A machine that could install nothing is refused here, not when it boots."""
    with pytest.raises(InfrastructureError, match="no packages"):
        write_index(tmp_path)
