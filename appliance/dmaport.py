"""The port that DMAs reach: one a node, whichever of its roles serve DMAs.

Each of them adds its services to every session, and says what it has for CONFIG.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from appliance.accounts import accounts_of
from appliance.config import Ndmp, NodeConfig
from appliance.configservice import ConfigService
from appliance.extensionservice import ECHO, IPV6, Extensions, ExtensionService
from appliance.local import LocalEnds
from appliance.ndmp import messages as m
from appliance.ndmp.enums import AddressType
from appliance.ndmp.server import NdmpServer, Setup
from appliance.ndmp.session import Session
from appliance.ndmp.sessions import Sessions
from appliance.ndmp.states import SessionState

T = TypeVar("T")


@dataclass(frozen=True)
class Shared:
    """What the services of one session have in common; `local` where DATA and MOVER are both among them."""

    extensions: Extensions
    local: LocalEnds | None

    def data_kinds(self) -> tuple[AddressType, ...]:
        """The kinds of address that need a network: IPv6 while its extension is in use."""
        has_ipv6 = self.extensions.version(m.IPV6_CLASS) is not None
        return (AddressType.TCP, AddressType.TCP_IPV6) if has_ipv6 else (AddressType.TCP,)

    def kinds(self) -> tuple[AddressType, ...]:
        """All kinds of address."""
        return self.data_kinds() + ((AddressType.LOCAL,) if self.local is not None else ())


@dataclass(frozen=True)
class DmaRole:
    """One role's share in the sessions of DMAs.

    Attributes:
        add: gives a session the role's services.
        fs_info, butypes, tapes, changers: what it has for CONFIG, asked anew for each request.
        extensions: the classes that its services speak.

    """

    add: Callable[[Session, Shared], None]
    fs_info: Callable[[], Sequence[m.FsInfo]] | None = None
    butypes: Callable[[], Sequence[m.ButypeInfo]] | None = None
    tapes: Callable[[], Sequence[m.DeviceInfo]] | None = None
    changers: Callable[[], Sequence[m.DeviceInfo]] | None = None
    extensions: tuple[m.ClassList, ...] = ()


def session_setup(hostname: str, roles: Sequence[DmaRole], *, ipv6: bool = False) -> Setup:
    """What gives each session the services of all `roles`; `ipv6`: whether data connections may use it."""
    has_data = any(role.fs_info is not None for role in roles)
    has_mover = any(role.tapes is not None for role in roles)
    has_local = has_data and has_mover

    def setup(session: Session, _: socket.socket) -> None:
        offered = (ECHO, *((IPV6,) if ipv6 else ()), *(each for role in roles for each in role.extensions))
        shared = Shared(Extensions(offered), LocalEnds() if has_local else None)
        session.add(
            ConfigService(
                hostname,
                fs_info=_first(role.fs_info for role in roles),
                butypes=_first(role.butypes for role in roles),
                tapes=_first(role.tapes for role in roles),
                changers=_first(role.changers for role in roles),
                connections=shared.kinds,
                auth_types=session.auth_types,
                authorized=lambda: session.machine.state is SessionState.AUTHORIZED,
            )
        )
        session.add(ExtensionService(shared.extensions))
        for role in roles:
            role.add(session, shared)

    return setup


def _first(offers: Iterable[T | None]) -> T | None:
    """No two roles have the same thing to offer."""
    return next((offer for offer in offers if offer is not None), None)


class DmaPort:
    """The listener of a node's DMA-facing port, which its roles share."""

    def __init__(self, config: NodeConfig, sessions: Sessions) -> None:
        """Raises ConfigurationError when there is no [ndmp], or its accounts cannot be read."""
        self._node = config.node
        self._ndmp = config.section(Ndmp)
        self._accounts = accounts_of(self._ndmp)
        self._sessions = sessions
        self._roles: list[DmaRole] = []
        self._server: NdmpServer | None = None
        sessions.add_source(lambda: [("login failures", "", self._accounts.failures)])

    def join(self, role: DmaRole) -> None:
        """Serve this role too; before `start`."""
        assert self._server is None, "sessions could lack the role's services"
        self._roles.append(role)

    def start(self) -> tuple[str, int]:
        """Listen, if nobody has us do so already, and return where.  Raises OSError."""
        if self._server is None:
            self._server = NdmpServer(
                (self._node.address, self._ndmp.port),
                session_setup(self._node.name, self._roles, ipv6=self._ndmp.has_ipv6),
                accounts=self._accounts,
                sessions=self._sessions,
                sessions_max=self._ndmp.sessions_max,
                allow=self._ndmp.allow,
            )
            self._server.start()
        return self._server.address

    def stop(self) -> None:
        """Stop listening and end all sessions; safe to repeat."""
        if self._server is not None:
            self._server.stop()
