"""Topology files: what is accepted, and how errors point at the mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness_support import FAST

from harness import topology as topologies
from harness.errors import EXIT_USAGE, TopologyError, UsageError


def error_of(text: str, folder: Path) -> TopologyError:
    """The error that a topology text is refused with."""
    path = folder / "t.yaml"
    path.write_text(text)
    with pytest.raises(TopologyError) as caught:
        topologies.read(path)
    return caught.value


@pytest.mark.parametrize("name", topologies.shipped())
def test_shipped_topologies_are_valid(name: str) -> None:
    """Every shipped topology reads, and has the five nodes and six parts of the main job."""
    topology = topologies.read(topologies.find(name))
    assert {"fs1", "fs2", "conn1", "media1", "backup1"} <= {node.name for node in topology.nodes}
    assert topology.name == name
    owners = {item.path: item.owner for item in topology.gns}
    assert (owners["/projects"], owners["/projects/media"]) == ("fs1", "fs2")
    assert (owners["/restored"], owners["/restored/home"]) == ("fs1", "fs2")
    assert len(topology.libraries[0].slots) == 16


@pytest.mark.parametrize(
    ("old", "new", "line", "field", "words"),
    [
        ("address: 127.77.0.12", "adress: 127.77.0.12", 8, "nodes[1].adress", "unknown key"),
        ("127.77.0.12", "10.0.0.12", 8, "nodes[1].address", "outside the subnet"),
        ("127.77.0.12", "127.77.0.11", 8, "nodes[1].address", "twice"),
        ("name: fs2", "name: fs1", 8, "nodes[1].name", "twice"),
        ("owner: fs2, dir: media", "owner: conn1, dir: media", 15, "gns[2].owner", "no file-server"),
        ("node: media1", "node: fs1", 18, "libraries[0].node", "no media-server"),
        ("writable: [A00001]", "writable: [B00001]", 18, "libraries[0].writable", "not in slots"),
        ("roles: [connection-server]", "roles: [router]", 9, "nodes[2].roles[0]", "not allowed"),
        ("provider: process", "provider: magic", 3, "provider", "not allowed"),
        ("schema: 1", "schema: 2", 1, "schema", "1 was expected"),
        ("subnet: 127.77.0.0/24", "subnet: 127.77.0.1/24", 4, "subnet", "host bits"),
        ("subnet: 127.77.0.0/24", "subnet: 127.77.0.0/24\nsubnet: 1.2.3.0/24", 5, "subnet", "twice"),
        ("name: fake\n", "", 1, "", "the key name is missing"),
        ("nodes:", "nodes: [", 7, "", "not YAML"),
    ],
)
def test_errors_name_file_line_and_field(
    tmp_path: Path, old: str, new: str, line: int, field: str, words: str
) -> None:
    """A mistake is reported with the file, its line, its field and what is wrong with it."""
    assert old in FAST
    error = error_of(FAST.replace(old, new, 1), tmp_path)
    assert (error.line, error.field) == (line, field), error
    assert words in str(error)
    assert str(error).startswith(f"{tmp_path}/t.yaml:{line}: ")
    assert error.exit_code == EXIT_USAGE


def test_another_subnet_keeps_host_parts(tmp_path: Path) -> None:
    """A lab in another /24 has the same last octets, so that two labs never share an address."""
    path = tmp_path / "t.yaml"
    path.write_text(FAST)
    moved = topologies.read(path).with_subnet("127.77.9.0/24")
    assert [node.address for node in moved.nodes] == [f"127.77.9.{host}" for host in (11, 12, 21, 31, 41)]


def test_unknown_topology_names_the_shipped_ones() -> None:
    """Asking for a topology that is neither shipped nor a file says what there is."""
    with pytest.raises(UsageError, match=r"shipped: .*process, vms"):
        topologies.find("nowhere")


def virtual(library: str = "", *, provider: str = "libvirt", image: str = "debian") -> str:
    """Return a topology with an mhvtl library, and `library` as further lines of it."""
    text = FAST.replace("provider: process", f"provider: {provider}")
    text = text.replace("[media-server],", f"[media-server], image: {image},")
    begin = text.index("libraries:")
    return text[:begin] + (
        "libraries:\n"
        "  - node: media1\n"
        "    transport: mhvtl\n"
        "    changer: MHVLIB0001\n"
        "    drives: [MHVDRV0001, MHVDRV0002]\n"
        "    slots: [MHV001L8, MHV002L7, CLN001L8]\n"
        "    writable: [MHV001L8]\n" + library
    )


def test_a_library_of_mhvtl_has_the_slots_it_has(tmp_path: Path) -> None:
    """Its first slot needs not be told, and its packages are files of this host."""
    path = tmp_path / "t.yaml"
    path.write_text(virtual("    packages: [/srv/mhvtl-dkms.deb, ~/mhvtl.deb]\n"))
    (library,) = topologies.read(path).libraries
    assert library.first_slot == 1000
    assert library.packages == ("/srv/mhvtl-dkms.deb", "~/mhvtl.deb")


@pytest.mark.parametrize(
    ("old", "new", "field", "words"),
    [
        ("MHVLIB0001", "MHVLIB00001", "changer", "at most 10 characters"),
        ("MHVDRV0002", "MHVDRV00002", "drives", "MHVDRV00002: mhvtl has"),
        ("MHV002L7", "MHV002L6", "slots", "a drive for LTO-8 does not write LTO-6"),
        ("MHV002L7", "MHV002", "slots", "MHV002: mhvtl makes LTO"),
        ("    writable: [MHV001L8]", "    writable: []\n    first_slot: 4096", "first_slot", "1000"),
        ("    writable: [MHV001L8]", "    writable: []\n    packages: [a.deb]", "packages[0]", "absolute"),
        ("image: debian", "image: appliance", "transport", "a module in the kernel of media1"),
        ("transport: mhvtl", "transport: tgt\n    repository: deb http://x ./", "repository", "only for"),
    ],
)
def test_what_mhvtl_cannot_be_is_refused(tmp_path: Path, old: str, new: str, field: str, words: str) -> None:
    """Serials and barcodes that it cuts, cartridges no drive of it writes, machines without its module."""
    text = virtual()
    assert old in text
    error = error_of(text.replace(old, new), tmp_path)
    assert error.field == f"libraries[0].{field}"
    assert words in str(error)


def test_mhvtl_is_not_for_processes(tmp_path: Path) -> None:
    """A process has no kernel of its own; the error says which machines have one."""
    text = virtual(provider="process").replace("image: debian, ", "")
    error = error_of(text, tmp_path)
    assert error.field == "libraries[0].transport"
    assert "image: debian" in error.hint
