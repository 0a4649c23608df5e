import re

import pytest

from harness.providers.libvirt.tgt import FIRST_DRIVE_ADDRESS, MAIL_SLOTS, Target
from harness.topology import Library

LIBRARY = Library("media1", "tgt", "TGTLIB0001", ("TGTDRV0001", "TGTDRV0002"), ("VTL001L5", "VTL002L5"), ())


@pytest.fixture
def target(tmp_path):
    """A library of two drives and two cartridges."""
    return Target(7, "iqn.x:lib", LIBRARY, tmp_path)


def parameters(target):
    """All parameters given to tgtadm."""
    return [
        command[command.index("--params") + 1] for command in target.admin_commands() if "--params" in command
    ]


def test_changer_is_the_unit_after_the_drives(target):
    """Changer is the unit after the drives."""
    assert [unit.lun for unit in target.units()] == [1, 2, 3]
    assert target.changer_lun == 3
    commands = list(target.admin_commands())
    assert any("--device-type=changer" in command and "--lun=3" in command for command in commands)


def test_one_dummy_drive_element_follows_the_real_ones(target):
    """The reply of tgt is 8 bytes short, which would eat the last real drive's serial."""
    assert f"element_type=4,start_address={FIRST_DRIVE_ADDRESS},quantity=3" in parameters(target)
    mapped = [text for text in parameters(target) if re.match("element_type=4,address=", text)]
    assert len(mapped) == 2


def test_slots_begin_where_the_topology_says(target):
    """Slots begin where the topology says."""
    assert f"element_type=2,start_address=4096,quantity={2 + MAIL_SLOTS}" in parameters(target)
    assert "element_type=2,address=4097,barcode=VTL002L5,sides=1" in parameters(target)


def test_cartridges_that_exist_are_kept(target, tmp_path):
    """Cartridges that exist are kept."""
    assert len(list(target.image_commands())) == 3
    (tmp_path / "VTL001L5").touch()
    (tmp_path / "notape").touch()
    assert [command[5] for command in target.image_commands()] == ["--barcode=VTL002L5"]


def test_binding_comes_last_so_that_nobody_sees_half_a_library(target):
    """Binding comes last so that nobody sees half a library."""
    assert list(target.admin_commands())[-1][:6] == ["--lld", "iscsi", "--op", "bind", "--mode", "target"]
