"""Thin adapter: what a service listens on for one data connection: one socket for each address of the node.

A reply names all of them, the node's own address first: many peers try only the first one.
"""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Callable, Sequence

from appliance.ndmp import dataconn
from appliance.ndmp.enums import AddressType, ErrorCode
from appliance.ndmp.errors import RefusalError
from appliance.ndmp.networks import DataRules
from appliance.ndmp.types import Address, Pval


class DataListener:
    """Listens until one connection was taken; `shut` wakes who waits for it."""

    def __init__(self, host: str, rules: DataRules, kind: AddressType = AddressType.TCP) -> None:
        """`host`: the node's own IPv4 address.

        Raises RefusalError: ILLEGAL_ARGS when the node has no address of that kind, CONNECT when no port can
        be had.
        """
        hosts = rules.hosts(kind, host)
        if not hosts:
            raise RefusalError(
                ErrorCode.ILLEGAL_ARGS, f"no {kind.name} address is configured; see data_addresses"
            )
        with contextlib.ExitStack() as opened:
            self._sockets = [opened.enter_context(dataconn.listen(each, ports=rules.ports)) for each in hosts]
            opened.pop_all()
        self._kind = kind

    def address(self, env: Sequence[Pval] = ()) -> Address:
        """Where it listens, with `env` for each endpoint."""
        found = [dataconn.local_address(each, env) for each in self._sockets]
        if self._kind is AddressType.TCP_IPV6:
            return Address(self._kind, tcp6=tuple(each.tcp6[0] for each in found))
        return Address(AddressType.TCP, tuple(each.tcp[0] for each in found))

    def accept(self, rules: DataRules, ended: Callable[[], bool] = lambda: False) -> socket.socket:
        """Take one connection, as `dataconn.accept` does."""
        return dataconn.accept(self._sockets, rules, ended)

    def is_called(self) -> bool:
        """Whether a connection waits, or the listener was shut."""
        poller = select.poll()
        for each in self._sockets:
            poller.register(each, select.POLLIN)
        return bool(poller.poll(0))

    def shut(self) -> None:
        """Wake who waits in `accept`; safe to repeat."""
        for each in self._sockets:
            dataconn.shut(each)

    def close(self) -> None:
        """Stop listening; safe to repeat."""
        for each in self._sockets:
            each.close()
