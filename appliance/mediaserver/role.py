"""The role media-server: libraries, accounts, and a listener whose sessions have all its services."""

from __future__ import annotations

import socket

from appliance.accounts import load_accounts
from appliance.config import MediaServer, Ndmp, NodeConfig
from appliance.configservice import ConfigService
from appliance.errors import InfrastructureError
from appliance.extensionservice import ECHO, Extensions, ExtensionService
from appliance.mediaserver.libraries import Libraries
from appliance.mediaserver.mover_service import MoverService
from appliance.mediaserver.scsi_service import ScsiService
from appliance.mediaserver.tape_service import TapeService
from appliance.ndmp.server import NdmpServer, Setup
from appliance.ndmp.session import Session
from appliance.ndmp.states import SessionState


def media_setup(libraries: Libraries, hostname: str, address: str, *, strict: bool = False) -> Setup:
    """What gives each session of a media server its services.

    `address` is where data connections are listened for and made from; `strict` chooses the profile.
    """

    def setup(session: Session, _: socket.socket) -> None:
        tape = TapeService(libraries, session.log, strict=strict)
        session.add(
            ConfigService(
                hostname,
                tapes=libraries.tape_info,
                changers=libraries.scsi_info,
                authorized=lambda: session.machine.state is SessionState.AUTHORIZED,
            )
        )
        session.add(ExtensionService(Extensions((ECHO,))))
        scsi = ScsiService(libraries, session.log)
        if strict:
            # One device a session (draft, 3.3.1 and 3.4.1); DMAs want robot and drive in one.
            scsi.has_other_device = lambda: tape.opened is not None
            tape.has_other_device = lambda: scsi.is_open
        session.add(scsi)
        session.add(tape)
        # Last, so that it is closed first: the stream lets go of the drive before the drive is closed.
        session.add(
            MoverService(session, tape, address, session.log, strict=strict, version=lambda: session.version)
        )

    return setup


class MediaServerRole:
    """A running media server.

    Raises ConfigurationError when a section is missing, accounts cannot be read or a library not be set up.
    """

    def __init__(self, config: NodeConfig) -> None:
        self._node = config.node
        self._ndmp = config.section(Ndmp)
        self._accounts = load_accounts(self._ndmp.accounts)
        self._libraries = Libraries.from_config(config.section(MediaServer).libraries)
        self._server: NdmpServer | None = None

    def start(self) -> list[tuple[str, int]]:
        """Listen at the node's address, and return it.

        Raises InfrastructureError when that is not possible.
        """
        setup = media_setup(self._libraries, self._node.name, self._node.address)
        try:
            server = NdmpServer((self._node.address, self._ndmp.port), setup, accounts=self._accounts)
        except OSError as error:
            self._libraries.close()
            where = f"{self._node.address} port {self._ndmp.port}"
            raise InfrastructureError(f"media-server cannot listen on {where}: {error.strerror}") from error
        self._server = server
        server.start()
        return [server.address]

    def stop(self) -> None:
        """Stop listening, end all sessions and give the devices up."""
        if self._server is not None:
            self._server.stop()
            self._server = None
        self._libraries.close()
