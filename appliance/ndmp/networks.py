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
from appliance.ndmp.types import Address, Tcp6Address, TcpAddress

ACCEPT_TIMEOUT_S = 600.0
"""A listener is an open door: who was announced comes within this.  It counts before there is a connection,
where a cartridge may have to be mounted first; silence on a connection is never counted."""


class Networks:
    """A list of networks, IPv4 and IPv6."""

    def __init__(self, texts: Iterable[str]) -> None:
        """Each as `10.77.0.0/24` or a single address.  Raises ValueError for anything else."""
        self._networks = tuple(ipaddress.ip_network(text) for text in texts)

    def holds(self, host: str) -> bool:
        """Whether the address is in one of them."""
        address = ipaddress.ip_address(host)
        return any(address in network for network in self._networks)

    def __str__(self) -> str:
        return ", ".join(map(str, self._networks)) or "none"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Networks) and self._networks == other._networks

    def __hash__(self) -> int:
        return hash(self._networks)


ANYWHERE = Networks(["0.0.0.0/0", "::/0"])


@dataclass(frozen=True)
class DataRules:
    """What a site says about data connections.

    Attributes:
        networks: peers must be in them, whoever connects.
        ports: to listen on; None: any that the kernel gives.
        accept_timeout: seconds that a listener waits.
        addresses: of this node, for data connections; none: its own IPv4 address only.

    """

    networks: Networks = ANYWHERE
    ports: range | None = None
    accept_timeout: float = ACCEPT_TIMEOUT_S
    addresses: tuple[str, ...] = ()

    def hosts(self, kind: AddressType, own: str) -> tuple[str, ...]:
        """Where to listen for, and connect from, addresses of this kind; `own` is the node's, and first."""
        is_ipv6 = kind is AddressType.TCP_IPV6
        found = [each for each in self.addresses if (":" in each) == is_ipv6]
        if not is_ipv6 and (own in found or not found):
            found = [own, *(each for each in found if each != own)]
        return tuple(found)

    def within(self, address: Address) -> Address:
        """`address` without the endpoints that may not be connected to.

        Raises RefusalError(CONNECT) when none is left: the draft's word for an endpoint that cannot be had;
        ILLEGAL_ARGS is about the kind of address (3.5.2.1).
        """
        every = endpoints_of(address)
        if not every:
            return address
        ipv4 = tuple(each for each in address.tcp if self.networks.holds(host_of(each)))
        ipv6 = tuple(each for each in address.tcp6 if self.networks.holds(host_of(each)))
        if not ipv4 and not ipv6:
            asked = ", ".join(sorted({host_of(each) for each in every}))
            raise RefusalError(
                ErrorCode.CONNECT,
                f"{asked} is outside the networks of data connections ({self.networks}); see data_networks",
            )
        return Address(address.type, ipv4, tcp6=ipv6)


NO_RULES = DataRules()


def endpoints_of(address: Address) -> tuple[TcpAddress | Tcp6Address, ...]:
    """All endpoints of an address, in their order."""
    return address.tcp + address.tcp6


def host_of(endpoint: TcpAddress | Tcp6Address) -> str:
    """The address of an endpoint, as people write it."""
    return str(ipaddress.ip_address(endpoint.ip))
