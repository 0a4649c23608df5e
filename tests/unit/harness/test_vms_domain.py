from pathlib import Path
from xml.etree import ElementTree

from harness.providers.libvirt.domain import Disk, Machine, ScsiUnit, domain_xml, network_xml


def machine(**changes):
    """A small machine with some values changed."""
    values = {
        "name": "lab-media1",
        "memory_mib": 512,
        "cpus": 1,
        "mac": "52:54:00:00:00:01",
        "kvm": False,
        "kernel": Path("/c/vmlinux"),
        "initrd": Path("/c/initrd"),
        "kernel_arguments": ["console=ttyS0", "spanreel.address=10.77.0.31/24"],
        "disks": [
            Disk("root", Path("/l/root.qcow2"), "qcow2"),
            Disk("config", Path("/l/config.tar"), readonly=True),
        ],
    }
    return Machine(**{**values, **changes})


def parse(**changes):
    """The XML of such a machine."""
    return ElementTree.fromstring(domain_xml(machine(**changes), "lab"))


def test_disks_are_known_by_serial_and_keep_their_order():
    """Disks are known by serial and keep their order."""
    disks = parse().findall("devices/disk")
    assert [disk.findtext("serial") for disk in disks] == ["root", "config"]
    assert [disk.find("target").get("dev") for disk in disks] == ["vda", "vdb"]
    assert disks[1].find("readonly") is not None


def test_tape_units_become_scsi_hostdevs_with_their_lun():
    """Tape units become scsi hostdevs with their lun."""
    units = [ScsiUnit("iqn.x:lib", lun, "127.0.0.1", 3260) for lun in (1, 2, 3)]
    devices = parse(scsi=units).find("devices")
    assert devices.find("controller[@type='scsi']").get("model") == "virtio-scsi"
    assert [item.find("source").get("name") for item in devices.findall("hostdev")] == [
        "iqn.x:lib/1",
        "iqn.x:lib/2",
        "iqn.x:lib/3",
    ]
    assert [item.find("address").get("unit") for item in devices.findall("hostdev")] == ["1", "2", "3"]


def test_two_libraries_of_one_machine_do_not_collide():
    """Both have units 1 to N, so each is a target of its own; one name at two ports is two libraries."""
    units = [ScsiUnit("iqn.x:one", 1, "127.0.0.1", 3270), ScsiUnit("iqn.x:one", 2, "127.0.0.1", 3270)]
    units += [ScsiUnit("iqn.x:two", 1, "127.0.0.1", 3271), ScsiUnit("iqn.x:one", 1, "127.0.0.1", 3260)]
    places = [item.find("address") for item in parse(scsi=units).findall("devices/hostdev")]
    assert [(place.get("target"), place.get("unit")) for place in places] == [
        ("0", "1"),
        ("0", "2"),
        ("1", "1"),
        ("2", "1"),
    ]


def test_without_tapes_there_is_no_scsi_controller():
    """Without tapes there is no scsi controller."""
    assert parse().find("devices/controller[@type='scsi']") is None


def test_kvm_decides_type_and_processor():
    """KVM decides type and processor."""
    assert parse().get("type") == "qemu"
    assert parse().find("features/tcg") is not None
    assert parse(kvm=True).get("type") == "kvm"
    assert parse(kvm=True).find("cpu").get("mode") == "host-passthrough"


def test_network_offers_no_services_and_asks_for_no_firewall():
    """Network offers no services and asks for no firewall."""
    network = ElementTree.fromstring(network_xml("lab", "lab0", "10.77.3.1"))
    assert network.find("forward").get("mode") == "open"
    assert network.find("dns").get("enable") == "no"
    assert network.find("ip").get("address") == "10.77.3.1"
    assert network.find("ip/dhcp") is None
