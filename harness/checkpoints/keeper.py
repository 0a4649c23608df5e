"""Saves and reverts: what a checkpoint is worth is decided here, how nodes are kept is the provider's."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from harness import states
from harness.checkpoints import record
from harness.checkpoints.record import Record
from harness.checkpoints.store import FILES, NODES, Store
from harness.errors import InfrastructureError, NotPossibleError, UsageError
from harness.providers.base import Provider
from harness.walk import walking


class Keeper:
    """The checkpoints of a lab whose lock the caller holds."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.store = Store(provider.lab.folder / "checkpoints")

    @property
    def possible(self) -> bool:
        """Whether this provider keeps checkpoints."""
        return bool(self._nodes)

    def fitting(self) -> list[str]:
        """Return the states that are kept and fit."""
        return [state for state in states.KEPT if self.fits(state)]

    def fits(self, name: str, asked: Mapping[str, Any] | None = None) -> bool:
        """Whether a checkpoint is there and made of what the lab would be made of now."""
        found = self.store.find(name)
        return found is not None and self.possible and not self.changes(found, asked)

    def changes(self, kept: Record, asked: Mapping[str, Any] | None = None) -> list[str]:
        """Return what has changed since a checkpoint was made; nothing if it fits.

        Who asks for nothing in particular takes what was asked for then.
        """
        now = self._made_of(kept.state, asked)
        if asked is None and record.ASKED in kept.made_of:
            now[record.ASKED] = kept.made_of[record.ASKED]
        return record.differences(kept.made_of, now)

    def save(
        self,
        name: str = "",
        *,
        asked: Mapping[str, Any] | None = None,
        note: Mapping[str, Any] | None = None,
        files: Mapping[str, Path] | None = None,
    ) -> Record:
        """Keep the lab as it is now; it goes on running.

        Args:
            name: of the checkpoint; without, that of the lab's state.
            asked: what must be asked for again for it to fit, beside the topology.
            note: kept with it.
            files: copied into it.

        """
        provider, lab = self.provider, self.provider.lab
        state = lab.state
        if state not in states.KEPT or not all(provider.alive().values()):
            raise InfrastructureError(f"lab {lab.name} is not ready, so there is nothing to keep")
        made_of = self._made_of(state, asked) | lab.made_of
        wanted = Record(name or state, state, made_of, note=dict(note or {}))
        self.store.path(wanted.name)
        self.store.require_room(wanted.name, provider.keeping_bytes())
        with provider.events.stepping("", "save", f"checkpoint {wanted.name}") as progress:
            # A crash meanwhile leaves a lab of which nothing is known.
            lab.state = states.BOOTED
            lab.save()
            try:
                made = self.store.make(wanted, provider.keep, files)
            finally:
                if all(provider.alive().values()):
                    lab.state = state
                    lab.save()
            progress(f"checkpoint {made.name}: {made.bytes >> 20} MiB")
        self.store.prune(lambda _: True)
        return made

    def revert(self, name: str, asked: Mapping[str, Any] | None = None) -> Record:
        """Put the lab back as it was at a checkpoint, whatever it is now, off included."""
        kept = self.store.find(name)
        lab, provider = self.provider.lab, self.provider
        if kept is None:
            have = ", ".join(item.name for item in self.store.all()) or "none"
            raise UsageError(f"lab {lab.name} has no checkpoint {name!r}", hint=f"there are: {have}")
        if changed := self.changes(kept, asked):
            raise UsageError(
                f"checkpoint {name} does not fit any more: changed since: {', '.join(changed)}",
                hint=f"begin anew: spanreel lab up --fresh --lab {lab.name}",
            )
        with (
            walking(provider, states.revert(kept.state)),
            provider.events.stepping("", "revert", f"checkpoint {name}"),
        ):
            if not all(provider.alive().values()):
                provider.check()
            lab.state = states.BOOTED
            lab.save()
            provider.put_back(self.store.path(name) / NODES)
            lab.state, lab.made_of = kept.state, dict(self._nodes)
            lab.save()
        provider.put_back_to = name
        if provider.leases is not None:
            provider.leases.renew()
        return kept

    def file(self, name: str, file: str) -> Path:
        """Return a file that was kept with a checkpoint."""
        return self.store.path(name) / FILES / file

    @cached_property
    def _nodes(self) -> Mapping[str, str]:
        """What nodes are made of; nothing where they cannot be kept."""
        try:
            return self.provider.made_of()
        except NotPossibleError:
            return {}

    def _made_of(self, state: str, asked: Mapping[str, Any] | None) -> dict[str, str]:
        if not self._nodes:
            raise NotPossibleError(
                f"the nodes of lab {self.provider.lab.name} cannot be kept",
                hint=f"the provider {self.provider.topology.provider} has no checkpoints",
            )
        return record.made_of(self.provider.topology, self.provider.lab.token, state, self._nodes, asked)
