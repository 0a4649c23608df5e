"""The role media-server: libraries, accounts, and a listener whose sessions have all its services."""

from __future__ import annotations

import socket

from appliance.accounts import accounts_of
from appliance.config import MediaServer, Ndmp, NodeConfig
from appliance.configservice import ConfigService
from appliance.errors import InfrastructureError
from appliance.extensionservice import ECHO, Extensions, ExtensionService
from appliance.mediaserver.libraries import Libraries
from appliance.mediaserver.mover_service import MoverService
from appliance.mediaserver.scsi_service import ScsiService
from appliance.mediaserver.tape_service import TapeService
from appliance.ndmp.networks import NO_RULES, DataRules
from appliance.ndmp.server import NdmpServer, Setup
from appliance.ndmp.session import Session
from appliance.ndmp.sessions import Sessions
from appliance.ndmp.states import SessionState


def media_setup(
    libraries: Libraries, hostname: str, address: str, *, strict: bool = False, rules: DataRules = NO_RULES
) -> Setup:
    """What gives each session of a media server its services.

    `address` is where data connections are listened for and made from, `rules` are the site's for them;
    `strict` chooses the profile.
    """

    def setup(session: Session, _: socket.socket) -> None:
        tape = TapeService(libraries, session.log, strict=strict)
        session.add(
            ConfigService(
                hostname,
                tapes=libraries.tape_info,
                changers=libraries.scsi_info,
                auth_types=session.auth_types,
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
            MoverService(
                session,
                tape,
                address,
                session.log,
                strict=strict,
                version=lambda: session.version,
                rules=rules,
            )
        )

    return setup


class MediaServerRole:
    """A running media server.

    Raises ConfigurationError when a section is missing, accounts cannot be read or a library not be set up.
    """

    def __init__(self, config: NodeConfig, sessions: Sessions | None = None) -> None:
        """`sessions`: those of the whole process."""
        self.sessions = sessions or Sessions()
        self._node = config.node
        self._ndmp = config.section(Ndmp)
        self._accounts = accounts_of(self._ndmp)
        self._libraries = Libraries.from_config(config.section(MediaServer).libraries)
        self.sessions.add_source(lambda: [("login failures", "", self._accounts.failures)])
        self.sessions.add_source(self._libraries.figures)
        self._server: NdmpServer | None = None

    def start(self) -> list[tuple[str, int]]:
        """Listen at the node's address, and return it.

        Raises InfrastructureError when that is not possible.
        """
        rules = self._ndmp.data_rules
        setup = media_setup(self._libraries, self._node.name, self._node.address, rules=rules)
        try:
            server = NdmpServer(
                (self._node.address, self._ndmp.port),
                setup,
                accounts=self._accounts,
                sessions=self.sessions,
                sessions_max=self._ndmp.sessions_max,
                allow=self._ndmp.allow,
            )
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
