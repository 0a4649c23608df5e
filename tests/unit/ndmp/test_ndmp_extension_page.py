"""docs/extension.md says what is on the wire."""

from __future__ import annotations

import re
from pathlib import Path

from test_ndmp_layouts import layout

from appliance.ndmp.declare import REGISTRY
from appliance.ndmp.extension import CLASS_ID
from appliance.ndmp.xdr import codec_of

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "extension.md").read_text(encoding="utf-8")
OWN = {key: cls for key, cls in REGISTRY.items() if key[1] >> 16 == CLASS_ID}
TYPES = {
    **dict.fromkeys(["ndmp_error", "ndmp_data_operation", "u_long"], "4"),
    "ndmp_u_quad": "8",
    "ndmp_addr": "addr",
}


def structures() -> dict[str, str]:
    """The layout of each structure on the page, in the words of test_ndmp_layouts."""
    found: dict[str, str] = {}
    for name, body in re.findall(r"struct (\w+)\s*\{(.*?)\};", PAGE, re.DOTALL):
        fields = re.findall(r"(\w+)\s+\w+(<>)?;", body)
        found[name] = " ".join(_field(found, kind, array) for kind, array in fields)
    return found


def _field(known: dict[str, str], kind: str, array: str) -> str:
    if kind in ("opaque", "string"):
        return "s"
    plain = TYPES.get(kind) or known[kind]
    return f"[{plain}]" if array else plain


def test_every_structure_is_laid_out_as_it_is_coded() -> None:
    """The page has each message of the class and no other, with the fields that the code has."""
    page = {
        name: fields for name, fields in structures().items() if name.endswith(("request", "reply", "post"))
    }
    coded = {
        "spanreel_" + re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower(): layout(codec_of(cls))
        for cls in OWN.values()
    }
    assert page == coded


def test_every_message_has_a_heading_with_its_code() -> None:
    """Whoever sees a code in a trace finds its section."""
    headings = re.findall(r"^### (\w+), (0x[0-9A-F]+)", PAGE, re.MULTILINE)
    names = {
        (re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).rpartition("_")[0].upper(), f"0x{code:08X}")
        for (_, code), cls in OWN.items()
    }
    assert set(headings) == names
