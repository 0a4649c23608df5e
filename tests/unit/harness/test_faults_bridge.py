"""Bad links of machines as nft scripts.  That they do what they say is shown on a bridge, in integration."""

from __future__ import annotations

import pytest

from harness.errors import InfrastructureError, NotPossibleError, UsageError
from harness.faults import bridge
from harness.faults.link import CUT, DEAF, LOSSY, MUTE, SLOW, Bad
from harness.providers.libvirt import harm


def rules(bad: Bad) -> list[str]:
    """The rules of a script."""
    return [line.strip() for line in bridge.made("vnet3", bad).splitlines() if line.strip().endswith("drop")]


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        (CUT, ["oifname vnet3 drop", "iifname vnet3 drop"]),
        (DEAF, ["oifname vnet3 drop"]),
        (MUTE, ["iifname vnet3 drop"]),
        (Bad(arriving=False, loss=0.25), ["iifname vnet3 numgen random mod 1000 < 250 drop"]),
    ],
)
def test_a_direction_is_lost_where_it_crosses_the_port(bad: Bad, expected: list[str]) -> None:
    """What arrives at a machine goes out of the bridge's port, what it sends comes in there."""
    assert rules(bad) == expected


def test_lossy_and_slow_links_lose_some_packets_only() -> None:
    """Both ways, by chance or above a rate, never all."""
    for bad, word in ((LOSSY, "numgen random"), (SLOW, "limit rate over 1048576 bytes/second")):
        assert len(rules(bad)) == 2
        assert all(word in rule for rule in rules(bad))


def test_a_script_first_takes_away_what_was_there() -> None:
    """A link made bad twice is as bad as the second says."""
    assert bridge.made("vnet3", CUT).startswith(bridge.mended("vnet3"))


@pytest.mark.parametrize("name", ["", "vnet0 drop", 'x"', "a-b", "1x"])
def test_what_is_no_port_is_refused(name: str) -> None:
    """Nothing but a name gets into a script."""
    with pytest.raises(UsageError, match="no port"):
        bridge.mended(name)


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        ('exec of "nft" failed: No such file or directory', NotPossibleError, "apt-get install nftables"),
        ("Error: Could not process rule: Operation not supported", NotPossibleError, "kernel filters no"),
        ("Error: syntax error", InfrastructureError, "syntax error"),
    ],
)
def test_a_host_that_cannot_do_it_says_so(
    monkeypatch: pytest.MonkeyPatch, said: str, kind: type[Exception], words: str
) -> None:
    """A missing tool or kernel leaves the scenario out, with the reason; what else is wrong is an error."""
    script = ["sh", "-c", 'cat >/dev/null; echo "$1" >&2; exit 1', "sh", said]
    monkeypatch.setattr(harm.netns, "argv_inside", lambda _name, _argv: script)
    with pytest.raises(kind, match=words), harm.bad_link("none", "vnet3", CUT):
        pass
