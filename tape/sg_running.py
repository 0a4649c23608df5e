"""A command that the sg driver has, and what became of one that has ended."""

from __future__ import annotations

from collections.abc import Callable

from tape.sg_lane import MAX_SENSE, SgIoHeader, SgLane, judge_delivery
from tape.transport import Completion, Running

__all__ = ["Submitted", "outcome"]


class Submitted(Running):
    """A command that the driver has.

    Args:
        over: called when its end has been taken note of, whatever it was.
        ended: the driver has given it back, and its outcome is in the header.

    """

    def __init__(
        self,
        lane: SgLane,
        header: SgIoHeader,
        cdb: bytes,
        length: int,
        over: Callable[[], None],
        *,
        ended: bool = False,
    ) -> None:
        super().__init__(cdb, length)
        self.descriptor = None if ended else lane.descriptor
        self.lane, self.header, self.over, self._ended = lane, header, over, ended

    def moved(self, lane: SgLane, header: SgIoHeader, *, ended: bool) -> Submitted:
        """The same command in a lane, begun or ended by others; this one is not to be used any more."""
        return Submitted(lane, header, self.cdb, self.length, self.over, ended=ended)

    def finish(self) -> Completion:
        """Wait for its end; see `Running.finish`."""
        try:
            if not self._ended:
                self.lane.collect(self.header)
            return outcome(self.lane, self.header, self.cdb, None)
        finally:
            self.over()


def outcome(lane: SgLane, header: SgIoHeader, cdb: bytes, received: memoryview | None) -> Completion:
    """What became of a command that has ended.  Raises as `judge_delivery` does."""
    judge_delivery(header, lane.path, cdb)
    residual = max(0, min(header.resid, header.dxfer_len))
    count = header.dxfer_len - residual
    data = bytes(received[:count]) if received is not None else b""
    sense = lane.sense[: min(header.sb_len_wr, MAX_SENSE)]
    return Completion(header.status, data, sense, residual)
