"""An apt repository of a folder of packages: one index, for `deb [trusted=yes] URL ./` (sources.list(5))."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from harness.errors import InfrastructureError


def write_index(folder: Path) -> None:
    """Write `Packages`: what each package says of itself, its file, size and checksum."""
    for path in folder.glob("*%*.deb"):
        # apt writes an epoch's colon so; in an address it would mean the colon itself.
        path.rename(path.with_name(path.name.replace("%3a", "-")))
    stanzas = [_stanza(path) for path in sorted(folder.glob("*.deb"))]
    if not stanzas:
        raise InfrastructureError(f"{folder}: no packages were fetched")
    (folder / "Packages").write_text("\n".join(stanzas), encoding="utf-8")


def _stanza(path: Path) -> str:
    """One package's paragraph (deb822(5))."""
    shown = subprocess.run(
        ["dpkg-deb", "--field", str(path)], capture_output=True, text=True, encoding="utf-8", check=False
    )
    if shown.returncode != 0:
        raise InfrastructureError(f"{path}: no package: {shown.stderr.strip()}")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    rest = f"Filename: ./{path.name}\nSize: {path.stat().st_size}\nSHA256: {digest}\n"
    return f"{shown.stdout.rstrip()}\n{rest}"
