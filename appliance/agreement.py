"""The version of the cluster's messages that two nodes agree on: nodes one release apart work together.

What nodes say to each other has a version: that of the extension class 0x7FE0 (docs/extension.md), which
covers the variables between nodes (docs/architecture.md) too.  A release speaks its own and that of the
release before.  Who opens a session asks for the other's versions and chooses the highest that both speak, by
the standard's own negotiation of extension classes (draft-skardal-ndmpv4-04, 2.5.4.3).  A node that knows no
such negotiation is of the time before there was one, and speaks version 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from appliance.extensionservice import Extensions, ExtensionService
from appliance.ndmp import extension as x
from appliance.ndmp import messages as m
from appliance.ndmp.client import Client
from appliance.ndmp.enums import ErrorCode
from appliance.ndmp.errors import ConnectionLostError, ReplyError

__all__ = ["SPOKEN", "agree", "offer"]

SPOKEN: Final = (x.CLASS_VERSION, 1)
"""What this release speaks, the newest first.  A new version is put before it, and the last but one goes."""

BEFORE_NEGOTIATION: Final = (1,)


def offer(spoken: Sequence[int] = SPOKEN) -> ExtensionService:
    """The service by which a session of the cluster's port tells its versions and takes the peer's choice."""
    return ExtensionService(Extensions((m.ClassList(x.CLASS_ID, tuple(spoken)),)))


def agree(client: Client, node: str, spoken: Sequence[int] = SPOKEN) -> int:
    """Agree with `node` on a version, and return it.

    Raises ConnectionLostError when the two have none in common, NdmpError when the session breaks.
    """
    theirs = _told(client)
    common = set(theirs or BEFORE_NEGOTIATION) & set(spoken)
    if not common:
        raise ConnectionLostError(_apart(node, theirs or BEFORE_NEGOTIATION, spoken), ErrorCode.CONNECT)
    version = max(common)
    if theirs:
        client.do(m.ConfigSetExtListRequest((m.ClassVersion(x.CLASS_ID, version),)))
    return version


def _told(client: Client) -> tuple[int, ...]:
    """The versions that the peer speaks; empty when it cannot say."""
    try:
        offered = client.call(m.ConfigGetExtListRequest(), m.ConfigGetExtListReply).class_list
    except ReplyError as error:
        if error.code is not ErrorCode.NOT_SUPPORTED:
            raise
        return ()
    return next((each.class_version for each in offered if each.class_id == x.CLASS_ID), ())


def _apart(node: str, theirs: Sequence[int], ours: Sequence[int]) -> str:
    older = node if max(theirs) < min(ours) else "this node"
    return (
        f"{node} speaks {_versions(theirs)} of what nodes say to each other, this node {_versions(ours)}: "
        f"more than one release lies between them; upgrade {older}, one release after the other"
    )


def _versions(spoken: Sequence[int]) -> str:
    first, last = min(spoken), max(spoken)
    return f"version {last}" if first == last else f"versions {first} to {last}"
