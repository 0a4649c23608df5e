"""libvirt XML of a lab: its network and its virtual machines.  Pure: values in, XML out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

# Memory QEMU may use for translated code per machine; its own default is up to 1 GiB, times five machines.
TRANSLATION_CACHE_MIB = 256
EMULATOR = "/usr/bin/qemu-system-x86_64"


@dataclass(frozen=True)
class Disk:
    """A virtio disk; the guest knows it by its serial."""

    serial: str
    file: Path
    format: str = "raw"
    readonly: bool = False


@dataclass(frozen=True)
class ScsiUnit:
    """One logical unit of an iSCSI target, passed through whole: the guest sees the real device."""

    target: str
    lun: int
    host: str
    port: int


@dataclass(frozen=True)
class Machine:
    """A virtual machine, as far as the lab decides it."""

    name: str
    memory_mib: int
    cpus: int
    mac: str
    kvm: bool
    kernel: Path
    initrd: Path
    kernel_arguments: Sequence[str]
    disks: Sequence[Disk]
    scsi: Sequence[ScsiUnit] = ()


def network_xml(name: str, bridge: str, address: str, prefix: int = 24) -> str:
    """An isolated network with fixed addresses: no DHCP, no name server, no firewall rules.

    The bridge lives in the lab's network namespace, which has no other interface: the namespace
    isolates, and `open` keeps libvirt from asking for iptables.
    """
    network = Element("network")
    _text(network, "name", name)
    SubElement(network, "forward", mode="open")
    SubElement(network, "bridge", name=bridge, stp="off", delay="0")
    SubElement(network, "dns", enable="no")
    SubElement(network, "ip", address=address, prefix=str(prefix))
    return ElementTree.tostring(network, encoding="unicode")


def domain_xml(machine: Machine, network: str) -> str:
    """A machine that boots its kernel directly, as small as QEMU makes them."""
    domain = Element("domain", type="kvm" if machine.kvm else "qemu")
    _text(domain, "name", machine.name)
    _text(domain, "memory", str(machine.memory_mib), unit="MiB")
    _text(domain, "vcpu", str(machine.cpus))
    boot = SubElement(domain, "os")
    _text(boot, "type", "hvm", arch="x86_64", machine="pc")
    _text(boot, "kernel", str(machine.kernel))
    _text(boot, "initrd", str(machine.initrd))
    _text(boot, "cmdline", " ".join(machine.kernel_arguments))
    features = SubElement(domain, "features")
    SubElement(features, "acpi")
    if not machine.kvm:
        _text(SubElement(features, "tcg"), "tb-cache", str(TRANSLATION_CACHE_MIB), unit="MiB")
    SubElement(domain, "cpu", mode="host-passthrough" if machine.kvm else "maximum")
    clock = SubElement(domain, "clock", offset="utc")
    SubElement(clock, "timer", name="hpet", present="no")
    _text(domain, "on_crash", "destroy")
    _devices(SubElement(domain, "devices"), machine, network)
    return ElementTree.tostring(domain, encoding="unicode")


def _devices(devices: Element, machine: Machine, network: str) -> None:
    _text(devices, "emulator", EMULATOR)
    SubElement(devices, "controller", type="usb", model="none")
    for index, disk in enumerate(machine.disks):
        _disk(devices, disk, f"vd{chr(ord('a') + index)}")
    if machine.scsi:
        SubElement(devices, "controller", type="scsi", index="0", model="virtio-scsi")
    # Each library is a target of its own on the machine's controller: all have units 1 to N.
    libraries = list(dict.fromkeys((unit.host, unit.port, unit.target) for unit in machine.scsi))
    for unit in machine.scsi:
        target = libraries.index((unit.host, unit.port, unit.target))
        _scsi(devices, unit, machine.name, target)
    interface = SubElement(devices, "interface", type="network")
    SubElement(interface, "mac", address=machine.mac)
    SubElement(interface, "source", network=network)
    SubElement(interface, "model", type="virtio")
    # The recorder opens the pty before the first instruction runs: the machine is started paused.
    SubElement(devices, "serial", type="pty")
    rng = SubElement(devices, "rng", model="virtio")
    _text(rng, "backend", "/dev/urandom", model="random")
    SubElement(devices, "memballoon", model="none")


def _disk(devices: Element, disk: Disk, target: str) -> None:
    element = SubElement(devices, "disk", type="file", device="disk")
    # A lab's disks are worth nothing after a crash of the host: no flush waits for the host's disk.
    SubElement(element, "driver", name="qemu", type=disk.format, cache="unsafe", discard="unmap")
    SubElement(element, "source", file=str(disk.file))
    SubElement(element, "target", dev=target, bus="virtio")
    _text(element, "serial", disk.serial)
    if disk.readonly:
        SubElement(element, "readonly")


def _scsi(devices: Element, unit: ScsiUnit, initiator: str, target: int) -> None:
    # Not <disk type='network' device='lun'>: that becomes scsi-block, which takes disks only.
    hostdev = SubElement(devices, "hostdev", mode="subsystem", type="scsi")
    source = SubElement(hostdev, "source", protocol="iscsi", name=f"{unit.target}/{unit.lun}")
    SubElement(source, "host", name=unit.host, port=str(unit.port))
    SubElement(SubElement(source, "initiator"), "iqn", name=f"iqn.2026-11.example.spanreel:{initiator}")
    place = {"controller": "0", "bus": "0", "target": str(target), "unit": str(unit.lun)}
    SubElement(hostdev, "address", {"type": "drive", **place})


def _text(parent: Element, tag: str, text: str, **attributes: str) -> None:
    SubElement(parent, tag, attributes).text = text
