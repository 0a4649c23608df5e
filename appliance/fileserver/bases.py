"""What an incremental backup is based on: asked of the owners, chosen, and kept after a good backup.

A base is a backup of the same root, by its token.  An owner that does not have it, as after it took over a
part, saves its part whole, within the same incremental backup.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from appliance.fileserver.environment import Increment
from appliance.gns.map import Part
from appliance.ndmp import extension as x
from appliance.ndmp.enums import ErrorCode
from appliance.ndmp.errors import NdmpError, RefusalError
from appliance.peers import Peers
from appliance.text import show_path

PATIENCE_S = 10.0
"""How long an owner is waited for when it is asked for its bases; one that is away saves nothing either."""


class Known(NamedTuple):
    """A backup that owners know as a base, and the parts for which they do."""

    token: int
    level: int
    paths: frozenset[bytes]


class Base(NamedTuple):
    """What was chosen for a backup.

    `token` is the backup's own, None if no state is kept; `base` that of its base, None for a full backup;
    `paths` the parts whose owners have the base.
    """

    token: int | None
    base: int | None
    paths: frozenset[bytes]


def ask(peers: Peers, root: bytes, parts: Sequence[Part], log: Any) -> list[Known]:
    """Ask all owners for their bases; oldest first.  Those that do not answer are left out."""
    paths: dict[tuple[int, int], set[bytes]] = {}
    for owner, theirs in _by_owner(parts).items():
        try:
            with peers.open(owner, patience=PATIENCE_S) as client:
                reply = client.call(x.DumpListRequest(root, tuple(theirs)), x.DumpListReply)
        except NdmpError as error:
            log.warning("an owner does not say which bases it has", owner=owner, why=str(error))
            continue
        for base in reply.bases:
            paths.setdefault((base.token, base.level), set()).add(base.path)
    return [Known(token, level, frozenset(found)) for (token, level), found in sorted(paths.items())]


def choose(wanted: Increment, known: Sequence[Known], root: bytes, now: float | None = None) -> Base:
    """Choose the base of a backup of `root`, and its own token.

    By token if the DMA names one, else the latest backup of a lower level.  Raises RefusalError(ILLEGAL_ARGS)
    where there is none.
    """
    latest = max((one.token for one in known), default=0)
    # Never below what is there, so that the order of tokens is that of backups and not that of clocks.
    own = max(int((time.time() if now is None else now) * 1_000_000), latest + 1)
    token = own if wanted.update else None
    if not wanted.is_incremental:
        return Base(token, None, frozenset())
    if wanted.base is not None:
        found = [one for one in known if one.token == wanted.base]
        what = f"of BASE_DATE {wanted.base}"
    else:
        found = [one for one in known if one.level < wanted.level]
        what = f"of a level below {wanted.level}"
    if not found:
        raise RefusalError(
            ErrorCode.ILLEGAL_ARGS,
            f"no file server knows a backup {what} of {show_path(root)}: make a full one (level 0) first",
        )
    return Base(token, found[-1].token, found[-1].paths)


def keep(peers: Peers, root: bytes, token: int, parts: Iterable[Part]) -> dict[bytes, str]:
    """Have owners keep the state of parts that were saved; return the parts without it, and why not."""
    lost: dict[bytes, str] = {}
    for owner, theirs in _by_owner(parts).items():
        try:
            with peers.open(owner, patience=PATIENCE_S) as client:
                reply = client.call(x.DumpKeepRequest(root, token, tuple(theirs)), x.DumpKeepReply)
            lost |= dict.fromkeys(reply.missing, f"{owner} has no state of it")
        except NdmpError as error:
            lost |= dict.fromkeys(theirs, str(error))
    return lost


def _by_owner(parts: Iterable[Part]) -> Mapping[str, list[bytes]]:
    owners: dict[str, list[bytes]] = {}
    for part in parts:
        owners.setdefault(part.junction.owner, []).append(part.path)
    return owners
