"""What nodes say to each other changes with a new version only: cluster_versions/ has those of each."""

from __future__ import annotations

from pathlib import Path

from test_ndmp_layouts import layout

from appliance.agreement import SPOKEN
from appliance.ndmp.declare import REGISTRY
from appliance.ndmp.extension import CLASS_ID, CLASS_VERSION
from appliance.ndmp.xdr import codec_of

KEPT = Path(__file__).with_name("cluster_versions")


def messages() -> str:
    """The messages of the class as they are coded: code, kind, layout in the words of test_ndmp_layouts."""
    own = sorted(
        (code, kind.name, layout(codec_of(cls)))
        for (kind, code), cls in REGISTRY.items()
        if code >> 16 == CLASS_ID
    )
    return "".join(f"{code:#010x} {kind.lower()} {fields}".rstrip() + "\n" for code, kind, fields in own)


def test_the_messages_are_those_of_their_version() -> None:
    """Who changes a message gives the class a new version, and keeps the old form for one release."""
    assert messages() == (KEPT / f"{CLASS_VERSION}.txt").read_text(encoding="ascii")


def test_every_version_that_is_spoken_is_kept() -> None:
    """What the release before says is known for as long as this one speaks it."""
    assert {f"{version}.txt" for version in SPOKEN} <= {path.name for path in KEPT.iterdir()}
