"""`bootstrap/install` without installing anything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

INSTALL = Path(__file__).resolve().parents[2] / "bootstrap" / "install"


def _environment(folder: Path, *options: str) -> Path:
    """An environment that `bootstrap/install` has not made: this Python, with `options`."""
    (folder / "bin").mkdir()
    for name, line in (("python", f'exec {sys.executable} {" ".join(options)} "$@"'), ("spanreel", "exit 0")):
        script = folder / "bin" / name
        script.write_text(f"#!/bin/sh\n{line}\n")
        script.chmod(0o755)
    return folder


@pytest.mark.parametrize(("options", "code"), [((), 0), (("-S",), 3)])
def test_install_0_names_what_is_missing_and_nothing_else(
    tmp_path: Path, options: tuple[str, ...], code: int
) -> None:
    """Whoever ran the command that INSTALL=0 named is let through; without the packages it is named."""
    venv = _environment(tmp_path, *options)
    environment = {**os.environ, "INSTALL": "0", "VENV": str(venv), "PYTHON": sys.executable}
    done = subprocess.run([INSTALL, "process"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert (f"{venv}/bin/pip install -e" in done.stderr) is (code != 0)
    assert sorted(path.name for path in venv.iterdir()) == ["bin"]
