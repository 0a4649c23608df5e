"""An owner's answers about snapshots: those of one session, dropped when it ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from appliance.fileserver.placing import map_of, place_of
from appliance.gns.service import MapService
from appliance.ndmp import extension as x
from appliance.ndmp.enums import ErrorCode
from appliance.ndmp.errors import RefusalError
from appliance.ndmp.logcontext import note
from appliance.ndmp.session import Handler
from appliance.ndmp.xdr import Struct
from appliance.snapshots.keeper import Batch, Keeper, Place
from appliance.text import show_path

OFF = "off"
REQUIRED = "required"


class SnapshotService:
    """Prepares and makes snapshots, for one session."""

    def __init__(self, keeper: Keeper, policy: str, node: str, maps: MapService, log: Any) -> None:
        """`policy`: snapshots in [file_server]."""
        self._keeper = keeper
        self._policy = policy
        self._node = node
        self._maps = maps
        self._log = log
        self._batch: Batch | None = None
        self._is_taken = False

    def handlers(self) -> Mapping[type[Struct], Handler]:
        """The requests about snapshots."""
        return {x.SnapshotPrepareRequest: self._on_prepare, x.SnapshotTakeRequest: self._on_take}

    def close(self) -> None:
        """The entry server is done, or gone."""
        if self._batch is not None:
            self._batch.close()

    def _on_prepare(self, request: x.SnapshotPrepareRequest) -> x.SnapshotPrepareReply:
        if self._batch is not None:
            raise RefusalError(ErrorCode.ILLEGAL_STATE, "the session has prepared its snapshots already")
        job = request.job.decode("ascii", "replace")
        note(job=job)
        places, refused = [], {}
        if self._policy == OFF:
            refused = dict.fromkeys(request.paths, "")
        else:
            gns = map_of(self._maps, request.generation)
            for path in request.paths:
                try:
                    junction = place_of(gns, self._node, path).junction
                except RefusalError as error:
                    refused[path] = str(error)
                    continue
                places.append(Place(path, junction.fileset, junction.path, junction.local))
            exported = [each.local for each in gns.junctions if each.owner == self._node]
            self._batch = self._keeper.prepare(job, places, exported)
            refused |= self._batch.refused
            self._tell(refused)
        return x.SnapshotPrepareReply(required=int(self._policy == REQUIRED), refusals=_refusals(refused))

    def _on_take(self, _: x.SnapshotTakeRequest) -> x.SnapshotTakeReply:
        if self._batch is None or self._is_taken:
            raise RefusalError(ErrorCode.ILLEGAL_STATE, "snapshots are made once, when they were prepared")
        self._is_taken = True
        before = set(self._batch.refused)
        refused = {path: why for path, why in self._batch.take().items() if path not in before}
        self._tell(refused)
        return x.SnapshotTakeReply(refusals=_refusals(refused))

    def _tell(self, refused: Mapping[bytes, str]) -> None:
        for path, why in refused.items():
            self._log.warning("no snapshot", path=show_path(path), why=why)


def _refusals(refused: Mapping[bytes, str]) -> tuple[x.SnapshotRefusal, ...]:
    return tuple(x.SnapshotRefusal(path, why.encode()) for path, why in refused.items())
