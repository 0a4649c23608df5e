"""Failures that are alike: the same words once numbers and names of machines are taken out."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from harness.history.questions import Standing

_VARYING = (
    (re.compile(r"\b\d{1,3}(\.\d{1,3}){3}(:\d+)?\b"), "ADDRESS"),
    (re.compile(r"\b(fs|conn|media|backup)\d+\b"), "NODE"),
    (re.compile(r"\b[A-Z]{3}\d{3}L\d\b"), "CARTRIDGE"),
    (re.compile(r"(/[\w.@%+-]+){2,}"), "PATH"),
    (re.compile(r"\b0x[0-9a-fA-F]+\b|\d+(\.\d+)?"), "N"),
)


@dataclass(frozen=True)
class Cluster:
    """Failures with the same words."""

    words: str
    members: tuple[Standing, ...]


def normal(text: str) -> str:
    """Return a failure's words without what differs from case to case."""
    for pattern, word in _VARYING:
        text = pattern.sub(word, text)
    return " ".join(text.split())


def clusters(standings: Sequence[Standing]) -> list[Cluster]:
    """Group what is bad now, the largest group first."""
    grouped: dict[str, list[Standing]] = defaultdict(list)
    for each in standings:
        if each.bad:
            grouped[normal(each.summary)].append(each)
    found = [Cluster(words, tuple(members)) for words, members in grouped.items()]
    return sorted(found, key=lambda cluster: (-len(cluster.members), cluster.words))
