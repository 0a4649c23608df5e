"""The appliance image's recipe, and the key under which the image is cached."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.errors import InfrastructureError
from harness.image.cache import key_of, tree_parts

# Changed by hand when the builder's code changes what it builds from the same inputs.
BUILDER_VERSION = "1"


class Recipe(BaseModel):
    """`vm-images/recipe.yaml`; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    version: int = Field(alias="schema", ge=1, le=1)
    release: str
    variant: str
    size_gib: int = Field(gt=0, le=64)
    # Whether the roles are in it; without, their packages lie beside it, for a machine that has no network.
    provisioned: bool = True
    kernel_package: str
    packages: tuple[str, ...]
    exclude_paths: tuple[str, ...] = ()
    initrd_modules: tuple[str, ...]
    masked_units: tuple[str, ...] = ()
    disabled_units: tuple[str, ...] = ()
    kernel_arguments: tuple[str, ...] = ()
    emulation_arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Project:
    """Where the image's inputs are in a checkout."""

    root: Path

    @property
    def recipe(self) -> Path:
        """The declarative recipe."""
        return self.root / "vm-images" / "recipe.yaml"

    @property
    def plain_recipe(self) -> Path:
        """The recipe of plain Debian, which `site.yml` makes a node of."""
        return self.root / "vm-images" / "debian.yaml"

    @property
    def initrd_script(self) -> Path:
        """The init program of the initrd."""
        return self.root / "vm-images" / "initrd.sh"

    @property
    def overlay(self) -> Path:
        """Files copied over the root file system as they are."""
        return self.root / "vm-images" / "files"

    @property
    def ansible(self) -> Path:
        """The playbooks and roles."""
        return self.root / "ansible"

    @property
    def product_lock(self) -> Path:
        """Pinned dependencies of a node."""
        return self.root / "vm-images" / "product.lock"


def checkout() -> Project:
    """The checkout this code runs from."""
    return Project(Path(__file__).resolve().parents[2])


def load_recipe(path: Path) -> Recipe:
    """Read and check the recipe; errors name the file and the field."""
    try:
        return Recipe.model_validate(yaml.safe_load(path.read_text()))
    except (OSError, yaml.YAMLError) as error:
        raise InfrastructureError(f"cannot read the image recipe {path}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InfrastructureError(f"{path}: {field}: {first['msg']}") from error


def image_roles(ansible: Path) -> list[str]:
    """The roles that the image is provisioned with, as `image.yml` lists them."""
    (play,) = yaml.safe_load((ansible / "image.yml").read_text())
    return [str(role) for role in play["roles"]]


def all_roles(ansible: Path) -> list[str]:
    """The names of all roles there are."""
    return sorted(path.name for path in (ansible / "roles").iterdir())


def role_packages(ansible: Path, roles: Iterable[str]) -> list[str]:
    """The packages that roles declare, so that mmdebstrap can install or fetch them in one go.

    Every variable called `*_packages` in a role's defaults counts.
    """
    packages: set[str] = set()
    for role in roles:
        values = yaml.safe_load((ansible / "roles" / role / "defaults/main.yml").read_text()) or {}
        for name, value in values.items():
            if name.endswith("_packages"):
                packages.update(value)
    return sorted(packages)


def plain_key(project: Project, sources: bytes) -> str:
    """The identity of plain Debian: the roles count by their packages only."""
    packages = "\n".join(role_packages(project.ansible, all_roles(project.ansible))).encode()
    parts = [("builder", BUILDER_VERSION.encode()), ("sources", sources), ("packages", packages)]
    return key_of(parts + tree_parts(project.root, "vm-images/debian.yaml", "vm-images/initrd.sh"))


def image_key(project: Project, sources: bytes) -> str:
    """The image's identity: the same key means the same image."""
    parts = [("builder", BUILDER_VERSION.encode()), ("sources", sources)]
    roles = [f"ansible/roles/{role}" for role in image_roles(project.ansible)]
    ansible = ["ansible/image.yml", "ansible/ansible.cfg", *roles]
    ours = ["vm-images/recipe.yaml", "vm-images/initrd.sh", "vm-images/files"]
    return key_of(parts + tree_parts(project.root, *ours, *ansible))
