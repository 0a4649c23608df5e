"""Switching machines on and off: by a command of the site, a libvirt domain, or IPMI.

Off is always asked of the operating system (ACPI, soft): these machines have file systems of their own.
"""

from __future__ import annotations

import shlex
import stat
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.errors import InfrastructureError, MissingToolError, UsageError
from harness.topology import Node
from harness.topology import Power as Spec

# A management controller on a slow network takes seconds; one that takes longer is not there.
COMMAND_SECONDS = 60.0
# The mode of files that hold passwords: nobody but the owner.
OTHERS = stat.S_IRWXG | stat.S_IRWXO

# Runs a command and returns what it printed.
Run = Callable[[Sequence[str]], str]


class Power(ABC):
    """The power of one machine."""

    def __init__(self, node: Node, spec: Spec) -> None:
        self.node = node
        self.spec = spec

    @abstractmethod
    def check(self) -> None:
        """Raise if this host cannot switch the machine; changes nothing."""

    @abstractmethod
    def on(self) -> None:
        """Switch it on; one that is on is left as it is."""

    @abstractmethod
    def off(self) -> None:
        """Ask it to shut down; does not wait for it."""


class Command(Power):
    """Commands of the site, in which {node} and {address} stand for the machine; no shell reads them."""

    def __init__(self, node: Node, spec: Spec, run: Run | None = None) -> None:
        super().__init__(node, spec)
        self._run = run or (lambda argv: _run(node.name, argv))

    def check(self) -> None:
        """See that there is a command to switch it on."""
        if not self.spec.on:
            raise UsageError(f"{self.node.name}: power: kind command wants `on`, a command line")

    def on(self) -> None:
        """Run the command `on`."""
        self._run(self._words(self.spec.on))

    def off(self) -> None:
        """Run the command `off`, if there is one."""
        if self.spec.off:
            self._run(self._words(self.spec.off))

    def _words(self, template: str) -> list[str]:
        values = {"{node}": self.node.name, "{address}": self.node.address}
        words = shlex.split(template)
        for name, value in values.items():
            words = [word.replace(name, value) for word in words]
        return words


class Ipmi(Power):
    """A management controller, by `ipmitool`; the password is read by it from a file, never an argument."""

    def __init__(self, node: Node, spec: Spec, run: Run | None = None) -> None:
        super().__init__(node, spec)
        self._run = run or (lambda argv: _run(node.name, argv))

    def check(self) -> None:
        """See that controller, user and a private password file are there."""
        if not (self.spec.host and self.spec.user and self.spec.password_file):
            raise UsageError(f"{self.node.name}: power: kind ipmi wants host, user and password_file")
        path = Path(self.spec.password_file)
        try:
            mode = path.stat().st_mode
        except OSError as error:
            raise UsageError(f"{self.node.name}: power: cannot read {path}: {error.strerror}") from error
        if mode & OTHERS:
            raise UsageError(
                f"{self.node.name}: power: others may read {path}", hint=f"chmod 600 {shlex.quote(str(path))}"
            )

    def on(self) -> None:
        """Power on, if it is off."""
        if "is on" not in self._chassis("status"):
            self._chassis("on")

    def off(self) -> None:
        """Press the button, as it were."""
        self._chassis("soft")

    def _chassis(self, verb: str) -> str:
        words = ["ipmitool", "-I", "lanplus", "-H", self.spec.host, "-U", self.spec.user]
        return self._run([*words, "-f", self.spec.password_file, "chassis", "power", verb])


class LibvirtDomain(Power):
    """A virtual machine of somebody's hypervisor."""

    def check(self) -> None:
        """See that the domain is there."""
        self._do(lambda domain: domain.name())

    def on(self) -> None:
        """Start it, if it does not run."""
        self._do(lambda domain: None if domain.isActive() else domain.create())

    def off(self) -> None:
        """Ask it to shut down, if it runs."""
        self._do(lambda domain: domain.shutdown() if domain.isActive() else None)

    def _do(self, work: Callable[..., object]) -> None:
        try:
            import libvirt  # here: hosts without hypervisors have no need of it
        except ImportError as error:
            raise MissingToolError(
                "the Python module libvirt",
                needed_for=f"power of {self.node.name}",
                install="pip install -e '.[lab]'",
            ) from error
        name = self.spec.domain or self.node.name
        try:
            connection = libvirt.open(self.spec.uri)
            try:
                work(connection.lookupByName(name))
            finally:
                connection.close()
        except libvirt.libvirtError as error:
            raise InfrastructureError(
                f"{self.node.name}: power: domain {name} at {self.spec.uri}: {error}",
                hint=f"see it: virsh -c {self.spec.uri} list --all",
            ) from error


KINDS: dict[str, type[Power]] = {"command": Command, "ipmi": Ipmi, "libvirt": LibvirtDomain}


def of(node: Node) -> Power | None:
    """Return the power of a machine, None if nobody can switch it."""
    if node.power is None or node.power.kind == "none":
        return None
    kind = KINDS.get(node.power.kind)
    if kind is None:
        known = ", ".join([*KINDS, "none"])
        raise UsageError(
            f"{node.name}: power: {node.power.kind} is not for machines", hint=f"there are: {known}"
        )
    return kind(node, node.power)


def _run(name: str, argv: Sequence[str]) -> str:
    """Run a command on this host; its errors name the machine."""
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=COMMAND_SECONDS, check=False
        )
    except FileNotFoundError as error:
        raise MissingToolError(
            argv[0], needed_for=f"the power of {name}", install=f"apt-get install {argv[0]}"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise InfrastructureError(f"{name}: power: {argv[0]} hangs for {COMMAND_SECONDS:.0f} s") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).decode("utf-8", "backslashreplace").strip()
        raise InfrastructureError(
            f"{name}: power: `{argv[0]}` ended with exit code {done.returncode}: {said[-300:]}",
            hint=f"try it: {shlex.join(argv)}",
        )
    return done.stdout.decode("utf-8", "backslashreplace")
