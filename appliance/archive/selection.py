r"""What of a tree is saved: the variables EXCLUDE and FILES of a backup, as patterns over its paths.  Pure.

Paths are those of the file history: from the backup root, with a leading slash.  In a pattern ``*`` stands
for any bytes but a slash, and ``\`` takes its meaning from what follows.  EXCLUDE is a comma list, given once
or repeated: an item with a slash in it is a path from the backup root, one without is the last component of
any path.  A value of FILES is one path from the backup root.  Leading ``/`` and ``./`` are the same there.

Sources: draft-skardal-ndmpv4-04, 3.2.5 (FILES); EXCLUDE is not in the draft, its form is that of several
vendors' file servers, of which ours is a superset.
"""

import enum
import re
from collections.abc import Iterable, Sequence

from appliance.archive.errors import ArchiveUsageError

__all__ = ["EXCLUDES_MAX", "FILES_MAX", "Reach", "Selection"]

EXCLUDES_MAX = 32
"""Items of EXCLUDE, as other file servers allow; every name of the tree is matched against all of them."""

FILES_MAX = 1000
"""Values of FILES.  Every name in a directory on the way to one is matched against all of them."""

_LITERAL_OR_STAR = re.compile(rb"\\(.)|(\*)|([^\\*]+|\\)", re.S)
_UP_TO_A_COMMA = re.compile(rb"(?:\\.|[^\\,]|\\\Z)+", re.S)


class Reach(enum.Enum):
    """How far FILES reaches a path."""

    NONE = "not selected"
    WAY = "a directory on the way to what may be selected"
    WHOLE = "selected, with all below it"


class Selection:
    """The compiled patterns.  `matched` holds the indexes of the values of FILES that something matched.

    Raises ArchiveUsageError, with words for the user, for what cannot be meant.
    """

    def __init__(self, exclude: Iterable[bytes] = (), files: Sequence[bytes] = ()) -> None:
        items = [item for value in exclude for item in _UP_TO_A_COMMA.findall(value)]
        if len(items) > EXCLUDES_MAX:
            raise ArchiveUsageError(f"EXCLUDE has {len(items)} items; {EXCLUDES_MAX} are allowed")
        if len(files) > FILES_MAX:
            raise ArchiveUsageError(f"FILES has {len(files)} values; {FILES_MAX} are allowed")
        steps = [(_steps(item, "EXCLUDE"), b"/" in item.rstrip(b"/")) for item in items]
        if not all(names for names, _ in steps):
            raise ArchiveUsageError("EXCLUDE names the whole of the backup")
        self._names = _matcher(names[0] for names, is_path in steps if not is_path)
        self._paths = _matcher(b"/" + b"/".join(names) for names, is_path in steps if is_path)
        self.has_excludes = bool(items)
        self.matched: set[int] = set()
        self.limited = bool(files)
        wanted = [_steps(value, "FILES") for value in files]
        bodies = [b"".join(b"/" + step for step in names) for names in wanted]
        self._whole = [re.compile(body + b"(?:/.*)?", re.S) for body in bodies]
        self._any_whole = _matcher(body + b"(?:/.*)?" for body in bodies)
        self._way = _matcher(
            dict.fromkeys(
                b"".join(b"/" + step for step in names[:depth]) or b"/"
                for names in wanted
                for depth in range(len(names))
            )
        )

    def excludes(self, path: bytes, name: bytes) -> bool:
        """Whether EXCLUDE matches a path, whose last component is `name`."""
        return bool(
            (self._names and self._names.fullmatch(name)) or (self._paths and self._paths.fullmatch(path))
        )

    def reach(self, path: bytes) -> Reach:
        """How far FILES reaches a path; all of it where there is no FILES."""
        if not self.limited:
            return Reach.WHOLE
        if self._any_whole is not None and self._any_whole.fullmatch(path):
            for index, pattern in enumerate(self._whole):
                if index not in self.matched and pattern.fullmatch(path):
                    self.matched.add(index)
            return Reach.WHOLE
        return Reach.WAY if self._way is not None and self._way.fullmatch(path) else Reach.NONE

    def reach_of_part(self, path: bytes) -> Reach:
        """How far both variables reach the top of a part, all directories above it considered."""
        names = [name for name in path.split(b"/") if name]
        for depth in range(1, len(names) + 1):
            if self.excludes(b"/" + b"/".join(names[:depth]), names[depth - 1]):
                return Reach.NONE
        return self.reach(path)


def _steps(value: bytes, what: str) -> list[bytes]:
    """Return the regular expressions of a pattern's components."""
    names = [name for name in value.split(b"/") if name not in (b"", b".")]
    if b".." in names or b"\0" in value:
        text = value.decode("utf-8", "backslashreplace")
        raise ArchiveUsageError(f"{what}: {text!r} does not name anything below the backup's root")
    return [_translated(name) for name in names]


def _translated(name: bytes) -> bytes:
    """Return the regular expression of one component.

    The first place where what stands between two stars fits is as good as any, so that the search never
    goes back before it: no pattern takes longer than the name is long, times its stars.
    """
    pieces = [b""]
    for escaped, star, literal in _LITERAL_OR_STAR.findall(name):
        if star:
            pieces.append(b"")
        else:
            pieces[-1] += re.escape(escaped or literal)
    first, *between = pieces
    if not between:
        return first
    end = between.pop()
    return first + b"".join(b"(?>[^/]*?%b)" % piece for piece in between if piece) + b"[^/]*" + end


def _matcher(bodies: Iterable[bytes]) -> re.Pattern[bytes] | None:
    joined = b"|".join(b"(?:%b)" % body for body in bodies)
    return re.compile(joined, re.S) if joined else None
