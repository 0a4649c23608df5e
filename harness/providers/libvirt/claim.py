"""Whose a lab's name is on this host.

A lab's folder lies in the state of whoever made it, but its network namespace and its sockets in /run go by
its name alone: two labs of one name, of two users or of two $XDG_STATE_HOME, would be one another's.  So a
lab that runs leaves a mark, a symbolic link to its folder, beside its sockets.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.errors import InfrastructureError

MARK = "lab"


class Claim:
    """One lab's claim to its name.

    Args:
        runtime: where its sockets are; the mark goes and comes with it.
        folder: the lab's.
        runs: whether a lab of this name has anything on this host.

    """

    def __init__(self, runtime: Path, folder: Path, runs: Callable[[], bool]) -> None:
        self._mark = runtime / MARK
        self._folder = folder.absolute()
        self._runs = runs

    def other(self) -> Path | None:
        """Return the folder of the other lab that has the name now; None if it is ours, or free."""
        try:
            holder = self._mark.readlink()
        except FileNotFoundError:
            return None
        return holder if holder != self._folder and self._runs() else None

    def require(self) -> None:
        """Raise InfrastructureError if another lab has the name."""
        holder = self.other()
        if holder is None:
            return
        # STATE/spanreel/labs/NAME
        state, name = holder.parents[2], holder.name
        end = f"XDG_STATE_HOME={state} spanreel lab down --lab {name}"
        raise InfrastructureError(
            f"another lab called {name} runs on this host, and has its network and machines: {holder}",
            hint=f"take another name (--lab), or end that one: {end}",
        )

    def clear(self) -> None:
        """Remove the mark of a lab that ended without doing so.  Raises as `require`."""
        self.require()
        if not self._runs():
            self._mark.unlink(missing_ok=True)

    def take(self) -> None:
        """Leave the mark.  Raises as `require`, if another lab was quicker."""
        self._mark.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._mark.symlink_to(self._folder)
        except FileExistsError:
            self.require()
