"""Compares two manifests, which may lie at different places of the name space."""

from __future__ import annotations

import base64
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from harness.manifest import Entry, Manifest

# Without root nobody can give files away, so owners say nothing about the product.
OWNER_FIELDS = frozenset({"uid", "gid"})
# These name the entry; they are what the comparison goes by.
_KEYS = frozenset({"path", "path_base64", "links"})
# A report shows so many differences; the count is always exact.
SHOWN = 20


@dataclass(frozen=True)
class Difference:
    """One field of one path that is not the same."""

    path: str
    field: str
    expected: Any
    found: Any

    def __str__(self) -> str:
        return f"{self.path}: {self.field}: expected {_short(self.expected)}, found {_short(self.found)}"


@dataclass(frozen=True)
class Comparison:
    """What comparing two trees gave."""

    names: int
    differences: tuple[Difference, ...]

    @property
    def equal(self) -> bool:
        """Whether there is no difference; an empty tree is never equal to anything."""
        return self.names > 0 and not self.differences

    def summary(self) -> str:
        """Say it in one line."""
        if self.names == 0:
            return "nothing to compare: the expected tree is empty"
        if self.equal:
            return f"{self.names} names are equal" if self.names > 1 else "1 name is equal"
        count, first = len(self.differences), self.differences[0]
        return f"{count} difference{'s' if count > 1 else ''} in {self.names} names; first: {first}"

    def shown(self) -> list[str]:
        """Return the first differences as text."""
        return [str(item) for item in self.differences[:SHOWN]]


def compare(expected: Manifest, found: Manifest, *, ignore: Collection[str] = ()) -> Comparison:
    """Compare field by field; both manifests must use the same paths (see `move`)."""
    differences: list[Difference] = []
    for path in sorted(expected.keys() | found.keys()):
        left, right = expected.get(path), found.get(path)
        if left is None or right is None:
            name = (left or right or {})["path"]
            differences.append(Difference(name, "name", _there(left), _there(right)))
            continue
        differences += _fields(left, right, ignore)
    differences += _links(expected, found)
    return Comparison(len(expected), tuple(differences))


def move(manifest: Manifest, source: bytes, target: bytes) -> Manifest:
    """Return what lies at or below `source`, as if it lay at `target`; b"" is the root.

    Link groups are named anew: partners outside `source` do not count.
    """
    inside = {
        path: entry
        for path, entry in manifest.items()
        if path == source or path.startswith(source.rstrip(b"/") + b"/")
    }
    groups: dict[str, list[bytes]] = {}
    for path, entry in inside.items():
        if "links" in entry:
            groups.setdefault(entry["links"][0], []).append(path)
    moved = {}
    for path, entry in inside.items():
        copy = {key: value for key, value in entry.items() if key != "links"}
        members = groups.get(entry["links"][0], []) if "links" in entry else []
        if len(members) > 1:
            copy["links"] = [base64.b64encode(_moved(min(members), source, target)).decode(), len(members)]
        moved[_moved(path, source, target)] = copy
    return moved


def without(manifest: Manifest, *tops: bytes) -> Manifest:
    """Return a manifest without what lies at or below some paths."""
    return {
        path: entry
        for path, entry in manifest.items()
        if not any(path == top or path.startswith(top + b"/") for top in tops)
    }


def _moved(path: bytes, source: bytes, target: bytes) -> bytes:
    """One path at its new place."""
    return target if path == source else target + path.removeprefix(source.rstrip(b"/"))


def _fields(left: Entry, right: Entry, ignore: Collection[str]) -> list[Difference]:
    """Differences of two entries of one path."""
    return [
        Difference(left["path"], field, left.get(field), right.get(field))
        for field in sorted((left.keys() | right.keys()) - _KEYS)
        if field not in ignore and left.get(field) != right.get(field)
    ]


def _links(expected: Manifest, found: Manifest) -> list[Difference]:
    """Differences of link groups, for paths that both sides have."""
    return [
        Difference(expected[path]["path"], "links", _group(expected[path]), _group(found[path]))
        for path in sorted(expected.keys() & found.keys())
        if expected[path].get("links") != found[path].get("links")
    ]


def _group(entry: Entry) -> str:
    """A link group in words."""
    if "links" not in entry:
        return "not linked"
    first, count = entry["links"]
    return f"{count} links, first {base64.b64decode(first)!r}"


def _there(entry: Entry | None) -> str:
    """Whether something is there, and what."""
    return entry["type"] if entry else "nothing"


def _short(value: Any) -> str:
    """A value that fits in a line."""
    text = str(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
