"""Discovery and negotiation of extensions, and those without a service of their own.

Source: draft-skardal-ndmpv4-04, 2.5.4.3, 3.2.9, 3.2.10 and appendix B.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from appliance.ndmp import messages as m
from appliance.ndmp.enums import ErrorCode
from appliance.ndmp.errors import RefusalError, RemoteFaultError
from appliance.ndmp.session import Handler
from appliance.ndmp.xdr import Struct

ECHO = m.ClassList(m.ECHO_CLASS, (2, 1))
"""The default version comes first."""

IPV6 = m.ClassList(m.IPV6_CLASS, (1,))
CAB = m.ClassList(m.CAB_CLASS, (1,))


class Extensions:
    """Which classes a session may use: the offered ones until the DMA chose, then what it chose."""

    def __init__(self, offered: tuple[m.ClassList, ...]) -> None:
        self.offered = offered
        self._chosen: dict[int, int] | None = None
        self._told = False
        self._used = False

    def tell(self) -> tuple[m.ClassList, ...]:
        """The classes and versions on offer.  Raises RefusalError(EXT_DANDN_ILLEGAL) once they are chosen."""
        self._still_open()
        self._told = True
        return self.offered

    def choose(self, wanted: tuple[m.ClassVersion, ...]) -> None:
        """Take what the DMA chose, all of it or nothing.  Raises RefusalError."""
        self._still_open()
        if not self._told:
            raise RefusalError(ErrorCode.PRECONDITION, "the list of extensions was not asked for")
        if len({each.class_id for each in wanted}) != len(wanted):
            raise RefusalError(ErrorCode.EXT_DUPL_CLASSES, "an extension class is named twice")
        versions = {each.class_id: each.class_version for each in self.offered}
        for each in wanted:
            if each.class_id not in versions:
                raise RefusalError(
                    ErrorCode.CLASS_NOT_SUPPORTED, f"extension class {each.class_id:#x} is not offered"
                )
            if each.class_version not in versions[each.class_id]:
                raise RefusalError(
                    ErrorCode.VERSION_NOT_SUPPORTED,
                    f"version {each.class_version} of extension class {each.class_id:#x} is not offered",
                )
        self._chosen = {each.class_id: each.class_version for each in wanted}

    def version(self, class_id: int) -> int | None:
        """The version of a class that is in use; its default one before the DMA chose; None for none."""
        if self._chosen is not None:
            return self._chosen.get(class_id)
        return next((each.class_version[0] for each in self.offered if each.class_id == class_id), None)

    def use(self, class_id: int) -> int:
        """`version`, for a message of the class: from now on nothing can be chosen any more.

        Raises RemoteFaultError(NOT_SUPPORTED) for a class that is not in use.
        """
        version = self.version(class_id)
        if version is None:
            raise RemoteFaultError(
                f"extension class {class_id:#x} was not chosen or is not offered", ErrorCode.NOT_SUPPORTED
            )
        self._used = True
        return version

    def _still_open(self) -> None:
        if self._chosen is not None or self._used:
            raise RefusalError(ErrorCode.EXT_DANDN_ILLEGAL, "the session's extensions are chosen already")


class ExtensionService:
    """One session's GET_EXT_LIST, SET_EXT_LIST and echo."""

    def __init__(self, extensions: Extensions) -> None:
        self._extensions = extensions

    def handlers(self) -> Mapping[type[Struct], Handler]:
        """The requests of this service."""
        return {
            m.ConfigGetExtListRequest: self._tell,
            m.ConfigSetExtListRequest: self._choose,
            m.TestEchoRequest: self._echo,
        }

    def close(self) -> None:
        """Nothing is held."""

    def _tell(self, _: m.ConfigGetExtListRequest) -> m.ConfigGetExtListReply:
        return m.ConfigGetExtListReply(class_list=self._extensions.tell())

    def _choose(self, request: m.ConfigSetExtListRequest) -> m.ConfigSetExtListReply:
        self._extensions.choose(request.accepted)
        return m.ConfigSetExtListReply()

    def _echo(self, request: m.TestEchoRequest) -> m.TestEchoReply:
        """Version 2 of the class has a number more than version 1."""
        has_short = request.echo_short is not None
        if has_short != (self._extensions.use(m.ECHO_CLASS) == 2):
            raise RemoteFaultError("an echo request of another version than was chosen", ErrorCode.XDR_DECODE)
        return m.TestEchoReply(echo_msg=request.echo_msg, echo_short=request.echo_short)


class CabService:
    """One session's Cluster Aware Backup.

    `prepare` is told the backup type and the environment that a cluster-aware DMA will start with, and may
    raise RefusalError.
    """

    def __init__(
        self, extensions: Extensions, prepare: Callable[[m.CabDataConnPrepareRequest], None]
    ) -> None:
        self._extensions = extensions
        self._prepare = prepare

    def handlers(self) -> Mapping[type[Struct], Handler]:
        """The requests of this service."""
        return {m.CabDataConnPrepareRequest: self._on_prepare}

    def close(self) -> None:
        """Nothing is held."""

    def _on_prepare(self, request: m.CabDataConnPrepareRequest) -> m.CabDataConnPrepareReply:
        self._extensions.use(m.CAB_CLASS)
        self._prepare(request)
        return m.CabDataConnPrepareReply()
