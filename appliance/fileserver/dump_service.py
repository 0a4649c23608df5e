"""An owner's answers about the bases of incremental backups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from appliance.fileserver.dumps import Dumps
from appliance.gns.map import PathNotFoundError
from appliance.gns.service import MapService
from appliance.ndmp import extension as x
from appliance.ndmp.session import Handler
from appliance.ndmp.xdr import Struct
from appliance.text import show_path


class DumpService:
    """Lists and keeps bases, for one session."""

    def __init__(self, dumps: Dumps, maps: MapService, log: Any) -> None:
        self._dumps = dumps
        self._maps = maps
        self._log = log

    def handlers(self) -> Mapping[type[Struct], Handler]:
        """The requests about bases."""
        return {x.DumpListRequest: self._on_list, x.DumpKeepRequest: self._on_keep}

    def close(self) -> None:
        """Nothing is held."""

    def _on_list(self, request: x.DumpListRequest) -> x.DumpListReply:
        bases = []
        for path in request.paths:
            fileset = self._fileset(path)
            if fileset is None:
                continue
            try:
                found = self._dumps.bases(fileset, request.root, path)
            except OSError as error:
                self._log.warning("bases cannot be listed", path=show_path(path), why=error.strerror)
                continue
            bases += [x.DumpBase(path, dump.token, dump.level) for dump in found]
        return x.DumpListReply(bases=tuple(bases))

    def _on_keep(self, request: x.DumpKeepRequest) -> x.DumpKeepReply:
        missing = []
        for path in request.paths:
            fileset = self._fileset(path)
            try:
                kept = fileset is not None and self._dumps.keep(fileset, request.root, path, request.token)
            except OSError as error:
                self._log.warning("a base cannot be kept", path=show_path(path), why=error.strerror)
                kept = False
            if not kept:
                missing.append(path)
        return x.DumpKeepReply(missing=tuple(missing))

    def _fileset(self, path: bytes) -> str | None:
        try:
            return self._maps.current().resolve(path).junction.fileset
        except PathNotFoundError:
            return None
