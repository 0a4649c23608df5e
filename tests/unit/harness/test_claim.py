"""Two labs of one name on one host."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import InfrastructureError
from harness.providers.libvirt.claim import Claim


class Host:
    """What two labs of one name share."""

    def __init__(self, folder: Path) -> None:
        self.runtime = folder / "run" / "vms"
        self.folder = folder
        self.runs = False

    def claim(self, user: str) -> Claim:
        """Return the claim of a user's lab."""
        return Claim(self.runtime, self.folder / user / "spanreel" / "labs" / "vms", runs=lambda: self.runs)

    def begin(self, user: str) -> Claim:
        """Do what `up` does."""
        claim = self.claim(user)
        claim.clear()
        self.runs = True
        claim.take()
        return claim


def test_the_second_is_refused_and_told_what_to_do(tmp_path: Path) -> None:
    """It hears whose lab runs, and the command that ends it; the first goes on as ever."""
    host = Host(tmp_path)
    first = host.begin("one")
    second = host.claim("two")
    with pytest.raises(
        InfrastructureError, match=f"called vms runs .*{tmp_path}/one/spanreel/labs/vms"
    ) as refused:
        host.begin("two")
    assert f"XDG_STATE_HOME={tmp_path}/one spanreel lab down --lab vms" in refused.value.hint
    assert second.other() is not None
    assert first.other() is None
    host.begin("one")


def test_of_two_at_once_one_is_refused(tmp_path: Path) -> None:
    """Both found the name free; the mark decides."""
    host = Host(tmp_path)
    first, second = host.claim("one"), host.claim("two")
    first.clear()
    second.clear()
    host.runs = True
    first.take()
    with pytest.raises(InfrastructureError):
        second.take()


def test_the_mark_of_one_that_is_gone_counts_for_nothing(tmp_path: Path) -> None:
    """After a crash, or a restart of the host, whoever comes first has the name."""
    host = Host(tmp_path)
    host.begin("one")
    host.runs = False
    second = host.begin("two")
    assert second.other() is None
    assert host.claim("one").other() == tmp_path / "two" / "spanreel" / "labs" / "vms"
