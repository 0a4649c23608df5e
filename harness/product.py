"""The product's own command line on this host: the only way the harness calls it here."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from harness.errors import CommandError, InfrastructureError

# Making a certificate takes a fraction of a second; a minute means that something hangs.
LOCAL_SECONDS = 60.0


def argv(*words: str) -> list[str]:
    """Return the command line of `spanreel WORDS` with this interpreter and this tree."""
    return [sys.executable, "-m", "appliance.cli", *words]


def run(words: Sequence[str]) -> bytes:
    """Run `spanreel WORDS` on this host and return its output."""
    command = argv(*words)
    try:
        done = subprocess.run(command, capture_output=True, timeout=LOCAL_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise InfrastructureError(f"host: spanreel {words[0]} hangs for {LOCAL_SECONDS:.0f} s") from error
    if done.returncode != 0:
        raise CommandError("host", ["spanreel", *words], done.returncode, done.stderr or done.stdout)
    return done.stdout
