"""What drives and changers have in common: sending a command and judging its end, readiness, identity."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tape.commands import PREVENT_ALLOW, TEST_UNIT_READY, name_of
from tape.errors import NoMediumError, NotReadyError, UnitAttentionError
from tape.identity import Identity, identify
from tape.sense import error_for
from tape.transport import DEFAULT_TIMEOUT_S, Completion, DataOut, Transport

__all__ = ["ScsiDevice"]

# A device queues few unit attentions (reset, medium, mode parameters, microcode...); one that has
# more than this to tell in a row is broken.
MAX_UNIT_ATTENTIONS = 16
# Loading takes seconds: asking more often only fills logs.
READY_POLL_S = 0.5


class ScsiDevice:
    """One device behind a transport, which it owns from now on.

    Args:
        transport: the path to it.
        now: monotonic seconds; tests pass a clock of their own.
        sleep: waits that many seconds.

    """

    def __init__(
        self,
        transport: Transport,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.transport = transport
        self._now = now
        self._sleep = sleep

    @property
    def name(self) -> str:
        """What an operator calls the device."""
        return self.transport.name

    def identify(self) -> Identity:
        """Return who the device is; see `identity.identify`."""
        return identify(self.transport)

    def test_ready(self) -> None:
        """Return if the device is ready (TEST UNIT READY, SPC-4, 6.47).

        Raises:
            NotReadyError, NoMediumError, UnitAttentionError: it is not, or has something to tell.

        """
        self._command(TEST_UNIT_READY.cdb())

    def wait_ready(self, timeout_s: float, *, medium_expected: bool = False) -> None:
        """Return as soon as the device is ready, taking note of unit attentions on the way.

        Args:
            timeout_s: seconds to wait at most.
            medium_expected: a changer has just delivered a cartridge, which some drives notice late:
                "no medium" is waited out as well.

        Raises:
            NotReadyError: still not ready when the time was over.
            NoMediumError: no cartridge (at once, or with `medium_expected` when the time was over).
            UnitAttentionError: it told more unit attentions than any sane device has.

        """
        deadline = self._now() + timeout_s
        attentions = 0
        while True:
            try:
                return self.test_ready()
            except UnitAttentionError:
                attentions += 1
                if attentions > MAX_UNIT_ATTENTIONS:
                    raise
                continue
            except NoMediumError:
                if not medium_expected or self._now() >= deadline:
                    raise
            except NotReadyError:
                if self._now() >= deadline:
                    raise
            self._sleep(READY_POLL_S)

    def prevent_removal(self, prevent: bool) -> None:
        """Lock the medium in, or release it (PREVENT ALLOW MEDIUM REMOVAL, SPC-4, 6.19)."""
        self._command(PREVENT_ALLOW.cdb(prevent=int(prevent)))

    def close(self) -> None:
        """Close the transport."""
        self.transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _command(
        self,
        cdb: bytes,
        *,
        data_out: DataOut = b"",
        data_in_length: int = 0,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> Completion:
        """Execute a command and raise whatever is wrong with its end."""
        done = self.transport.execute(
            cdb, data_out=data_out, data_in_length=data_in_length, timeout_s=timeout_s
        )
        self._check(done, cdb)
        return done

    def _check(self, done: Completion, cdb: bytes) -> None:
        """Raise the error for `done`, if there is one."""
        error = error_for(done, self.name, name_of(cdb))
        if error is not None:
            raise error
