"""Networks that peers must be in, and where data connections may come from, go to and listen (draft, 5).

NDMP's LISTEN announces no peer, and CONNECT goes wherever a DMA says: without rules, whoever reaches a
listener first gets the data, and a server is a proxy into its own network.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from appliance.ndmp.enums import AddressType, ErrorCode
from appliance.ndmp.errors import RefusalError
from appliance.ndmp.types import Address, TcpAddress

ACCEPT_TIMEOUT_S = 600.0
"""A listener is an open door: who was announced comes within this.  It counts before there is a connection,
where a cartridge may have to be mounted first; silence on a connection is never counted."""


class Networks:
    """A list of IPv4 networks."""

    def __init__(self, texts: Iterable[str]) -> None:
        """Each as `10.77.0.0/24` or a single address.  Raises ValueError for anything else."""
        self._networks = tuple(ipaddress.IPv4Network(text) for text in texts)

    def holds(self, host: str) -> bool:
        """Whether the address is in one of them."""
        address = ipaddress.IPv4Address(host)
        return any(address in network for network in self._networks)

    def __str__(self) -> str:
        return ", ".join(map(str, self._networks)) or "none"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Networks) and self._networks == other._networks

    def __hash__(self) -> int:
        return hash(self._networks)


ANYWHERE = Networks(["0.0.0.0/0"])


@dataclass(frozen=True)
class DataRules:
    """What a site says about data connections.

    Attributes:
        networks: peers must be in them, whoever connects.
        ports: to listen on; None: any that the kernel gives.
        accept_timeout: seconds that a listener waits.

    """

    networks: Networks = ANYWHERE
    ports: range | None = None
    accept_timeout: float = ACCEPT_TIMEOUT_S

    def within(self, address: Address) -> Address:
        """`address` without the endpoints that may not be connected to.

        Raises RefusalError(CONNECT) when none is left: the draft's word for an endpoint that cannot be had;
        ILLEGAL_ARGS is about the kind of address (3.5.2.1).
        """
        if address.type is not AddressType.TCP or not address.tcp:
            return address
        left = tuple(each for each in address.tcp if self.networks.holds(_host(each)))
        if not left:
            asked = ", ".join(sorted({_host(each) for each in address.tcp}))
            raise RefusalError(
                ErrorCode.CONNECT,
                f"{asked} is outside the networks of data connections ({self.networks}); see data_networks",
            )
        return Address(address.type, left)


NO_RULES = DataRules()


def _host(endpoint: TcpAddress) -> str:
    return str(ipaddress.IPv4Address(endpoint.ip))
