"""Proof: local roots stay with their owners.

Every local root carries the lab's random token.  Wherever the token turns up outside the owners, a
local path has leaked.  A search that found nothing because it looked at nothing is an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from harness import guest
from harness.checks import pcap
from harness.checks.result import CheckResult, error, verdict
from harness.providers.base import Provider
from harness.topology import Node

# A leak is shown with this much around it.
CONTEXT_BYTES = 60


def absent(name: str, token: str, places: Mapping[str, bytes]) -> CheckResult:
    """Pass if the token is in none of these bytes, of which there are some."""
    total = sum(map(len, places.values()))
    if total == 0:
        return error(name, "nothing was there to search")
    needle = token.encode()
    leaks = [f"{place}: ...{_around(data, needle)}..." for place, data in places.items() if needle in data]
    what = f"{total} bytes in {len(places)} places"
    summary = (
        f"no local root in {what}"
        if not leaks
        else f"a local root is in {len(leaks)} of {len(places)} places"
    )
    return verdict(name, not leaks, summary, leaks)


def in_files(name: str, token: str, paths: Iterable[Path]) -> CheckResult:
    """Search files of this host."""
    return absent(name, token, {path.name: path.read_bytes() for path in sorted(paths)})


def in_capture(name: str, token: str, path: Path, port: int) -> CheckResult:
    """Search what was said on one port in a capture, each direction put together again."""
    said = {
        f"{source[0]}:{source[1]} to {target[0]}:{target[1]}": data
        for (source, target), data in pcap.streams(path).items()
        if port in (source[1], target[1])
    }
    return absent(name, token, said)


def on_node(
    name: str, token: str, provider: Provider, node: Node, paths: list[str], must: str
) -> CheckResult:
    """Search files on a node, where they are; `must` has to be among them."""
    answer = guest.call(provider, node, "search", {"needle": token, "paths": paths})
    return judge_search(name, answer["searched"], answer["found"], must)


def judge_search(name: str, searched: Mapping[str, int], found: Mapping[str, int], must: str) -> CheckResult:
    """Judge what `guest/search.py` answered."""
    if not searched.get(must):
        return error(name, f"{must} is missing or empty, so nothing was searched")
    leaks = [f"{path}: {count} times" for path, count in found.items()]
    total = sum(searched.values())
    summary = (
        f"a local root is in {', '.join(found)}"
        if leaks
        else f"no local root in {total} bytes of {len(searched)} files"
    )
    return verdict(name, not leaks, summary, leaks)


def _around(data: bytes, needle: bytes) -> str:
    """The first hit with its surroundings."""
    at = data.index(needle)
    return repr(data[max(0, at - CONTEXT_BYTES) : at + len(needle) + CONTEXT_BYTES])
