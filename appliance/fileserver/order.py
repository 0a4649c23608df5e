"""What an entry server orders of an owner, as the environment of DATA_START_BACKUP and _RECOVER.

The names are in docs/architecture.md, "Between nodes".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from appliance.agreement import BEFORE_NEGOTIATION
from appliance.archive.formats import FIRST_FORMAT, FORMAT
from appliance.archive.markers import NO_MARKERS, Markers
from appliance.fileserver.environment import TAR, HistoryForm, history_form, marker_variables, markers
from appliance.ndmp.enums import ALL_ONES, ErrorCode
from appliance.ndmp.errors import RefusalError
from appliance.ndmp.types import Pval

BUTYPE = TAR
"""The backup type of every order: what the DMA's type decides, the entry server has decided."""

STATUS = b"SPANREEL_STATUS"
FILES = b"SPANREEL_FILES"
BYTES = b"SPANREEL_BYTES"
NODES = b"SPANREEL_NODES"
PROBLEMS = b"SPANREEL_PROBLEMS"
MATCHED = b"SPANREEL_MATCHED"
NODE = b"SPANREEL_NODE"
TOTALS = (STATUS, FILES, BYTES, NODES, PROBLEMS)
JOB = b"SPANREEL_JOB"
GENERATION = b"SPANREEL_GENERATION"
EXISTING = b"EXISTING"
NAME = b"SPANREEL_NAME"
"""One a name of an owner's nlist, in order: the number of the DMA's entry that it comes from, and the offset
in the image of its member, all ones when that is not known."""
SECOND_PASS = b"SPANREEL_SECOND_PASS"
"""y: whoever asked restores links whose data is not among the names afterwards; they are no problems yet."""
LOST_LINK = b"SPANREEL_LOST_LINK"
"""One such link each, after the halt: its path, relative to the backup root."""
MOVED = b"SPANREEL_MOVED"
"""One directory each that was moved since the base, after the halt: the length of its path, a blank, its
path, and the path in the base; both from the backup root.  A DMA gets them if it sets the variable to y."""
MAKE_ROOT = b"SPANREEL_MAKE_ROOT"
"""y: make the directory of the target's fileset; only for a part that moves to a new place."""


SNAPSHOT = b"SPANREEL_SNAPSHOT"
"""y: the part is to be read from the job's snapshot; after the halt, whether it was."""
_TOKEN = b"SPANREEL_TOKEN"
_BASE = b"SPANREEL_BASE"
_VERSION = b"SPANREEL_VERSION"

_FORMAT_2_SINCE = 2
"""Version of what nodes say to each other; who speaks an older one reads no image of format 2."""


def name_of(value: bytes) -> tuple[int, int | None]:
    """Entry and offset from a value of `NAME`.  Raises RefusalError(ILLEGAL_ARGS)."""
    try:
        entry, offset = map(int, value.split())
    except ValueError as error:
        raise RefusalError(ErrorCode.ILLEGAL_ARGS, f"{NAME.decode()} is not whole: {error}") from error
    return entry, None if offset == ALL_ONES else offset


def image_format(version: int) -> int:
    """The format of images that nodes make which speak this version to each other."""
    return FORMAT if version >= _FORMAT_2_SINCE else FIRST_FORMAT


def moved_value(new: bytes, old: bytes) -> bytes:
    """A value of `MOVED`."""
    return b"%d %b%b" % (len(new), new, old)


@dataclass(frozen=True)
class PartOrder:
    """One part of a backup; offsets in bytes of the image, node numbers of the file history.

    `nodes`: the numbers that were agreed on (skeleton.py).  `token`: under which the state of the part is
    kept, None if it is not; `base`: the token of what it is compared with, None to save all of it.
    `snapshot`: the owner has made a snapshot of it for this job.
    `is_incremental`: directories carry their lists, so that a restore on top of another image can remove.
    """

    path: bytes
    root: bytes
    job: str
    fileset: str
    generation: int
    local_path: bytes
    offset: int
    node_base: int
    parent_node: int
    skip: tuple[bytes, ...] = ()
    exclude: tuple[bytes, ...] = ()
    files: tuple[bytes, ...] = ()
    markers: Markers = NO_MARKERS
    nodes: Mapping[bytes, int] = field(default_factory=dict)
    history: HistoryForm = HistoryForm.NONE
    level: int = 0
    token: int | None = None
    base: int | None = None
    is_incremental: bool = False
    snapshot: bool = False
    version: int = BEFORE_NEGOTIATION[0]
    """Of what nodes say to each other: all that have to do with the image speak it."""
    framed: bool = False
    """Whether the part is an archive of its own: for a move, where no entry server frames it."""

    def to_env(self) -> tuple[Pval, ...]:
        """The environment that orders this part."""
        pairs = [
            (b"TYPE", BUTYPE),
            (b"FILESYSTEM", self.path),
            (b"HIST", self.history.value),
            (b"SPANREEL_ROOT", self.root),
            (JOB, self.job.encode()),
            (b"SPANREEL_FILESET", self.fileset.encode()),
            (GENERATION, b"%d" % self.generation),
            (b"LOCAL_PATH", self.local_path),
            (_VERSION, b"%d" % self.version),
            (b"SPANREEL_OFFSET", b"%d" % self.offset),
            (b"SPANREEL_NODE_BASE", b"%d" % self.node_base),
            (b"SPANREEL_PARENT_NODE", b"%d" % self.parent_node),
            (b"LEVEL", b"%d" % self.level),
            (b"SPANREEL_INCREMENTAL", b"y" if self.is_incremental else b"n"),
            *([(SNAPSHOT, b"y")] if self.snapshot else []),
            *((name, b"%d" % value) for name, value in ((_TOKEN, self.token), (_BASE, self.base)) if value),
            *((b"SPANREEL_SKIP", path) for path in self.skip),
            *((b"EXCLUDE", value) for value in self.exclude),
            *((b"FILES", value) for value in self.files),
            *marker_variables(self.markers),
            *((NODE, b"%d %b" % (number, path)) for path, number in self.nodes.items()),
        ]
        return tuple(Pval(name, value) for name, value in pairs)

    @classmethod
    def from_env(cls, env: Mapping[bytes, Sequence[bytes]]) -> PartOrder:
        """Read an order.  Raises RefusalError(ILLEGAL_ARGS) for one that is not whole."""
        try:
            return cls(
                path=env[b"FILESYSTEM"][-1],
                root=env[b"SPANREEL_ROOT"][-1],
                job=env[JOB][-1].decode("ascii"),
                fileset=env[b"SPANREEL_FILESET"][-1].decode("ascii"),
                generation=int(env[GENERATION][-1]),
                local_path=env[b"LOCAL_PATH"][-1],
                offset=int(env[b"SPANREEL_OFFSET"][-1]),
                node_base=int(env[b"SPANREEL_NODE_BASE"][-1]),
                parent_node=int(env[b"SPANREEL_PARENT_NODE"][-1]),
                skip=tuple(env.get(b"SPANREEL_SKIP", ())),
                exclude=tuple(env.get(b"EXCLUDE", ())),
                files=tuple(env.get(b"FILES", ())),
                markers=markers(env),
                nodes=_numbers(env.get(NODE, ())),
                history=history_form(env, BUTYPE),
                level=int(env.get(b"LEVEL", [b"0"])[-1]),
                token=_number(env.get(_TOKEN)),
                base=_number(env.get(_BASE)),
                is_incremental=env.get(b"SPANREEL_INCREMENTAL") == [b"y"],
                snapshot=env.get(SNAPSHOT) == [b"y"],
                version=_number(env.get(_VERSION)) or cls.version,
                framed=env.get(b"SPANREEL_FRAME") == [b"y"],
            )
        except (KeyError, ValueError) as error:
            raise RefusalError(
                ErrorCode.ILLEGAL_ARGS, f"the order of a part is not whole: {error}"
            ) from error


def _number(values: Sequence[bytes] | None) -> int | None:
    return int(values[-1]) if values else None


def _numbers(values: Sequence[bytes]) -> dict[bytes, int]:
    """Read the agreed numbers.  Raises ValueError."""
    pairs = (value.partition(b" ") for value in values)
    return {path: int(number) for number, _, path in pairs}


@dataclass(frozen=True)
class PartTotals:
    """What an owner says of its part after the halt."""

    length: int
    files: int
    nodes: int
    problems: int
    matched: frozenset[int]
    moved: tuple[bytes, ...] = ()
    snapshot: bool = False

    @classmethod
    def from_env(cls, pairs: Sequence[Pval]) -> PartTotals:
        """Read the totals.  Raises ValueError or KeyError when the owner did not give them."""
        env = {pair.name: pair.value for pair in pairs}
        matched = frozenset(int(index) for index in env.get(MATCHED, b"").split())
        moved = tuple(pair.value for pair in pairs if pair.name == MOVED)
        return cls(
            int(env[BYTES]),
            int(env[FILES]),
            int(env[NODES]),
            int(env[PROBLEMS]),
            matched,
            moved,
            env.get(SNAPSHOT) == b"y",
        )
