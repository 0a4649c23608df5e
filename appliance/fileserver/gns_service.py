"""The map of junctions between file servers: pulled by all, changed on the writer."""

from __future__ import annotations

import json
from collections.abc import Mapping

from appliance.errors import SpanreelError
from appliance.gns.codec import encode_map
from appliance.gns.service import MapService
from appliance.ndmp import extension as x
from appliance.ndmp.enums import ErrorCode
from appliance.ndmp.session import Handler
from appliance.ndmp.xdr import Struct


class GnsService:
    """Answers pulls and changes of one session."""

    def __init__(self, maps: MapService) -> None:
        self._maps = maps

    def handlers(self) -> Mapping[type[Struct], Handler]:
        """The requests about the map."""
        return {x.GnsPullRequest: self._on_pull, x.GnsChangeRequest: self._on_change}

    def close(self) -> None:
        """Nothing is held."""

    def _on_pull(self, request: x.GnsPullRequest) -> x.GnsPullReply:
        gns = self._maps.current()
        if gns.generation == request.have_generation:
            return x.GnsPullReply(generation=gns.generation)
        return x.GnsPullReply(generation=gns.generation, document=encode_map(gns))

    def _on_change(self, request: x.GnsChangeRequest) -> x.GnsChangeReply:
        try:
            gns = self._maps.change(json.loads(request.change))
        except (SpanreelError, ValueError) as error:
            # The text goes back in the body: the person who asked for the change needs the reason.
            return x.GnsChangeReply(text=str(error).encode())
        return x.GnsChangeReply(error=ErrorCode.NO_ERR, generation=gns.generation)
