"""The role file server: the DMAs' port, the cluster's port, and the name space shown to clients."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence

import structlog

from appliance import tls
from appliance.agreement import offer
from appliance.archive.quick import quick
from appliance.config import Cluster, FileServer, Ndmp, NodeConfig
from appliance.dmaport import DmaPort, DmaRole, Shared
from appliance.errors import SpanreelError
from appliance.extensionservice import CAB, CabService
from appliance.fileserver.dump_service import DumpService
from appliance.fileserver.dumps import Dumps
from appliance.fileserver.entry import EntryService
from appliance.fileserver.environment import DUMP, TAR, HistoryForm
from appliance.fileserver.gns_service import GnsService
from appliance.fileserver.owner import OwnerService
from appliance.fileserver.snapshot_service import REQUIRED, SnapshotService
from appliance.gns.client import pull
from appliance.gns.map import GnsMap
from appliance.gns.service import MapService
from appliance.ndmp.enums import ButypeAttr
from appliance.ndmp.messages import ButypeInfo, FsInfo
from appliance.ndmp.server import NdmpServer
from appliance.ndmp.session import Session
from appliance.ndmp.sessions import Sessions
from appliance.ndmp.types import Pval
from appliance.peers import Peers, accept_peer
from appliance.roles import FILE_SERVER
from appliance.snapshots.btrfs import Btrfs
from appliance.snapshots.keeper import Keeper, owner_of
from appliance.snapshots.thin import Thin
from appliance.snapshots.volume import Kind

PULL_INTERVAL_S = 2.0
"""How long a reader may show clients an old map.  Jobs do not depend on it: they pull at their start."""

_ATTRIBUTES = int(
    ButypeAttr.BACKUP_FILELIST
    | ButypeAttr.RECOVER_FILELIST
    | ButypeAttr.BACKUP_DIRECT
    | ButypeAttr.RECOVER_DIRECT
    | ButypeAttr.BACKUP_INCREMENTAL
    | ButypeAttr.RECOVER_INCREMENTAL
    | ButypeAttr.BACKUP_FH_FILE
    | ButypeAttr.BACKUP_FH_DIR
    | ButypeAttr.BACKUP_UTF8
    | ButypeAttr.RECOVER_UTF8
    | ButypeAttr.RECOVER_FILEHIST
    | ButypeAttr.RECOVER_FH_FILE
)

BUTYPES = tuple(
    ButypeInfo(
        name,
        (Pval(b"TYPE", name), Pval(b"HIST", form.value), Pval(b"LEVEL", b"0"), Pval(b"UPDATE", b"y")),
        _ATTRIBUTES,
    )
    for name, form in ((TAR, HistoryForm.FILE), (DUMP, HistoryForm.NODE))
)
"""Either type takes HIST=f and HIST=d; HIST is told in the form that y means."""


class FileServerRole:
    """Everything a file server runs."""

    def __init__(
        self,
        config: NodeConfig,
        sessions: Sessions | None = None,
        port: DmaPort | None = None,
        snapshots: Sequence[Kind] | None = None,
    ) -> None:
        """`sessions`, `port`: those of the whole process; `snapshots`: the kinds there are, by default all.

        Raises SpanreelError for a configuration or a state folder that cannot be used.
        """
        self._config = config
        self.sessions = sessions or Sessions()
        self._rules = config.section(Ndmp).data_rules
        self._peers = Peers(config)
        self._maps = MapService(config, lambda generation: pull(self._peers, generation))
        self._dumps = Dumps(config.node.state)
        self._dumps.forget_unfinished()
        self._log = structlog.get_logger(__name__)
        kinds = (Btrfs(), Thin()) if snapshots is None else snapshots
        self._snapshots = Keeper(owner_of(config.node.name, config.node.state), kinds, self._log)
        self._port = DmaPort(config, self.sessions) if port is None else port
        self._port.join(DmaRole(self._dma, fs_info=_file_systems, butypes=lambda: BUTYPES, extensions=(CAB,)))
        self._tls = tls.server_context(config)
        self._feed_tls = self._tls if config.section(Cluster).feed == "tls" else None
        self._stop = threading.Event()
        self._servers: list[NdmpServer] = []

    def start(self) -> list[tuple[str, int]]:
        """Listen on both ports; return the addresses.  Raises OSError when a port is in use."""
        self._log.info("small files are read and made by", helper="C" if quick() else "Python alone")
        address, cluster = self._config.node.address, self._config.section(Cluster)
        for_dmas = self._port.start()
        self._servers.append(
            NdmpServer(
                (address, cluster.port),
                self._cluster,
                tls=self._tls,
                sessions=self.sessions,
                sessions_max=cluster.sessions_max,
            )
        )
        self._maps.subscribe(self._forget_lost_parts)
        if self._config.section(FileServer).nfs:
            from appliance.gns.nfs import Projection

            self._maps.subscribe(Projection(self._config).apply)
        if not self._maps.is_writer:
            threading.Thread(target=self._keep_pulling, name="gns-pull", daemon=True).start()
        # Aside, because LVM's tools take their time.
        threading.Thread(target=self._snapshots.sweep, name="snapshot-sweep", daemon=True).start()
        for server in self._servers:
            server.start()
        return [for_dmas, *(server.address for server in self._servers)]

    def stop(self) -> None:
        """Stop listening, end all sessions, give up the map's store."""
        self._stop.set()
        self._port.stop()
        for server in self._servers:
            server.stop()
        self._snapshots.close()
        self._maps.close()

    def _dma(self, session: Session, shared: Shared) -> None:
        entry = EntryService(
            session,
            self._maps,
            self._peers,
            session.log,
            user=lambda: (session.user, session.account),
            rules=self._rules,
            on_outcome=lambda outcome: self.sessions.count("jobs", outcome),
            local=shared.local,
            kinds=shared.data_kinds,
            strict=self._config.section(Ndmp).profile == "strict",
        )
        session.add(entry)
        session.add(CabService(shared.extensions, entry.prepare))

    def _cluster(self, session: Session, stream: socket.socket) -> None:
        identity = accept_peer(stream, FILE_SERVER)
        session.node = identity.node
        node, policy = self._config.node.name, self._config.section(FileServer).snapshots
        session.add(offer())
        session.add(
            OwnerService(
                session,
                node,
                self._maps,
                self._peers,
                self._dumps,
                self._snapshots,
                session.log,
                needs_snapshots=policy == REQUIRED,
                feed_tls=self._feed_tls,
                ports=self._rules.ports,
            )
        )
        session.add(GnsService(self._maps))
        session.add(DumpService(self._dumps, self._maps, session.log))
        session.add(SnapshotService(self._snapshots, policy, node, self._maps, session.log))

    def _forget_lost_parts(self, gns: GnsMap) -> None:
        """What is known of a part that is another's now is no base any more: that one saves it whole."""
        own = self._config.node.name
        self._dumps.keep_only({part.fileset for part in gns.junctions if part.owner == own})

    def _keep_pulling(self) -> None:
        reachable = True
        while not self._stop.is_set():
            try:
                self._maps.refresh(lambda generation: pull(self._peers, generation, None))
                reachable = True
            except SpanreelError as error:
                if reachable:
                    self._log.warning("map not pulled, the last good copy stays", why=str(error))
                reachable = False
            self._stop.wait(PULL_INTERVAL_S)


def _file_systems() -> tuple[FsInfo, ...]:
    """The whole name space is one file system to a DMA."""
    types = b",".join(info.butype_name for info in BUTYPES)
    env = (
        Pval(b"LOCAL", b"y"),
        Pval(b"TYPE", b"gns"),
        Pval(b"AVAILABLE_BACKUP", types),
        Pval(b"AVAILABLE_RECOVERY", types),
    )
    return (FsInfo(0x1F, b"gns", b"/", b"", fs_env=env),)
