"""Inventories: what ansible is told of a topology, and what stays secret."""

from __future__ import annotations

import io
import os
import re
import subprocess
import tarfile
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness import lab as labs
from harness import secretstore
from harness import topology as topologies
from harness.deployment import bundle, inventory
from harness.deployment.site import InstalledSite
from harness.errors import TopologyError, UsageError
from harness.image.recipe import checkout
from tests.unit.test_ansible import environment as clean_environment


def make_site(tmp_path: Path, text: str) -> InstalledSite:
    """Make the machines of a topology's text."""
    file = tmp_path / "topology.yaml"
    file.write_text(text)
    topology = topologies.read(file)
    lab = labs.create(topology.name, topology)
    return InstalledSite(lab.topology(), lab)


def shipped(name: str) -> str:
    """Return the text of a shipped topology."""
    return topologies.find(name).read_text()


@pytest.fixture(autouse=True)
def _no_certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labs of the test's own, and certificates that cost nothing."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    made = secretstore.NodeCertificate(b"ca", b"certificate", b"private")
    monkeypatch.setattr(secretstore, "make_certificates", lambda *_: None)
    monkeypatch.setattr(secretstore, "certificate", lambda *_: made)


def written(site: InstalledSite, folder: Path) -> dict[str, Any]:
    """Write the folder, and return what hosts.yml says."""
    inventory.write(site, folder, {"spanreel_version": "1"})
    found: dict[str, Any] = yaml.safe_load((folder / "hosts.yml").read_text())["all"]
    return found


def test_groups_are_the_roles_and_what_tape_there_is(tmp_path: Path) -> None:
    """Each role is a group; one with hardware is in `tape`; the map's writer is last."""
    text = shipped("machines-example").replace("~/.ssh/known_hosts", "/nowhere")
    groups = inventory.groups(make_site(tmp_path, text))
    assert groups == {
        "file_server": ["fs2", "fs1"],
        "connection_server": ["conn1"],
        "media_server": ["media1"],
        "backup_server": ["backup1"],
        "client": ["backup1"],
        "tape": ["media1"],
    }


def test_secrets_are_in_files_of_their_own_and_nowhere_else(tmp_path: Path) -> None:
    """Passwords and keys are in secrets/, of mode 0600; neither hosts.yml nor files/ hold one."""
    site = make_site(tmp_path, shipped("vms"))
    folder = tmp_path / "out"
    written(site, folder)
    password = secretstore.password(site.lab).encode()
    assert (folder.stat().st_mode & 0o777) == 0o700
    files = [path for path in folder.rglob("*") if path.is_file()]
    for path in files:
        secret = password in path.read_bytes() or path.read_bytes() == b"private"
        assert secret == path.is_relative_to(folder / "secrets"), path
        if secret:
            assert path.stat().st_mode & 0o777 == 0o600
    assert len([path for path in files if path.is_relative_to(folder / "secrets")]) == 7


def test_every_file_that_is_named_is_there(tmp_path: Path) -> None:
    """What hosts.yml lists for a machine lies in the folder, and goes to the product's own places."""
    folder = tmp_path / "out"
    found = written(make_site(tmp_path, shipped("vms")), folder)
    for host in found["hosts"].values():
        for item in host["spanreel_files"] + host["spanreel_secrets"]:
            assert (folder / item["src"]).is_file()
            assert item["dest"].startswith("/etc/spanreel/")
    keys = {line.split()[0] for line in (folder / "known_hosts").read_text().splitlines()}
    assert keys == {host["ansible_host"] for host in found["hosts"].values()}


def test_upgrades_begin_at_readers_of_the_map_and_end_at_the_catalogue(tmp_path: Path) -> None:
    """Ansible takes the hosts of upgrade.yml in the order that the playbook explains."""
    written(make_site(tmp_path, shipped("vms")), tmp_path / "out")
    (upgrade,) = yaml.safe_load((checkout().ansible / "upgrade.yml").read_text())
    play = {key: upgrade[key] for key in ("hosts", "serial")} | {"gather_facts": False}
    play["tasks"] = [{"ansible.builtin.debug": {"msg": "turn of {{ inventory_hostname }}"}}]
    (tmp_path / "order.yml").write_text(yaml.safe_dump([play]))
    command = ["ansible-playbook", "-i", str(tmp_path / "out/hosts.yml"), str(tmp_path / "order.yml")]
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=True)
    assert re.findall(r"turn of (\w+)", done.stdout) == ["fs2", "fs1", "conn1", "media1", "backup1"]


def test_local_paths_are_told_to_their_owner_and_the_maps_writer(tmp_path: Path) -> None:
    """Only file servers have folders, only the writer has the junctions."""
    hosts = written(make_site(tmp_path, shipped("vms")), tmp_path / "out")["hosts"]
    assert [name for name, host in hosts.items() if "spanreel_junctions" in host] == ["fs1"]
    assert [name for name, host in hosts.items() if "spanreel_folders" in host] == ["fs1", "fs2"]


def test_what_ansible_vault_encrypted_is_left_alone(tmp_path: Path) -> None:
    """A second inventory keeps encrypted secrets and says which; others are written anew."""
    site = make_site(tmp_path, shipped("vms"))
    folder = tmp_path / "out"
    written(site, folder)
    vaulted = folder / "secrets/backup1/etc/spanreel/ndmp.password"
    vaulted.write_bytes(inventory.VAULT_MARK + b"1.1;AES256\n6162\n")
    plain = folder / "secrets/fs1/etc/spanreel/accounts.toml"
    plain.write_bytes(b"other")
    assert inventory.write(site, folder, {}) == [vaulted]
    assert vaulted.read_bytes().startswith(inventory.VAULT_MARK)
    assert plain.read_bytes() != b"other"


def test_plain_machines_get_the_product_and_those_of_the_image_have_it(tmp_path: Path) -> None:
    """The image has the product on a disk; a plain machine is brought it."""
    text = shipped("vms").replace(
        "roles: [connection-server]", "roles: [connection-server]\n    image: debian"
    )
    hosts = written(make_site(tmp_path, text), tmp_path / "out")["hosts"]
    assert [name for name, host in hosts.items() if host.get("spanreel_product") != ""] == ["conn1"]


def virtual(extra: str = "") -> str:
    """Return the shipped virtual machines with mhvtl in the media server, which is plain Debian."""
    text = shipped("vms").replace("roles: [media-server]", "roles: [media-server]\n    image: debian")
    return text[: text.index("\nlibraries:") + 1] + (
        "libraries:\n"
        "  - {node: media1, transport: mhvtl, changer: MHVLIB0001, drives: [MHVDRV0001],"
        f" slots: [MHV001L8], writable: [MHV001L8]{extra}}}\n"
        "  - {node: media1, transport: mhvtl, changer: MHVLIB0002, drives: [MHVDRV0002],"
        f" slots: [MHV002L8], writable: [MHV002L8]{extra}}}\n"
    )


def test_mhvtl_is_configured_on_its_media_server_only(tmp_path: Path) -> None:
    """It is in `tape` and `virtual_tape`, its configuration in the folder, and the daemon uses sg devices."""
    site = make_site(tmp_path, virtual(", packages: [~/a.deb, /srv/b.deb], repository: deb http://x ./"))
    found = written(site, tmp_path / "out")
    assert [list(found["children"][group]["hosts"]) for group in ("tape", "virtual_tape")] == [["media1"]] * 2
    media = found["hosts"]["media1"]
    assert [name for name, host in found["hosts"].items() if "virtual_tape_files" in host] == ["media1"]
    for item in media["virtual_tape_files"]:
        assert (tmp_path / "out" / item["src"]).is_file()
    assert {item["dest"] for item in media["virtual_tape_files"]} == {
        f"/etc/mhvtl/{name}"
        for name in (
            "device.conf",
            "mhvtl.conf",
            "spanreel-media",
            "library_contents.10",
            "library_contents.20",
        )
    }
    assert media["virtual_tape_serials"] == ["MHVLIB0001", "MHVDRV0001", "MHVLIB0002", "MHVDRV0002"]
    assert media["virtual_tape_debs"] == [str(Path("~/a.deb").expanduser()), "/srv/b.deb"]
    assert media["virtual_tape_repository"] == "deb http://x ./"
    config = tomllib.loads((tmp_path / "out/files/media1/etc/spanreel/spanreel.toml").read_text())
    assert [each["transport"] for each in config["media_server"]["libraries"]] == ["sg", "sg"]


def test_no_packages_of_mhvtl_are_said_where_none_are_given(tmp_path: Path) -> None:
    """The role's defaults, or what an operator set beside the inventory, hold then."""
    media = written(make_site(tmp_path, virtual()), tmp_path / "out")["hosts"]["media1"]
    assert not {"virtual_tape_debs", "virtual_tape_repository"} & set(media)


def test_mhvtl_without_packages_is_refused_with_what_to_set(tmp_path: Path) -> None:
    """The role says what is missing and where to name it, before it changes anything."""
    tool = tmp_path / "bin/dpkg-query"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\nexit 1\n")
    tool.chmod(0o755)
    role = {"name": "virtual_tape", "tasks_from": "packages"}
    play = {"hosts": "all", "gather_facts": False, "tasks": [{"ansible.builtin.import_role": role}]}
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    environment = clean_environment() | {"PATH": f"{tool.parent}:{os.environ['PATH']}"}
    environment["ANSIBLE_ROLES_PATH"] = str(checkout().ansible / "roles")
    command = ["ansible-playbook", "--check", "-c", "local", "-i", "media1,", str(tmp_path / "play.yml")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    for words in ("media1: mhvtl is not installed", "mhvtl-dkms_*.deb", "virtual_tape_repository"):
        assert words in done.stdout
    assert "Install what the kernel" not in done.stdout


def test_processes_and_shared_machines_are_refused(tmp_path: Path) -> None:
    """There is nothing to deploy for processes, and no unit for two daemons on one port."""
    with pytest.raises(UsageError, match="processes of this host"):
        make_site(tmp_path, shipped("process"))
    text = shipped("vms").replace("roles: [media-server]", "roles: [media-server, file-server]")
    with pytest.raises(UsageError, match="media1: media-server and file-server"):
        make_site(tmp_path, text)


def test_plain_debian_is_of_the_vm_lab(tmp_path: Path) -> None:
    """Processes boot nothing: the error says which provider has such machines."""
    file = tmp_path / "topology.yaml"
    role = "roles: [connection-server]"
    text = shipped("process")
    assert role in text
    file.write_text(text.replace(role, f"{role}, image: debian"))
    with pytest.raises(TopologyError, match="debian is for the provider libvirt"):
        topologies.read(file)


def test_a_bundle_that_is_none_is_refused(tmp_path: Path) -> None:
    """A packed product begins with its version's folder; anything else is named."""
    bad = tmp_path / "bad.tar"
    bad.write_bytes(b"no tar")
    with pytest.raises(UsageError, match="no packed product"):
        bundle.given(bad)
    with tarfile.open(bad, "w") as archive:
        archive.addfile(tarfile.TarInfo("file"), io.BytesIO())
    with pytest.raises(UsageError, match="folder of its version"):
        bundle.given(bad)
    with tarfile.open(bad, "w") as archive:
        info = tarfile.TarInfo("1.2.3")
        info.type = tarfile.DIRTYPE
        archive.addfile(info)
    assert bundle.given(bad).version == "1.2.3"
    variables = bundle.place(bundle.given(bad), tmp_path / "out")
    assert (tmp_path / "out/product/spanreel-1.2.3.tar.gz").read_bytes() == bad.read_bytes()
    assert variables["spanreel_version"] == "1.2.3"
