import re
import tomllib

import pytest

from harness.errors import InfrastructureError
from harness.image.recipe import (
    Project,
    all_roles,
    checkout,
    image_key,
    image_roles,
    load_recipe,
    role_packages,
)


def test_shipped_recipe_is_valid_and_masks_units_only_once():
    """Shipped recipe is valid and masks units only once."""
    recipe = load_recipe(checkout().recipe)
    assert len(set(recipe.masked_units)) == len(recipe.masked_units)
    assert "virtio_blk" in recipe.initrd_modules


def test_unknown_keys_are_refused_by_name(tmp_path):
    """Unknown keys are refused by name."""
    file = tmp_path / "recipe.yaml"
    file.write_text(checkout().recipe.read_text() + "\ncolour: red\n")
    with pytest.raises(InfrastructureError, match="colour"):
        load_recipe(file)


def test_packages_are_those_of_the_roles_asked_for():
    """The image gets what its roles declare; plain Debian has those of all roles beside it."""
    ansible = checkout().ansible
    packages = role_packages(ansible, image_roles(ansible))
    assert set(packages) < set(role_packages(ansible, all_roles(ansible)))
    assert {"openssh-server", "nfs-kernel-server", "sg3-utils"} <= set(packages)
    assert packages == sorted(set(packages))


def test_image_key_changes_with_sources_and_roles(tmp_path):
    """Image key changes with sources and the roles that are in it, and not with other playbooks."""
    project = Project(tmp_path)
    (project.ansible / "roles/one").mkdir(parents=True)
    (project.ansible / "image.yml").write_text("- {hosts: all, roles: [one]}\n")
    project.overlay.mkdir(parents=True)
    project.recipe.write_text("x")
    project.initrd_script.write_text("x")
    first = image_key(project, b"sources")
    assert image_key(project, b"sources") == first
    assert image_key(project, b"other") != first
    (project.ansible / "site.yml").write_text("x")
    assert image_key(project, b"sources") == first
    (project.ansible / "roles/one/role.yml").write_text("x")
    assert image_key(project, b"sources") != first


def test_lock_covers_the_projects_dependencies():
    """The product disk has every package that a node's roles declare, at a version they accept by name."""
    project = tomllib.loads((checkout().root / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["media"]]
    names = {re.split(r"[<>=~! ]", item)[0].lower() for item in wanted}
    lines = checkout().product_lock.read_text().splitlines()
    locked = {line.split("==")[0] for line in lines if line and not line.startswith("#")}
    assert names <= locked
