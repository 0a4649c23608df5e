import io
import tarfile
from pathlib import Path

from harness import topology
from harness.providers.libvirt.disks import ConfigFile, config_archive, data_disk, machine_files
from harness.topology import Disk

HOST_PUBLIC = "ssh-ed25519 AAAA"


def members(data):
    """Members of an archive by name."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {info.name: info for info in archive}


def test_config_archive_keeps_owner_and_mode_and_fills_whole_sectors():
    """Config archive keeps owner and mode and fills whole sectors."""
    data = config_archive({"/etc/spanreel/key": ConfigFile(b"secret", 0o600, 800, 800)})
    info = members(data)["etc/spanreel/key"]
    assert (info.mode, info.uid, info.gid) == (0o600, 800, 800)
    assert len(data) % 512 == 0


def test_machine_files_give_each_machine_an_identity_of_its_own():
    """Machine files give each machine an identity of its own."""
    lab = topology.read(topology.find("vms"))
    one = machine_files(lab, "lab", "fs1", lab.node("fs1").disks, b"key", HOST_PUBLIC, "client")
    two = machine_files(lab, "lab", "fs2", (), b"key", HOST_PUBLIC, "client")
    assert one["/etc/machine-id"].content != two["/etc/machine-id"].content
    assert len(one["/etc/machine-id"].content) == 33
    assert b"10.77.0.12 fs2\n" in one["/etc/hosts"].content
    assert one["/etc/spanreel/disks.conf"].content == b"data ext4-lvm-thin /data\n"
    assert "/etc/spanreel/disks.conf" not in two
    assert one["/etc/ssh/ssh_host_ed25519_key"].mode == 0o600


def test_data_disk_is_sparse_and_new(tmp_path: Path):
    """Data disk is sparse and new."""
    file = tmp_path / "data.img"
    file.write_bytes(b"old")
    data_disk(Disk("data", 2, "btrfs", "/data"), file)
    assert file.stat().st_size == 2 << 30
    assert file.stat().st_blocks == 0
