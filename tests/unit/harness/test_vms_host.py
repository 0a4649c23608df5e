import pytest

from harness import topology
from harness.errors import InfrastructureError, MissingToolError, UsageError
from harness.lab import LabState
from harness.providers.libvirt import preflight
from harness.providers.libvirt.identity import ensure_key
from harness.providers.libvirt.kvm import OVERRIDE, use_kvm
from harness.providers.libvirt.names import Names
from harness.providers.libvirt.tsc import tsc_khz

VMS = topology.read(topology.find("vms"))


@pytest.fixture
def cpuinfo(tmp_path, monkeypatch):
    """A processor with the given flags, as `use_kvm` sees it."""
    monkeypatch.delenv(OVERRIDE, raising=False)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    (tmp_path / "kvm").touch()

    def use(flags):
        (tmp_path / "cpuinfo").write_text(f"flags\t\t: fpu {flags} sse\n")
        return use_kvm(tmp_path / "cpuinfo", tmp_path / "kvm")

    return use


def test_kvm_needs_the_processors_flag_even_where_the_device_exists(cpuinfo):
    """KVM needs the processor's flag even where the device exists."""
    assert not cpuinfo("")
    assert cpuinfo("vmx")
    assert cpuinfo("svm")
    assert not cpuinfo("avmx")


def test_kvm_can_be_overruled(cpuinfo, monkeypatch):
    """KVM can be overruled."""
    monkeypatch.setenv(OVERRIDE, "1")
    assert cpuinfo("")
    monkeypatch.setenv(OVERRIDE, "0")
    assert not cpuinfo("vmx")
    monkeypatch.setenv(OVERRIDE, "yes")
    with pytest.raises(UsageError, match="0 or 1"):
        cpuinfo("")


@pytest.fixture
def host(monkeypatch):
    """A host that has everything."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(preflight, "available_memory_mib", lambda: 100_000)


def check(tmp_path):
    """Check the shipped topology on this host."""
    preflight.check(VMS, tmp_path / "lab", tmp_path / "cache", image_is_there=True)


def test_a_good_host_passes(host, tmp_path):
    """A good host passes."""
    check(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_tool_is_named_with_what_installs_it(host, tmp_path, monkeypatch):
    """A missing tool is named with what installs it."""
    monkeypatch.setattr("shutil.which", lambda name: None if name == "tgtd" else "/x")
    with pytest.raises(MissingToolError, match=r"tgtd is missing.*bootstrap/install vms"):
        check(tmp_path)


def test_too_little_memory_is_said_in_numbers(host, tmp_path, monkeypatch):
    """Too little memory is said in numbers."""
    monkeypatch.setattr(preflight, "available_memory_mib", lambda: 1000)
    with pytest.raises(InfrastructureError, match="1000 MiB of memory available, the lab's machines need"):
        check(tmp_path)


def test_too_little_disk_is_said_in_numbers(host, tmp_path, monkeypatch):
    """Too little disk is said in numbers."""
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("usage", (), {"free": 5 << 20}))
    with pytest.raises(InfrastructureError, match="5 MiB free"):
        check(tmp_path)


def test_without_root_the_process_lab_is_offered(host, tmp_path, monkeypatch):
    """Without root the process lab is offered."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(InfrastructureError, match="TOPOLOGY=process"):
        check(tmp_path)


def test_names_of_two_labs_never_meet():
    """Names of two labs never meet."""
    node = VMS.node("fs1")
    one, two = (Names(LabState(name, "vms", "10.77.5.0/24", "token")) for name in ("one", "two"))
    assert one.netns != two.netns
    assert one.runtime != two.runtime
    assert one.mac(node) != two.mac(node)
    assert one.mac(node) == one.mac(node)
    assert one.host_address() == "10.77.5.1"


def test_keys_are_made_once_and_private(tmp_path):
    """Keys are made once and private."""
    path = tmp_path / "keys" / "ssh"
    public = ensure_key(path)
    assert public.startswith("ssh-ed25519 ")
    assert path.stat().st_mode & 0o777 == 0o600
    assert ensure_key(path) == public


def test_counter_runs_at_a_plausible_speed():
    """Counter runs at a plausible speed."""
    khz = tsc_khz()
    assert khz is None or 100_000 < khz < 20_000_000
