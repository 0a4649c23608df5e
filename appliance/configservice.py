"""The CONFIG interface as a server: who the host is, and what it offers (draft-skardal-ndmpv4-04, 3.2).

File server and media server both use it; each says what it has by functions that are asked anew for each
request, because devices and file systems come and go.  CONFIG_GET_AUTH_ATTR is answered by the session.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeVar

from appliance.ndmp import messages as m
from appliance.ndmp.enums import AddressType, AuthType, ErrorCode
from appliance.ndmp.errors import RefusalError
from appliance.ndmp.session import Handler
from appliance.ndmp.xdr import Struct

VENDOR = b"Spanreel"
PRODUCT = b"Spanreel"

MACHINE_ID = Path("/etc/machine-id")
_HOSTID_BYTES = 8

T = TypeVar("T")


class ConfigService:
    """One session's CONFIG service.

    `fs_info`, `butypes`, `tapes`, `changers` return what there is now; an interface without its function
    is answered with NDMP_NOT_SUPPORTED_ERR.  `authorized` tells whether the client has logged in: before,
    vendor, product and revision stay hidden (draft, 3.2.2).
    """

    def __init__(
        self,
        hostname: str,
        *,
        fs_info: Callable[[], Sequence[m.FsInfo]] | None = None,
        butypes: Callable[[], Sequence[m.ButypeInfo]] | None = None,
        tapes: Callable[[], Sequence[m.DeviceInfo]] | None = None,
        changers: Callable[[], Sequence[m.DeviceInfo]] | None = None,
        connections: Callable[[], Sequence[AddressType]] = lambda: (AddressType.TCP,),
        auth_types: Sequence[AuthType] = (AuthType.MD5,),
        authorized: Callable[[], bool] = lambda: True,
    ) -> None:
        self._hostname = hostname
        self._fs_info = fs_info
        self._butypes = butypes
        self._tapes = tapes
        self._changers = changers
        self._connections = connections
        self._auth_types = tuple(auth_types)
        self._authorized = authorized

    def handlers(self) -> Mapping[type[Struct], Handler]:
        """The requests of the CONFIG interface but CONFIG_GET_AUTH_ATTR and those of extensions."""
        return {
            m.ConfigGetHostInfoRequest: self._host_info,
            m.ConfigGetServerInfoRequest: self._server_info,
            m.ConfigGetConnectionTypeRequest: self._connection_type,
            m.ConfigGetButypeInfoRequest: self._butype_info,
            m.ConfigGetFsInfoRequest: self._file_systems,
            m.ConfigGetTapeInfoRequest: self._tape_info,
            m.ConfigGetScsiInfoRequest: self._scsi_info,
        }

    def close(self) -> None:
        """Nothing is held."""

    def _host_info(self, _: m.ConfigGetHostInfoRequest) -> m.ConfigGetHostInfoReply:
        return m.ConfigGetHostInfoReply(
            hostname=self._hostname.encode(),
            os_type=platform.system().encode(),
            os_vers=platform.release().encode(),
            hostid=host_id(self._hostname).encode(),
        )

    def _server_info(self, _: m.ConfigGetServerInfoRequest) -> m.ConfigGetServerInfoReply:
        if not self._authorized():
            return m.ConfigGetServerInfoReply(auth_types=self._auth_types)
        return m.ConfigGetServerInfoReply(
            vendor_name=VENDOR,
            product_name=PRODUCT,
            revision_number=_revision().encode(),
            auth_types=self._auth_types,
        )

    def _connection_type(self, _: m.ConfigGetConnectionTypeRequest) -> m.ConfigGetConnectionTypeReply:
        return m.ConfigGetConnectionTypeReply(addr_types=tuple(self._connections()))

    def _butype_info(self, _: m.ConfigGetButypeInfoRequest) -> m.ConfigGetButypeInfoReply:
        return m.ConfigGetButypeInfoReply(butype_info=_asked(self._butypes, "backup types"))

    def _file_systems(self, _: m.ConfigGetFsInfoRequest) -> m.ConfigGetFsInfoReply:
        return m.ConfigGetFsInfoReply(fs_info=_asked(self._fs_info, "file systems"))

    def _tape_info(self, _: m.ConfigGetTapeInfoRequest) -> m.ConfigGetTapeInfoReply:
        return m.ConfigGetTapeInfoReply(tape_info=_asked(self._tapes, "tape drives"))

    def _scsi_info(self, _: m.ConfigGetScsiInfoRequest) -> m.ConfigGetScsiInfoReply:
        return m.ConfigGetScsiInfoReply(scsi_info=_asked(self._changers, "changers"))


def host_id(hostname: str, machine_id: Path = MACHINE_ID) -> str:
    """A stable identifier of this host: DMAs license and match on it.

    Derived from the machine id, which itself should stay private (machine-id(5)); from the name where
    there is none.
    """
    try:
        seed = machine_id.read_bytes().strip()
    except OSError:
        seed = b""
    return hashlib.sha256(b"spanreel host id\0" + (seed or hostname.encode())).hexdigest()[
        : 2 * _HOSTID_BYTES
    ]


def _revision() -> str:
    try:
        return version("spanreel")
    except PackageNotFoundError:
        return "checkout"


def _asked(ask: Callable[[], Sequence[T]] | None, what: str) -> tuple[T, ...]:
    if ask is None:
        raise RefusalError(ErrorCode.NOT_SUPPORTED, f"this server has no {what}")
    return tuple(ask())
