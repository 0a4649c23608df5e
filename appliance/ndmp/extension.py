"""The project's own extension class 0x7FE0: what the nodes of a cluster say and the standard has no word for.

Sent between nodes only, inside TLS; docs/extension.md describes each message.  A vendor class is a
16-bit number in the upper half of the message code (draft-skardal-ndmpv4-04, 2.5.4 and appendix A).
"""

from __future__ import annotations

from appliance.ndmp.declare import post, reply, request
from appliance.ndmp.enums import ALL_ONES, DataOperation, ErrorCode
from appliance.ndmp.types import Address
from appliance.ndmp.xdr import U32, U64, Opaque, Struct, struct

CLASS_ID = 0x7FE0
CLASS_VERSION = 2


@request(0x7FE00001)
class GnsPullRequest(Struct):
    """Ask for the map of junctions if it is newer than the generation that the asker has."""

    have_generation: U64 = 0


@reply(0x7FE00001)
class GnsPullReply(Struct):
    """`document` is the map (JSON), empty when the asker's generation is the newest."""

    error: ErrorCode = ErrorCode.NO_ERR
    generation: U64 = 0
    document: Opaque = b""


@request(0x7FE00002)
class GnsChangeRequest(Struct):
    """Ask the writer to change the map; `change` is JSON as `appliance.gns` defines it."""

    change: Opaque = b""


@reply(0x7FE00002)
class GnsChangeReply(Struct):
    """The generation that holds the change, or in `text` why it was refused."""

    error: ErrorCode = ErrorCode.NO_ERR
    generation: U64 = 0
    text: Opaque = b""


@struct
class DumpBase(Struct):
    """A backup whose state of the part at `path` is kept: what an incremental one may be based on."""

    path: Opaque
    token: U64
    level: U32


@request(0x7FE00003)
class DumpListRequest(Struct):
    """Ask an owner which backups of `root` it knows as bases of the parts at `paths` (all global)."""

    root: Opaque = b""
    paths: tuple[Opaque, ...] = ()


@reply(0x7FE00003)
class DumpListReply(Struct):
    """Every base of these parts, oldest first."""

    error: ErrorCode = ErrorCode.NO_ERR
    bases: tuple[DumpBase, ...] = ()


@request(0x7FE00004)
class DumpKeepRequest(Struct):
    """The backup of `root` with that token ended well: keep the state of the parts at `paths` as a base."""

    root: Opaque = b""
    token: U64 = 0
    paths: tuple[Opaque, ...] = ()


@reply(0x7FE00004)
class DumpKeepReply(Struct):
    """`missing`: the parts whose state is not there."""

    error: ErrorCode = ErrorCode.NO_ERR
    missing: tuple[Opaque, ...] = ()


@struct
class SnapshotRefusal(Struct):
    """The part at `path` gets no snapshot; `why` is a line for people, empty where none is wanted."""

    path: Opaque
    why: Opaque


@request(0x7FE00005)
class SnapshotPrepareRequest(Struct):
    """Make all ready for snapshots of the parts at `paths` (global), by the map of that generation."""

    job: Opaque = b""
    generation: U64 = 0
    paths: tuple[Opaque, ...] = ()


@reply(0x7FE00005)
class SnapshotPrepareReply(Struct):
    """`required` other than 0: parts without a snapshot are not saved."""

    error: ErrorCode = ErrorCode.NO_ERR
    required: U32 = 0
    refusals: tuple[SnapshotRefusal, ...] = ()


@request(0x7FE00006)
class SnapshotTakeRequest(Struct):
    """Make the snapshots, now."""


@reply(0x7FE00006)
class SnapshotTakeReply(Struct):
    """`refusals`: the parts that have none after all, besides those refused before."""

    error: ErrorCode = ErrorCode.NO_ERR
    refusals: tuple[SnapshotRefusal, ...] = ()


@request(0x7FE00010)
class ChannelOpenRequest(Struct):
    """Make a channel on the connection server; this session controls it."""

    job: Opaque = b""


@reply(0x7FE00010)
class ChannelOpenReply(Struct):
    """`channel` is the secret by which feeds attach."""

    error: ErrorCode = ErrorCode.NO_ERR
    channel: Opaque = b""


@struct
class Route(Struct):
    """Members at or below `source` (relative to the backup root, "/" for all) go to `feed`.

    Among the routes of one nlist `entry` the longest source wins.  `offset` is where in the image the
    source's own member is said to stand; all ones when that is not known.
    """

    entry: U32
    source: Opaque
    feed: U32
    offset: U64 = ALL_ONES


@struct
class Place(Struct):
    """The member of `source`, relative to the backup root, stands at `offset` of the image."""

    offset: U64
    source: Opaque


@struct
class Stretch(Struct):
    """One part of the image: where, how long, and its path relative to the backup root."""

    offset: U64
    length: U64
    path: Opaque


@request(0x7FE00011)
class ChannelStartRequest(Struct):
    """Start relaying: feeds to channel (BACKUP), or channel to feeds by `routes` (RECOVER).

    With `places` only these are read, and for directories, if `recursive`, what is below them; `parts` tells
    where that is, when somebody knows.
    """

    operation: DataOperation = DataOperation.BACKUP
    routes: tuple[Route, ...] = ()
    recursive: U32 = 1
    root: Opaque = b""
    places: tuple[Place, ...] = ()
    parts: tuple[Stretch, ...] = ()


@reply(0x7FE00011)
class ChannelStartReply(Struct):
    """Answer to ChannelStartRequest."""

    error: ErrorCode = ErrorCode.NO_ERR


@request(0x7FE00012)
class ChannelFinishRequest(Struct):
    """Close the channel after a backup: every feed ended cleanly and the image is `length` bytes."""

    length: U64 = 0


@reply(0x7FE00012)
class ChannelFinishReply(Struct):
    """ILLEGAL_ARGS when the relayed bytes differ from `length`."""

    error: ErrorCode = ErrorCode.NO_ERR
    relayed: U64 = 0


@post(0x7FE00013)
class ChannelConnectedPost(Struct):
    """The mover connected to a channel that was listening."""

    addr: Address = Address()


@request(0x7FE00020)
class FeedAttachRequest(Struct):
    """Make this session a feed of a channel."""

    channel: Opaque = b""


@reply(0x7FE00020)
class FeedAttachReply(Struct):
    """`feed` is the number by which routes name this feed."""

    error: ErrorCode = ErrorCode.NO_ERR
    feed: U32 = 0
