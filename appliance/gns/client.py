"""The map from another node's, or a command's, point of view: fetch it, change it, move a part."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

from appliance.config import Cluster, NodeConfig
from appliance.errors import ConfigurationError, InfrastructureError, JobError
from appliance.gns.change import add_change, batch_change, remove_change, replace_change
from appliance.gns.codec import UPGRADE_THIS, decode_map
from appliance.gns.map import MOVING_PREFIX, GnsMap
from appliance.gns.mover import copy_part
from appliance.ndmp import extension as x
from appliance.ndmp.errors import NdmpError
from appliance.peers import Peers
from appliance.text import show_path

PULL_S = 8.0
"""A job that begins asks for the newest map, and takes its own copy when the writer hangs: an ABORT of the
DMA behind that is answered within 10 s (design.md, 2)."""

CHANGE_S = 600.0
"""A change is answered when mounts and exports have followed it."""


def fetch_map(config: NodeConfig, peers: Peers | None = None) -> GnsMap:
    """Return the writer's map.  Raises InfrastructureError when the writer cannot be reached."""
    writer = config.section(Cluster).gns_writer
    try:
        with (peers or Peers(config)).open(writer) as client:
            reply = client.call(x.GnsPullRequest(0), x.GnsPullReply)
    except NdmpError as error:
        raise InfrastructureError(f"the map cannot be had from {writer}: {error}; is it running?") from error
    return decode_map(reply.document, f"the map of {writer}", UPGRADE_THIS) if reply.document else GnsMap()


def pull(peers: Peers, have_generation: int, patience: float | None = PULL_S) -> bytes | None:
    """Return the writer's map if it is not of `have_generation`.

    No step is awaited longer than `patience` seconds; None for what every session awaits.  Raises
    InfrastructureError.
    """
    writer = peers.cluster.gns_writer
    try:
        with peers.open(writer, patience=patience) as client:
            reply = client.call(x.GnsPullRequest(have_generation), x.GnsPullReply)
    except NdmpError as error:
        raise InfrastructureError(f"the map cannot be had from {writer}: {error}; is it running?") from error
    return reply.document or None


def send_change(config: NodeConfig, change: Mapping[str, Any], peers: Peers | None = None) -> int:
    """Have the writer change the map; return the generation that holds the change.

    Raises ConfigurationError when the writer refuses, InfrastructureError when it cannot be reached.
    """
    writer = config.section(Cluster).gns_writer
    document = json.dumps(dict(change)).encode()
    try:
        with (peers or Peers(config)).open(writer) as client:
            reply = client.call(x.GnsChangeRequest(document), x.GnsChangeReply, CHANGE_S)
    except NdmpError as error:
        raise InfrastructureError(f"the map cannot be changed on {writer}: {error}") from error
    if reply.text:
        raise ConfigurationError(reply.text.decode("utf-8", "replace"))
    return reply.generation


def move(config: NodeConfig, path: bytes, node: str, local: bytes) -> int:
    """Copy the part at `path` to `local` on `node`, then switch it over; return the new generation.

    The path stays the same for clients.  The old copy stays where it was.  Meant for a path that nobody
    writes to meanwhile.  Raises JobError when the copy is not whole (nothing is switched then).
    """
    peers = Peers(config)
    before = fetch_map(config, peers)
    junction = before.at(path)
    # Owners write beneath filesets of the map only, so the new place is one for as long as the copy takes.
    place = MOVING_PREFIX + uuid.uuid4().hex[:12].encode()
    try:
        send_change(config, add_change(place, node, local), peers)
    except ConfigurationError as error:
        # The name of the new place says nothing to people.
        raise ConfigurationError(str(error).replace(show_path(place), "its new place")) from error
    try:
        copy_part(peers, fetch_map(config, peers), junction, place, node)
    except BaseException as error:
        # Also when interrupted: a hidden junction would keep the directory taken.
        send_change(config, remove_change(place), peers)
        if isinstance(error, NdmpError):
            error = JobError(f"{show_path(path)} was not moved: {error}")
        if isinstance(error, JobError):
            raise JobError(f"{error}; it is still on {junction.owner}") from error
        raise
    switch = batch_change([remove_change(place), replace_change(junction, node, local)])
    return send_change(config, switch, peers)
