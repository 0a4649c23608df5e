"""How a message is declared: a structure, its code, and whether it is a request, a reply or a post."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from enum import Enum
from typing import TypeVar, dataclass_transform

from appliance.ndmp.xdr import Struct

T = TypeVar("T", bound=type[Struct])


class Kind(Enum):
    """What a message is.  A post is a request that nobody answers (draft, 2.6)."""

    REQUEST = "request"
    REPLY = "reply"
    POST = "post"


REGISTRY: dict[tuple[Kind, int], type[Struct]] = {}
"""Every declared message of version 4 by kind and code."""

CODES: dict[type[Struct], tuple[Kind, int]] = {}
"""Kind and code of every declared message class."""


def _register(kind: Kind, code: int) -> Callable[[T], T]:
    def declare(cls: T) -> T:
        dataclasses.dataclass(frozen=True)(cls)
        assert (kind, code) not in REGISTRY, f"{kind.value} {code:#x} is declared twice"
        REGISTRY[(kind, code)] = cls
        CODES[cls] = (kind, code)
        return cls

    return declare


@dataclass_transform(frozen_default=True)
def request(code: int) -> Callable[[T], T]:
    """Declare a request that the peer answers."""
    return _register(Kind.REQUEST, code)


@dataclass_transform(frozen_default=True)
def reply(code: int) -> Callable[[T], T]:
    """Declare a reply; every field has a default, so that an error alone makes a whole reply."""
    return _register(Kind.REPLY, code)


@dataclass_transform(frozen_default=True)
def post(code: int) -> Callable[[T], T]:
    """Declare a post, which has no reply."""
    return _register(Kind.POST, code)
