"""The role file server: the DMAs' port, the cluster's port, and the name space shown to clients."""

from __future__ import annotations

import socket
import threading

import structlog

from appliance import tls
from appliance.accounts import load_accounts
from appliance.config import Cluster, FileServer, Ndmp, NodeConfig
from appliance.configservice import ConfigService
from appliance.errors import SpanreelError
from appliance.fileserver.entry import EntryService
from appliance.fileserver.gns_service import GnsService
from appliance.fileserver.owner import OwnerService
from appliance.gns.client import pull
from appliance.gns.service import MapService
from appliance.ndmp.enums import ButypeAttr
from appliance.ndmp.messages import ButypeInfo, FsInfo
from appliance.ndmp.server import NdmpServer
from appliance.ndmp.session import Session
from appliance.ndmp.types import Pval
from appliance.peers import Peers, accept_peer
from appliance.roles import FILE_SERVER

PULL_INTERVAL_S = 2.0
"""How long a reader may show clients an old map.  Jobs do not depend on it: they pull at their start."""

BUTYPES = (
    ButypeInfo(
        b"tar",
        (Pval(b"TYPE", b"tar"), Pval(b"HIST", b"f")),
        int(
            ButypeAttr.BACKUP_FILELIST
            | ButypeAttr.RECOVER_FILELIST
            | ButypeAttr.BACKUP_DIRECT
            | ButypeAttr.RECOVER_DIRECT
            | ButypeAttr.BACKUP_FH_FILE
            | ButypeAttr.BACKUP_UTF8
            | ButypeAttr.RECOVER_UTF8
        ),
    ),
)


class FileServerRole:
    """Everything a file server runs."""

    def __init__(self, config: NodeConfig) -> None:
        """Raises SpanreelError for a configuration or a state folder that cannot be used."""
        self._config = config
        self._peers = Peers(config)
        self._maps = MapService(config, lambda generation: pull(self._peers, generation))
        self._accounts = load_accounts(config.section(Ndmp).accounts)
        self._tls = tls.server_context(config)
        self._feed_tls = self._tls if config.section(Cluster).feed == "tls" else None
        self._stop = threading.Event()
        self._servers: list[NdmpServer] = []
        self._log = structlog.get_logger(__name__)

    def start(self) -> list[tuple[str, int]]:
        """Listen on both ports; return the addresses.  Raises OSError when a port is in use."""
        address = self._config.node.address
        dma = NdmpServer((address, self._config.section(Ndmp).port), self._dma, accounts=self._accounts)
        self._servers.append(dma)
        cluster = NdmpServer((address, self._config.section(Cluster).port), self._cluster, tls=self._tls)
        self._servers.append(cluster)
        if self._config.section(FileServer).nfs:
            from appliance.gns.nfs import Projection

            self._maps.subscribe(Projection(self._config).apply)
        if not self._maps.is_writer:
            threading.Thread(target=self._keep_pulling, name="gns-pull", daemon=True).start()
        for server in self._servers:
            server.start()
        return [server.address for server in self._servers]

    def stop(self) -> None:
        """Stop listening, end all sessions, give up the map's store."""
        self._stop.set()
        for server in self._servers:
            server.stop()
        self._maps.close()

    def _dma(self, session: Session, stream: socket.socket) -> None:
        del stream
        name = self._config.node.name
        session.add(ConfigService(name, fs_info=_file_systems, butypes=lambda: BUTYPES))
        session.add(EntryService(session, self._maps, self._peers, session.log))

    def _cluster(self, session: Session, stream: socket.socket) -> None:
        identity = accept_peer(stream, FILE_SERVER)
        session.log = session.log.bind(node=identity.node)
        session.add(
            OwnerService(
                session, self._config.node.name, self._maps, self._peers, session.log, feed_tls=self._feed_tls
            )
        )
        session.add(GnsService(self._maps))

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
    return (FsInfo(0x1F, b"gns", b"/", b"", fs_env=(Pval(b"LOCAL", b"y"), Pval(b"TYPE", b"gns"))),)
