"""Builds the appliance image: mmdebstrap, ansible in a chroot, trimming, and one file to boot from."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import stat
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InfrastructureError
from harness.image.cache import Cache
from harness.image.kernel import find_kernel, make_initrd, module_files, unpack_kernel
from harness.image.recipe import (
    Project,
    Recipe,
    all_roles,
    image_key,
    image_roles,
    load_recipe,
    plain_key,
    role_packages,
)
from harness.image.repository import write_index
from harness.image.sources import acquire_options, apt_sources

Progress = Callable[[str], None]

# How much of a failed tool's output an error quotes; the rest is in the log it names.
_QUOTED_LINES = 5

# Kind of cache entries.
_PLAIN = "debian"

# What must not be baked in: every machine gets its own from the configuration disk.
_PER_MACHINE = ("etc/hostname", "etc/resolv.conf", "var/lib/dbus/machine-id", "var/lib/systemd/random-seed")


@dataclass(frozen=True)
class Image:
    """What a virtual machine boots from."""

    key: str
    disk: Path
    kernel: Path
    initrd: Path
    kernel_arguments: tuple[str, ...]
    # To be added where the processor is emulated.
    emulation_arguments: tuple[str, ...]


def ensure_image(project: Project, cache: Cache, progress: Progress) -> Image:
    """The image of this checkout, from the cache or built now."""
    recipe = load_recipe(project.recipe)
    sources = apt_sources(recipe.release)
    key = _key(project, sources)
    builder = _Builder(project, recipe, sources, cache.root / "log", progress)
    return _image(recipe, key, cache.entry("image", key, builder.build))


@dataclass(frozen=True)
class Plain:
    """Debian without anything of ours, and the packages that our roles need, as an apt repository."""

    image: Image
    repository: Path


def ensure_plain(project: Project, cache: Cache, progress: Progress) -> Plain:
    """Plain Debian, from the cache or built now."""
    recipe, sources, key = _plain(project)
    builder = _Builder(project, recipe, sources, cache.root / "log", progress)
    folder = cache.entry(_PLAIN, key, builder.build)
    return Plain(_image(recipe, key, folder), folder / "repository")


def built_plain(project: Project, cache: Cache) -> Plain | None:
    """Plain Debian if it is in the cache."""
    recipe, _, key = _plain(project)
    folder = cache.find(_PLAIN, key)
    return None if folder is None else Plain(_image(recipe, key, folder), folder / "repository")


def _plain(project: Project) -> tuple[Recipe, dict[str, str], str]:
    recipe = load_recipe(project.plain_recipe)
    sources = apt_sources(recipe.release)
    return recipe, sources, plain_key(project, json.dumps(sources, sort_keys=True).encode())


def built_image(project: Project, cache: Cache) -> Image | None:
    """The image of this checkout if it is in the cache."""
    recipe = load_recipe(project.recipe)
    key = _key(project, apt_sources(recipe.release))
    folder = cache.find("image", key)
    return None if folder is None else _image(recipe, key, folder)


def _image(recipe: Recipe, key: str, folder: Path) -> Image:
    return Image(
        key,
        folder / "root.img",
        folder / "vmlinux",
        folder / "initrd.img",
        recipe.kernel_arguments,
        recipe.emulation_arguments,
    )


def _key(project: Project, sources: dict[str, str]) -> str:
    return image_key(project, json.dumps(sources, sort_keys=True).encode())


def repair_dev_null() -> None:
    """Give everyone /dev/null back.

    It was seen to turn 0644 while libvirt's guests ran; apt's unprivileged helpers then fail with an error
    that points elsewhere ("gpgv ... required").
    """
    null = Path("/dev/null")
    if stat.S_ISCHR(null.stat().st_mode) and null.stat().st_mode & 0o666 != 0o666 and os.geteuid() == 0:
        null.chmod(0o666)


def run_logged(
    command: list[str],
    log: Path,
    what: str,
    line: Callable[[str], None] | None = None,
    env: dict[str, str] | None = None,
) -> None:
    """Run a tool with its output in `log`; a failure quotes the end of it and names the file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    tail: list[str] = []
    try:
        with (
            log.open("w", buffering=1) as out,
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env={**os.environ, **(env or {})},
            ) as process,
        ):
            for text in process.stdout or ():
                out.write(text)
                tail = [*tail[-_QUOTED_LINES:], text.strip()]
                if line:
                    line(text.rstrip())
    except FileNotFoundError as error:
        raise InfrastructureError(
            f"{what}: {command[0]} is not installed; run: bootstrap/install vms"
        ) from error
    if process.returncode != 0:
        raise InfrastructureError(
            f"{what} failed ({' | '.join(tail[-_QUOTED_LINES:])}); the whole log: {log}"
        )


class _Builder:
    def __init__(
        self, project: Project, recipe: Recipe, sources: dict[str, str], logs: Path, progress: Progress
    ) -> None:
        self._project = project
        self._recipe = recipe
        self._sources = sources
        self._logs = logs
        self._progress = progress

    def build(self, folder: Path) -> None:
        """Fill `folder` with the image's files."""
        if os.geteuid() != 0:
            raise InfrastructureError("building the appliance image needs root: run it with sudo")
        repair_dev_null()
        root = folder / "root"
        self._bootstrap(folder, root)
        self._progress("trimming the boot")
        self._trim(root)
        if not self._recipe.provisioned:
            self._forget_sources(root)
            write_index(folder / "repository")
        self._progress("making kernel, initrd and disk")
        release, bzimage = find_kernel(root)
        (folder / "vmlinux").write_bytes(unpack_kernel(bzimage.read_bytes()))
        modules = module_files(root, release, self._recipe.initrd_modules)
        initrd = make_initrd(root, self._project.initrd_script.read_bytes(), modules)
        (folder / "initrd.img").write_bytes(initrd)
        # The kernel comes from outside; its copy inside would only be read by nobody.
        shutil.rmtree(root / "boot")
        (root / "boot").mkdir()
        self._pack(root, folder / "root.img")
        manifest = {"kernel": release, "recipe": self._recipe.model_dump(), "disk": "root.img"}
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
        shutil.rmtree(root)

    def _bootstrap(self, folder: Path, root: Path) -> None:
        recipe = self._recipe
        files = []
        for name, text in self._sources.items():
            (folder / name).write_text(text)
            files.append(str(folder / name))
        ansible = self._project.ansible
        packages = {*recipe.packages, recipe.kernel_package}
        if recipe.provisioned:
            packages.update(role_packages(ansible, image_roles(ansible)))
            hook = self._ansible_command()
        else:
            hook = self._download_command(folder, role_packages(ansible, all_roles(ansible)))
        command = [
            "mmdebstrap",
            "--mode=root",
            f"--variant={recipe.variant}",
            "--skip=cleanup/apt/lists",
            f"--include={','.join(sorted(packages))}",
            # The initrd is our own; initramfs-tools would spend ten seconds on another.
            '--essential-hook=mkdir -p "$1/etc/initramfs-tools"',
            '--essential-hook=echo update_initramfs=no >"$1/etc/initramfs-tools/update-initramfs.conf"',
            f"--customize-hook={hook}",
            *(f"--aptopt={line}" for line in acquire_options()),
            *(f"--dpkgopt=path-exclude={path}" for path in recipe.exclude_paths),
            "--dpkgopt=force-confold",
            "--dpkgopt=force-unsafe-io",
            recipe.release,
            str(root),
            *files,
        ]
        log = self._logs / "image-build.log"
        run_logged(
            command,
            log,
            "building the image with mmdebstrap",
            self._narrate,
            env={"INITRD": "No", "DEBIAN_FRONTEND": "noninteractive"},
        )
        for name in self._sources:
            (folder / name).unlink()

    def _ansible_command(self) -> str:
        """A shell line for mmdebstrap's hook, in which `$1` is the tree."""
        ansible = self._project.ansible
        environment = (
            f"ANSIBLE_CONFIG={shlex.quote(str(ansible / 'ansible.cfg'))} ANSIBLE_LOCALHOST_WARNING=False"
        )
        playbook = shlex.quote(str(ansible / "image.yml"))
        # Some environments set a locale that the machine does not have, and ansible insists on UTF-8.
        command = 'ansible-playbook -c community.general.chroot -i "$1,"'
        return f"env LC_ALL=C.UTF-8 {environment} {command} {playbook}"

    @staticmethod
    def _download_command(folder: Path, packages: list[str]) -> str:
        """A shell line that fetches packages, and all they need beyond the tree, without installing any."""
        repository = shlex.quote(str(folder / "repository"))
        files = '"$1"/var/cache/apt/archives/*.deb'
        return (
            f'rm -f {files} && chroot "$1" apt-get install --yes --no-install-recommends '
            f"--download-only {shlex.join(packages)} && mkdir {repository} && mv {files} {repository}"
        )

    def _narrate(self, line: str) -> None:
        """Pass on what a person waiting wants to read: mmdebstrap's steps and ansible's task names."""
        if line.startswith("I: "):
            self._progress(line.removeprefix("I: ").rstrip("."))
        elif line.startswith("TASK ["):
            self._progress("ansible: " + line.removeprefix("TASK [").split("]")[0])

    @staticmethod
    def _forget_sources(root: Path) -> None:
        """Remove where this host gets its packages from: whoever boots the image has sources of its own."""
        for place in ("sources.list.d", "apt.conf.d"):
            for path in (root / "etc/apt" / place).glob("*"):
                if place == "sources.list.d" or path.name.startswith("99mmdebstrap"):
                    path.unlink()
        (root / "etc/apt/sources.list").unlink(missing_ok=True)

    def _trim(self, root: Path) -> None:
        if self._recipe.provisioned:
            shutil.copytree(self._project.overlay, root, dirs_exist_ok=True)
        units = root / "etc/systemd/system"
        for unit in self._recipe.masked_units:
            path = units / unit
            path.unlink(missing_ok=True)
            path.symlink_to("/dev/null")
        # Links point to where the unit will be, not to where it is now: to us they look broken.
        for link in units.glob("*.*/*"):
            if link.is_symlink() and link.name in self._recipe.disabled_units:
                link.unlink()
        for name in _PER_MACHINE:
            (root / name).unlink(missing_ok=True)
        for key in (root / "etc/ssh").glob("ssh_host_*"):
            key.unlink()
        # Empty means: use what is there by now.  The configuration disk brings the real one.
        (root / "etc/machine-id").write_text("")
        # The initrd has mounted the root file system as it should be.
        (root / "etc/fstab").write_text("")
        shutil.rmtree(root / "var/lib/apt/lists", ignore_errors=True)
        (root / "var/lib/apt/lists/partial").mkdir(parents=True)

    def _pack(self, root: Path, disk: Path) -> None:
        with disk.open("wb") as out:
            out.truncate(self._recipe.size_gib << 30)
        command = [
            "mke2fs",
            "-q",
            "-F",
            "-t",
            "ext4",
            "-L",
            "spanreel-root",
            "-m",
            "0",
            # Checksums of metadata protect against disks that lie; this is a file, read by an emulated CPU.
            "-O",
            "^metadata_csum",
            "-E",
            "lazy_itable_init=1,lazy_journal_init=1",
            "-d",
            str(root),
            str(disk),
        ]
        run_logged(command, self._logs / "image-mke2fs.log", "packing the appliance image with mke2fs")
