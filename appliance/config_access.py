"""Who gets in, in configuration files: networks, ports, and the accounts file."""

from __future__ import annotations

import ipaddress
import re
import tomllib
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, ValidationError

from appliance.errors import ConfigurationError
from appliance.files import read_secret
from appliance.ndmp.accounts import Account
from appliance.ndmp.networks import ANYWHERE, Networks

PORT_MAX: Final = 65535
_ENDPOINT: Final = "ADDRESS:PORT, such as 10.77.0.11:9700"


def _endpoint(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or not 0 < int(port) <= PORT_MAX:
        raise ValueError(f"must be {_ENDPOINT}")
    try:
        return f"{ipaddress.IPv4Address(host)}:{int(port)}"
    except ValueError:
        raise ValueError(f"must be {_ENDPOINT}") from None


def _networks(texts: object) -> Networks:
    if isinstance(texts, Networks):
        return texts
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise ValueError('must be a list of networks, such as ["10.77.0.0/24"]')
    try:
        return Networks(texts)
    except ValueError as error:
        raise ValueError(f"must be networks such as 10.77.0.0/24: {error}") from None


def _ports(text: object) -> range | None:
    if text is None or isinstance(text, range):
        return text
    found = re.fullmatch(r"(\d{1,5})-(\d{1,5})", text) if isinstance(text, str) else None
    first, last = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 0 < first <= last <= PORT_MAX:
        raise ValueError('must be two ports, the lower first, such as "20000-20999"')
    return range(first, last + 1)


def _global_path(text: str) -> str:
    if not text.startswith("/") or any(part in (".", "..") for part in text.split("/")) or "\0" in text:
        raise ValueError("must be an absolute global path without . and ..")
    return "/" + "/".join(part for part in text.split("/") if part)


Endpoint = Annotated[str, AfterValidator(_endpoint)]
# These validators take what TOML has and what other code already made.
NetworkList = Annotated[Networks, PlainValidator(_networks)]
PortRange = Annotated[range | None, PlainValidator(_ports)]


class AccountTable(BaseModel):
    """A table `[user]` of an accounts file: the attributes of `appliance.ndmp.accounts.Account`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    password: Annotated[str, Field(min_length=1)]
    text: bool = False
    subtrees: tuple[Annotated[str, AfterValidator(_global_path)], ...] = ()
    restore: bool = True
    networks: NetworkList = ANYWHERE

    def account(self) -> Account:
        """The account that this describes."""
        subtrees = tuple(path.encode() for path in self.subtrees)
        return Account(self.password, self.text, subtrees, self.restore, self.networks)


def read_accounts(path: Path) -> dict[str, Account]:
    """Return user → account from an accounts file: TOML, mode 0600.

    A line `user = "password"` is an account that may do everything; a table `[user]` says what it may.
    Raises ConfigurationError.
    """
    try:
        accounts = tomllib.loads(read_secret(path).decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: not UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: not TOML: {error}") from error
    return {user: _account(path, user, given) for user, given in accounts.items()}


def _account(path: Path, user: str, given: object) -> Account:
    if isinstance(given, str) and given:
        return Account(given)
    if not isinstance(given, dict):
        raise ConfigurationError(
            f'{path}: {user}: must be a string that is not empty, user = "password", or a table [user]'
        )
    try:
        return AccountTable.model_validate(given).account()
    except ValidationError as error:
        raise ConfigurationError(f"{path}: {user}: {_without_secrets(error)}") from None


def _without_secrets(error: ValidationError) -> str:
    """What is wrong, by key; never the values, one of which is a password."""
    found = [
        f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors(include_input=False)
    ]
    return "; ".join(found) + f"; allowed here: {', '.join(AccountTable.model_fields)}"
