"""The host's own apt sources, reduced to what an appliance image is made from.

A workstation has sources of other vendors too.  They are left out: only stanzas that offer Debian's component
`main` for the recipe's release (or its updates or security suite) count.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from harness.errors import InfrastructureError

APT_DIRECTORY = Path("/etc/apt")


def _suites(release: str) -> set[str]:
    return {release, f"{release}-updates", f"{release}-security"}


def _deb822_stanzas(text: str, release: str) -> list[str]:
    kept = []
    for stanza in text.split("\n\n"):
        lines = [line for line in stanza.splitlines() if line.strip() and not line.startswith("#")]
        fields = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if colon and not line[0].isspace():
                fields[name.lower()] = value.split()
        wanted = (
            "deb" in fields.get("types", [])
            and "main" in fields.get("components", [])
            and _suites(release) & set(fields.get("suites", []))
            and fields.get("enabled", ["yes"])[0].lower() != "no"
        )
        if wanted:
            kept.append("\n".join(lines))
    return kept


def _list_lines(text: str, release: str) -> list[str]:
    kept = []
    for line in text.splitlines():
        words = line.split("#")[0].replace("]", "] ").split()
        if not words or words[0] != "deb":
            continue
        # Options in brackets may hold blanks: `deb [ arch=amd64 signed-by=... ] URI SUITE COMPONENT...`
        rest = words[1:]
        if rest and rest[0].startswith("["):
            while rest and not rest[0].endswith("]"):
                rest.pop(0)
            rest = rest[1:]
        if len(rest) >= 3 and rest[1] in _suites(release) and "main" in rest[2:]:
            kept.append(line.strip())
    return kept


def apt_sources(release: str, directory: Path = APT_DIRECTORY) -> dict[str, str]:
    """Sources for `release`, by file name as apt wants them: one `.sources`, one `.list`, as needed."""
    stanzas: list[str] = []
    lines: list[str] = []
    for path in [directory / "sources.list", *sorted(directory.glob("sources.list.d/*"))]:
        if not path.is_file():
            continue
        text = path.read_text(errors="replace")
        if path.suffix == ".sources":
            stanzas += _deb822_stanzas(text, release)
        elif path.suffix == ".list":
            lines += _list_lines(text, release)
    result = {}
    if stanzas:
        result["host.sources"] = "\n\n".join(stanzas) + "\n"
    if lines:
        result["host.list"] = "\n".join(lines) + "\n"
    if not result:
        raise InfrastructureError(
            f"{directory}: no apt source offers Debian {release} main; add one, the image is built from it"
        )
    return result


def acquire_options() -> list[str]:
    """The host's proxy settings, as apt options for a tree that does not see the host's configuration."""
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False).stdout
    wanted = ("Acquire::http::Proxy", "Acquire::https::Proxy", "Acquire::Retries")
    return [line for line in dump.splitlines() if line.startswith(wanted)]
