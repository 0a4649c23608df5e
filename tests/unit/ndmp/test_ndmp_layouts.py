"""Every message has the layout that the draft's XDR definitions give it.

The table was made from the XDR blocks of draft-skardal-ndmpv4-04 by a script that shares nothing with
the product, and agrees with the definitions that other implementations are built from (ndmp4.x), but for
CONFIG_SET_EXT_LIST, where the draft is right.

4 and 8: a number of so many bytes (enumerations and short numbers take 4); s: a string or opaque data;
[...]: an array; a word: a union, whose bytes test_ndmp_xdr.py checks.
"""

from __future__ import annotations

from typing import Any

import pytest
from ndmp_support import UNIONS

from appliance.ndmp import extension, messages
from appliance.ndmp.declare import REGISTRY, Kind
from appliance.ndmp.dialect import OBSOLETE
from appliance.ndmp.xdr import StructCodec, codec_of

LAYOUTS = """
0x100 reply config_get_host_info: 4 s s s s
0x102 reply config_get_connection_type: 4 [4]
0x103 request config_get_auth_attr: 4
0x103 reply config_get_auth_attr: 4 auth_attr
0x104 reply config_get_butype_info: 4 [s [s s] 4]
0x105 reply config_get_fs_info: 4 [4 s s s 8 8 8 8 8 [s s] s]
0x106 reply config_get_tape_info: 4 [s [s 4 [s s]]]
0x107 reply config_get_scsi_info: 4 [s [s 4 [s s]]]
0x108 reply config_get_server_info: 4 s s s [4]
0x109 request config_set_ext_list: [4 4]
0x109 reply config_set_ext_list: 4
0x10a reply config_get_ext_list: 4 [4 [4]]
0x200 request scsi_open: s
0x200 reply scsi_open: 4
0x201 reply scsi_close: 4
0x202 reply scsi_get_state: 4 4 4 4
0x204 reply scsi_reset_device: 4
0x206 request scsi_execute_cdb: 4 4 4 s s
0x206 reply scsi_execute_cdb: 4 4 4 s s
0x300 request tape_open: s 4
0x300 reply tape_open: 4
0x301 reply tape_close: 4
0x302 reply tape_get_state: 4 4 4 4 4 4 4 8 8
0x303 request tape_mtio: 4 4
0x303 reply tape_mtio: 4 4
0x304 request tape_write: s
0x304 reply tape_write: 4 4
0x305 request tape_read: 4
0x305 reply tape_read: 4 s
0x307 request tape_execute_cdb: 4 4 4 s s
0x307 reply tape_execute_cdb: 4 4 4 s s
0x400 reply data_get_state: 4 4 4 4 4 8 8 4 addr 8 8
0x401 request data_start_backup: s [s s]
0x401 reply data_start_backup: 4
0x402 request data_start_recover: [s s] [s s s s 8 8] s
0x402 reply data_start_recover: 4
0x403 reply data_abort: 4
0x404 reply data_get_env: 4 [s s]
0x407 reply data_stop: 4
0x409 request data_listen: 4
0x409 reply data_listen: 4 addr
0x40a request data_connect: addr
0x40a reply data_connect: 4
0x40b request data_start_recover_filehist: [s s] [s s s s 8 8] s
0x40b reply data_start_recover_filehist: 4
0x501 post notify_data_halted: 4
0x502 post notify_connection_status: 4 4 s
0x503 post notify_mover_halted: 4
0x504 post notify_mover_paused: 4 8
0x505 post notify_data_read: 8 8
0x602 post log_file: s 4
0x603 post log_message: 4 4 s 4 4
0x703 post fh_add_file: [[file_name] [4 4 4 4 4 4 4 4 4 8 4] 8 8]
0x704 post fh_add_dir: [[file_name] 8 8]
0x705 post fh_add_node: [[4 4 4 4 4 4 4 4 4 8 4] 8 8]
0x900 request connect_open: 4
0x900 reply connect_open: 4
0x901 request connect_client_auth: auth_data
0x901 reply connect_client_auth: 4
0x903 request connect_server_auth: auth_attr
0x903 reply connect_server_auth: 4 auth_data
0xa00 reply mover_get_state: 4 4 4 4 4 4 4 8 8 8 8 8 addr
0xa01 request mover_listen: 4 4
0xa01 reply mover_listen: 4 addr
0xa02 reply mover_continue: 4
0xa03 reply mover_abort: 4
0xa04 reply mover_stop: 4
0xa05 request mover_set_window: 8 8
0xa05 reply mover_set_window: 4
0xa06 request mover_read: 8 8
0xa06 reply mover_read: 4
0xa07 reply mover_close: 4
0xa08 request mover_set_record_size: 4
0xa08 reply mover_set_record_size: 4
0xa09 request mover_connect: 4 addr
0xa09 reply mover_connect: 4
"""

UNION_NAMES = {codec_of(cls): cls.__name__ for cls in UNIONS}
DRAFT_NAMES = {"Address": "addr", "AuthData": "auth_data", "AuthAttr": "auth_attr", "FileName": "file_name"}


def layout(codec: Any) -> str:
    """The layout of a codec, in the table's words."""
    if codec in UNION_NAMES:
        return DRAFT_NAMES[UNION_NAMES[codec]]
    if isinstance(codec, StructCodec):
        return " ".join(filter(None, (layout(step) for _, _, step in codec.steps)))
    if hasattr(codec, "element"):
        return f"[{layout(codec.element)}]"
    run = getattr(codec, "run", codec)
    if hasattr(run, "packer"):
        return " ".join({"I": "4", "Q": "8"}[letter] for letter in run.packer.format.lstrip(">"))
    return "s"


def table() -> dict[tuple[Kind, int], tuple[str, str]]:
    """Name and layout by kind and code."""
    found = {}
    for line in LAYOUTS.strip().splitlines():
        head, _, fields = line.partition(": ")
        code, kind, name = head.split()
        found[(Kind(kind), int(code, 16))] = (name, fields)
    return found


@pytest.mark.parametrize(("key", "expected"), table().items(), ids=lambda item: str(item[0]))
def test_layout_is_the_drafts(key: tuple[Kind, int], expected: tuple[str, str]) -> None:
    """Each message with fields has the draft's name, code, order and sizes of fields."""
    cls = REGISTRY[key]
    name, fields = expected
    assert cls.__name__ == "".join(word.capitalize() for word in name.split("_")) + key[0].name.capitalize()
    assert layout(codec_of(cls)) == fields


def test_what_the_draft_does_not_lay_out_has_no_fields() -> None:
    """Core messages beyond the table are requests without a body."""
    core = {key: cls for key, cls in REGISTRY.items() if key[1] < 0x10000 and key[1] not in OBSOLETE}
    rest = {key: cls for key, cls in core.items() if key not in table()}
    assert {kind for kind, _ in rest} == {Kind.REQUEST}
    assert {layout(codec_of(cls)) for cls in rest.values()} == {""}


def test_extension_messages_are_in_the_projects_class() -> None:
    """What is not the draft's lies in class 0x7FE0, or in one that was published."""
    extensions = {key: cls for key, cls in REGISTRY.items() if key[1] >= 0x10000}
    published = {messages.ECHO_CLASS, messages.CAB_CLASS}
    assert {code >> 16 for _, code in extensions} == {extension.CLASS_ID, *published}
    own = {key: cls for key, cls in extensions.items() if key[1] >> 16 == extension.CLASS_ID}
    assert all(layout(codec_of(cls)).startswith("4") for (kind, _), cls in own.items() if kind is Kind.REPLY)
