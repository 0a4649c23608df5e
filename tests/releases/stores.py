"""The archives of releases, and what is in one."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from pathlib import Path

from harness import manifest
from harness.manifest import Manifest

FOLDER = Path(__file__).parent
TOPOLOGY = FOLDER / "topology.yaml"
TOP = b"/projects"
"""What the two jobs of a release saved."""

FULL, LATEST = "full", "latest"
TAPE = "tape"
CATALOGUE = "catalogue.sqlite"
MAP = "map.json"
CONFIGURATIONS = "config"
ABOUT = "about.txt"
SUFFIX = ".tar.xz"


def releases() -> list[str]:
    """The names of the releases that are kept."""
    return sorted(path.name.removesuffix(SUFFIX) for path in FOLDER.glob(f"*{SUFFIX}"))


def archive(release: str) -> Path:
    """The file that holds the stores of a release."""
    return FOLDER / f"{release}{SUFFIX}"


@dataclass(frozen=True)
class Stores:
    """The unpacked stores of a release.

    In the folder: tape/ (the library model's), catalogue.sqlite, map.json, config/NODE.toml, and the
    manifests of the tree as it was at the full backup and at the latest one (`FULL`, `LATEST`).
    """

    folder: Path

    @classmethod
    def unpack(cls, release: str, folder: Path) -> Stores:
        """Put the stores of a release into a folder."""
        with tarfile.open(archive(release)) as packed:
            packed.extractall(folder, filter="data")
        return cls(folder)

    def tree(self, moment: str) -> Manifest:
        """The manifest of the tree at a moment."""
        return manifest.parse((self.folder / f"{moment}.jsonl").read_bytes())
