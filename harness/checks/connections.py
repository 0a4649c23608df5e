"""Proof: one job, one backup channel.

A connection is judged by its two endpoints, whoever dialled: the connection server's data
connection to the media server, on any port but those of the control services.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from harness.checks.result import CheckResult, verdict

Endpoint = tuple[str, int]


@dataclass(frozen=True)
class Connection:
    """A TCP connection, the same whichever side saw it."""

    low: Endpoint
    high: Endpoint

    @classmethod
    def between(cls, one: Endpoint, other: Endpoint) -> Connection:
        """Return the connection of two endpoints."""
        low, high = sorted((one, other))
        return cls(low, high)

    def __str__(self) -> str:
        return f"{self.low[0]}:{self.low[1]} - {self.high[0]}:{self.high[1]}"


def channels(
    seen: Iterable[Connection], connection_server: str, media_server: str, control_ports: Collection[int]
) -> list[Connection]:
    """Return the data connections between the two servers."""
    hosts = {connection_server, media_server}
    return sorted(
        (
            item
            for item in set(seen)
            if {item.low[0], item.high[0]} == hosts
            and item.low[1] not in control_ports
            and item.high[1] not in control_ports
        ),
        key=str,
    )


def one_channel(
    name: str,
    seen: Iterable[Connection],
    connection_server: str,
    media_server: str,
    control_ports: Collection[int],
) -> CheckResult:
    """Pass if exactly one data connection joined the two servers."""
    seen = list(seen)
    found = channels(seen, connection_server, media_server, control_ports)
    summary = (
        f"{len(found)} backup channel{'' if len(found) == 1 else 's'} among {len(set(seen))} connections"
    )
    return verdict(name, len(found) == 1, summary, [str(item) for item in found])
