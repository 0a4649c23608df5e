"""The versions of an image's format.  Every comment of ours (frame.py) bears one.

They differ in what makes the checksums.  A writer is told which version to write, since nodes of the release
before may have to read it; a reader takes all of them.
"""

from typing import Final

from appliance.archive.checksum import CHECKSUM_BYTES, SHA256, XXH3, Algorithm

__all__ = ["FIRST_FORMAT", "FORMAT", "Checksums", "Sums", "algorithm_of", "is_known"]

FIRST_FORMAT: Final = 1
"""Read by all releases."""

FORMAT: Final = 2
"""The newest."""

_ALGORITHMS: Final = {FIRST_FORMAT: SHA256, FORMAT: XXH3}


Checksums = dict[int, bytes]
"""The checksums of one member, by the format that has them so."""


class Sums:
    """The checksums of one member that is being read, for a format, or for all while nobody knows which."""

    def __init__(self, version: int | None, data: bytes | memoryview) -> None:
        versions = _ALGORITHMS if version is None else (version,)
        self._begun = {each: _ALGORITHMS[each].begin(data) for each in versions}

    def update(self, data: bytes | memoryview) -> None:
        """Take more bytes."""
        for begun in self._begun.values():
            begun.update(data)

    def made(self) -> Checksums:
        """Return the checksums of the bytes so far."""
        return {version: begun.digest()[:CHECKSUM_BYTES] for version, begun in self._begun.items()}


def algorithm_of(version: int) -> Algorithm:
    """What makes the checksums in a format that is known."""
    return _ALGORITHMS[version]


def is_known(version: object) -> bool:
    """Whether this code reads a format; `version` is what a comment says, anything at all."""
    return type(version) is int and version in _ALGORITHMS  # a bool is an int, too
