"""The role media-server: libraries, and what it adds to the sessions of DMAs."""

from __future__ import annotations

import structlog

from appliance.config import MediaServer, Ndmp, NodeConfig
from appliance.dmaport import DmaPort, DmaRole, Shared
from appliance.mediaserver.hotplug import HotPlug
from appliance.mediaserver.libraries import Libraries
from appliance.mediaserver.mover_service import MoverService
from appliance.mediaserver.scsi_service import ScsiService
from appliance.mediaserver.tape_service import TapeService
from appliance.ndmp.networks import NO_RULES, DataRules
from appliance.ndmp.session import Session
from appliance.ndmp.sessions import Sessions
from tape.carry import helper


def media_role(
    libraries: Libraries, address: str, *, strict: bool = False, rules: DataRules = NO_RULES
) -> DmaRole:
    """A media server's share in each session.

    `address` is where data connections are listened for and made from, `rules` are the site's for them;
    `strict` chooses the profile.
    """

    def add(session: Session, shared: Shared) -> None:
        tape = TapeService(libraries, session.log, strict=strict, tell=session.post)
        scsi = ScsiService(libraries, session.log, tell=session.post)
        if strict:
            # One device a session (draft, 3.3.1 and 3.4.1); DMAs want robot and drive in one.
            scsi.has_other_device = lambda: tape.opened is not None
            tape.has_other_device = lambda: scsi.is_open
        mover = MoverService(
            session,
            tape,
            address,
            session.log,
            strict=strict,
            version=lambda: session.version,
            rules=rules,
            local=shared.local,
            kinds=shared.kinds,
        )
        # The mover last, so that it is closed first: the stream lets go of the drive before that is closed.
        for service in (scsi, tape, mover):
            session.add(service)

    return DmaRole(add, tapes=libraries.tape_info, changers=libraries.scsi_info)


class MediaServerRole:
    """A running media server.

    Raises ConfigurationError when a section is missing, accounts cannot be read or a library not be set up.
    """

    def __init__(
        self, config: NodeConfig, sessions: Sessions | None = None, port: DmaPort | None = None
    ) -> None:
        """`sessions`, `port`: those of the whole process."""
        self.sessions = sessions or Sessions()
        self._port = DmaPort(config, self.sessions) if port is None else port
        self._libraries = Libraries.from_config(config.section(MediaServer).libraries)
        self.sessions.add_source(self._libraries.figures)
        self._hot_plug = HotPlug.of(self._libraries)
        ndmp = config.section(Ndmp)
        self._port.join(
            media_role(
                self._libraries,
                config.node.address,
                strict=ndmp.profile == "strict",
                rules=ndmp.data_rules,
            )
        )

    def start(self) -> list[tuple[str, int]]:
        """Listen at the node's address, and return it.  Raises OSError when the port is in use."""
        how = "C" if helper() else "Python alone"
        structlog.get_logger().info("records of sg devices are moved by", helper=how)
        address = self._port.start()
        if self._hot_plug is not None:
            self._hot_plug.start()
        return [address]

    def stop(self) -> None:
        """Stop listening, end all sessions and give the devices up."""
        if self._hot_plug is not None:
            self._hot_plug.stop()
        self._port.stop()
        self._libraries.close()
