"""Many records in one call between the two lanes of an sg device and a socket, by the compiled helper."""

from __future__ import annotations

from collections.abc import Mapping

from tape.carry import Carried, CarryHelper, Move, Peer
from tape.errors import TapeMisuseError
from tape.sg_lane import SgLane
from tape.sg_running import Submitted
from tape.transport import LANES, Running

__all__ = ["SgCarrier"]


class SgCarrier:
    """The `Carrier` of an sg transport.

    Args:
        name: of the device, for errors.
        helper: the compiled one.
        lanes: those of the transport, by number.

    """

    def __init__(self, name: str, helper: CarryHelper, lanes: Mapping[int, SgLane]) -> None:
        self._name = name
        self._helper = helper
        self._lanes = lanes

    def send_records(self, running: Running, peer: Peer, count: int) -> Carried:
        """From tape to a socket; see `Carrier.send_records`."""
        return self._carry(self._helper.send, running, peer, 0, count)

    def receive_records(self, running: Running, peer: Peer, odd: int, count: int) -> Carried:
        """From a socket to tape; see `Carrier.receive_records`."""
        return self._carry(self._helper.receive, running, peer, odd, count)

    def _carry(
        self,
        move: Move,
        running: Running,
        peer: Peer,
        odd: int,
        count: int,
    ) -> Carried:
        if not isinstance(running, Submitted) or len(self._lanes) != LANES:
            raise TapeMisuseError(f"{self._name}: records are carried between two lanes, a command in one")
        lanes = [self._lanes[number] for number in range(LANES)]
        headers = [
            running.header if lane is running.lane else lane.another(running.header, running.cdb)
            for lane in lanes
        ]
        first, second = (
            (lane.descriptor, header, lane.view[: running.length])
            for lane, header in zip(lanes, headers, strict=True)
        )
        at = lanes.index(running.lane)
        records, odd, held, at, ended, error = move(first, second, at, peer.descriptor, peer.halt, odd, count)
        if at < 0:
            running.over()
            left = None
        else:
            left = running.moved(lanes[at], headers[at], ended=bool(ended))
        return Carried(records, left, odd, held if held >= 0 else None, error)
