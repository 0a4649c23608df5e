"""The versions of an image's format.  Every comment of ours (frame.py) bears one.

They differ in what makes the checksums.  A writer is told which version to write, since nodes of the release
before may have to read it; a reader takes all of them.
"""

from typing import Final

from appliance.archive.checksum import SHA256, XXH3, Algorithm

__all__ = ["FIRST_FORMAT", "FORMAT", "algorithm_of", "is_known"]

FIRST_FORMAT: Final = 1
"""Read by all releases."""

FORMAT: Final = 2
"""The newest."""

_ALGORITHMS: Final = {FIRST_FORMAT: SHA256, FORMAT: XXH3}


def algorithm_of(version: int) -> Algorithm:
    """What makes the checksums in a format that is known."""
    return _ALGORITHMS[version]


def is_known(version: object) -> bool:
    """Whether this code reads a format; `version` is what a comment says, anything at all."""
    return type(version) is int and version in _ALGORITHMS  # a bool is an int, too
