"""The DMA's control sessions: opened, authenticated, and their failures put into words."""

from __future__ import annotations

from collections.abc import Callable

from appliance.config import NdmpServer
from appliance.errors import ConfigurationError, InfrastructureError, JobError, SpanreelError
from appliance.ndmp.client import Client
from appliance.ndmp.endpoint import Received
from appliance.ndmp.enums import ErrorCode
from appliance.ndmp.errors import ConnectionLostError, NdmpError, RemoteFaultError, ReplyError


def connect(
    server: NdmpServer, source: str | None = None, on_post: Callable[[Received], None] | None = None
) -> Client:
    """Open a session with an NDMP server and log in.

    Raises InfrastructureError when it cannot be reached, ConfigurationError for a wrong password.
    """
    password = server.password()
    where = f"{server.name} at {server.address} port {server.port}"
    try:
        client = Client.connect((server.address, server.port), server.name, on_post=on_post, source=source)
    except ConnectionLostError as error:
        raise InfrastructureError(str(error)) from error
    try:
        client.login(server.user, password)
    except ReplyError as error:
        client.close()
        if error.code is ErrorCode.NOT_AUTHORIZED:
            raise ConfigurationError(
                f"{where} refused user {server.user!r}: wrong user or password; see {server.password_file}"
            ) from error
        raise InfrastructureError(f"{where} refused the session: {error}") from error
    except NdmpError as error:
        client.close()
        raise InfrastructureError(f"{where}: {error}") from error
    return client


def explain(error: NdmpError) -> SpanreelError:
    """An error of the protocol as one for people: a lost peer is infrastructure, a refusal fails the job."""
    if isinstance(error, RemoteFaultError):
        return InfrastructureError(str(error))
    return JobError(str(error))
