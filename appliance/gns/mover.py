"""Copying a part from one owner to another: two DATA servers and one connection between them, no tape.

The new owner listens as for a restore, the old one connects as for a backup: the way ndmpcopy works.
"""

from __future__ import annotations

import queue

from appliance.errors import JobError
from appliance.gns.map import GnsMap, Junction
from appliance.ndmp import messages as m
from appliance.ndmp.client import Client
from appliance.ndmp.enums import AddressType, DataHaltReason
from appliance.ndmp.errors import ReplyError
from appliance.ndmp.types import Name, Pval
from appliance.peers import Event, Events, Peers
from appliance.text import show_path

JOB = "move"


def copy_part(peers: Peers, gns: GnsMap, junction: Junction, place: bytes, node: str) -> None:
    """Copy `junction`'s files to the fileset at `place`, owned by `node`.

    Raises JobError when either side did not end well, NdmpError when one cannot be reached.
    """
    events: Events = queue.SimpleQueue()
    with (
        _open(peers, node, "target", events) as target,
        _open(peers, junction.owner, "source", events) as source,
    ):
        listening = target.call(m.DataListenRequest(AddressType.TCP), m.DataListenReply)
        source.do(m.DataConnectRequest(listening.connect_addr))
        version = min(source.agreed, target.agreed)
        source.do(m.DataStartBackupRequest(b"tar", _save_env(gns, junction, version)))
        try:
            target.do(m.DataStartRecoverRequest(_load_env(gns), (Name(b"/", place),), b"tar"))
        except ReplyError as error:
            # Its reason was posted before the reply.
            while not events.empty():
                _take(events.get(), {}, show_path(junction.path))
            raise JobError(f"{show_path(junction.path)} was not moved: {error}") from error
        halts: dict[str, DataHaltReason] = {}
        while len(halts) < 2:
            _take(events.get(), halts, show_path(junction.path))


def _open(peers: Peers, node: str, role: str, events: Events) -> Client:
    return peers.open(node, lambda post: events.put(Event(role, post)), lambda: events.put(Event(role, None)))


def _take(event: Event, halts: dict[str, DataHaltReason], path: str) -> None:
    if event.post is None:
        raise JobError(f"{path} was not moved: the {event.source} server was lost")
    body = event.post.body()
    if isinstance(body, m.NotifyDataHaltedPost):
        halts[event.source] = body.reason
        if body.reason is not DataHaltReason.SUCCESSFUL:
            raise JobError(f"{path} was not moved: the {event.source} server ended by {body.reason.name}")
    elif isinstance(body, m.LogMessagePost) and body.log_type:
        raise JobError(f"{path} was not moved: {body.entry.decode('utf-8', 'backslashreplace')}")


def _save_env(gns: GnsMap, junction: Junction, version: int) -> tuple[Pval, ...]:
    pairs = {
        b"FILESYSTEM": junction.path,
        b"HIST": b"n",
        b"SPANREEL_ROOT": junction.path,
        b"SPANREEL_JOB": JOB.encode(),
        b"SPANREEL_FILESET": junction.fileset.encode(),
        b"SPANREEL_GENERATION": b"%d" % gns.generation,
        b"LOCAL_PATH": junction.local,
        b"SPANREEL_VERSION": b"%d" % version,
        b"SPANREEL_OFFSET": b"0",
        b"SPANREEL_NODE_BASE": b"2",
        b"SPANREEL_PARENT_NODE": b"2",
        b"SPANREEL_FRAME": b"y",
    }
    skips = [Pval(b"SPANREEL_SKIP", path) for path in gns.skips(junction)]
    return (*(Pval(name, value) for name, value in pairs.items()), *skips)


def _load_env(gns: GnsMap) -> tuple[Pval, ...]:
    return (
        Pval(b"SPANREEL_GENERATION", b"%d" % gns.generation),
        Pval(b"SPANREEL_MAKE_ROOT", b"y"),
    )
