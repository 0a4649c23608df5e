"""Errors of the archive code: one tree, two families.

::

    ArchiveError
    ├── ArchiveUsageError      our own caller asked for what cannot be
    │   └── StartNotFoundError the path to save does not exist beneath the given descriptor
    ├── DamagedArchiveError    the bytes that came in are no archive of ours: what, and where
    │   └── TruncatedArchiveError  they end in the middle
    ├── SinkError              the consumer of the stream failed; carries its OSError
    └── StoppedError           the caller's `stop` said so

An error of a single file is none of these: it is reported as a problem, and the job goes on.
"""

__all__ = [
    "ArchiveError",
    "ArchiveUsageError",
    "DamagedArchiveError",
    "SinkError",
    "StartNotFoundError",
    "StoppedError",
    "TruncatedArchiveError",
]


class ArchiveError(Exception):
    """Everything this package raises on purpose."""


class ArchiveUsageError(ArchiveError):
    """Local misuse: an argument out of range, a call in the wrong order.  Fix the caller."""


class StartNotFoundError(ArchiveUsageError):
    """The path a part starts at does not exist, or the way to it is no directory.

    Raised before the first byte is written, so the caller can still refuse the job.
    """


class DamagedArchiveError(ArchiveError):
    """The stream is no valid archive: truncated, overwritten, or made by somebody hostile.

    `what` is one line for people, `offset` the byte offset in the image where it was noticed.
    """

    def __init__(self, what: str, offset: int) -> None:
        super().__init__(f"damaged archive at offset {offset}: {what}")
        self.what = what
        self.offset = offset


class TruncatedArchiveError(DamagedArchiveError):
    """The stream ended within a member, or without an end-of-archive: nothing more can be read."""


class SinkError(ArchiveError):
    """The sink raised `OSError`, kept in `error`.

    Not an `OSError` itself, so that a lost connection is never mistaken for an unreadable file.
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(f"the stream's consumer failed: {error}")
        self.error = error


class StoppedError(ArchiveError):
    """`stop()` returned true; what was written so far is an unfinished part."""
