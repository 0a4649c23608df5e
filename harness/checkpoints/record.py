"""What a checkpoint says of itself, and what it was made of.  Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from harness.errors import InfrastructureError
from harness.states import SEEDED, rank
from harness.topology import Topology

# Changed by hand when what lies in a checkpoint changes its form.
FORMAT = 1
# Hex digits of a hash: what is compared is few things of one lab.
_DIGITS = 16
# The part that only whoever asks for the checkpoint can compare.
ASKED = "asked"


@dataclass(frozen=True)
class Record:
    """What stands in `checkpoint.json`.

    Attributes:
        name: the checkpoint's folder; that of its state, or one a person chose.
        state: the lab's state in it.
        made_of: what the lab was made of then, by name; each a value that changes when the thing does.
        made: when, UTC.
        bytes: what it takes on disk.
        note: what whoever saved it wants to know later.

    """

    name: str
    state: str
    made_of: Mapping[str, str]
    made: str = ""
    bytes: int = 0
    note: Mapping[str, Any] = field(default_factory=dict)
    format: int = FORMAT

    def to_json(self) -> str:
        """Return the file's text."""
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"


def read(text: str, where: str) -> Record:
    """Read a record.  Raises InfrastructureError for what is none."""
    try:
        values = json.loads(text)
        if values["format"] != FORMAT:
            raise ValueError(f"format {values['format']}, not {FORMAT}")
        found = Record(**values)
        rank(found.state)
        dict(found.made_of)
    except (ValueError, TypeError, KeyError) as error:
        raise InfrastructureError(
            f"{where} is no record of a checkpoint: {error}", hint="spanreel lab checkpoint prune"
        ) from error
    return found


def made_of(
    topology: Topology,
    token: str,
    state: str,
    nodes: Mapping[str, str],
    asked: Mapping[str, Any] | None = None,
) -> dict[str, str]:
    """Return what a checkpoint depends on: lab, topology, its seed if there is one, and what nodes come from.

    Keys, certificates and names of a lab are in every machine's memory, so a checkpoint is of one lab only:
    its token, hashed, says which.  `asked` is what a caller wants compared besides.
    """
    values = asdict(topology)
    seed = values.pop("seed")
    # Where the file lies says nothing of the lab; what stands in it is here.
    values.pop("file")
    parts = {"lab": digest(token), "topology": digest(values)}
    if rank(state) >= rank(SEEDED):
        parts["seed"] = digest(seed)
    if asked:
        parts[ASKED] = digest(asked)
    return {**parts, **nodes}


def digest(value: Any) -> str:
    """Return a short hash of a JSON value, the same in every run."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def differences(kept: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return the names of what has changed, sorted; nothing if the checkpoint fits."""
    return sorted(name for name in {*kept, *now} if kept.get(name) != now.get(name))
