"""`python -m harness.image`, on a cache in which everything is already."""

from __future__ import annotations

import json
from pathlib import Path

from harness.image.__main__ import build
from harness.image.cache import Cache
from harness.image.product import product_key
from harness.image.recipe import checkout, image_key, load_recipe, plain_key
from harness.image.sources import apt_sources


def test_it_makes_what_a_lab_would_look_for(tmp_path: Path) -> None:
    """All three are asked for by the keys of this checkout, and what is there is not built again."""
    project, cache = checkout(), Cache(tmp_path)
    keys = []
    for recipe, key in ((project.recipe, image_key), (project.plain_recipe, plain_key)):
        sources = json.dumps(apt_sources(load_recipe(recipe).release), sort_keys=True).encode()
        keys.append(key(project, sources))
    for kind, name in zip(("image", "debian", "product"), (*keys, product_key(project)), strict=True):
        cache.entry(kind, name, lambda folder: (folder / "built").write_text("before"))
    said: list[str] = []
    build(project, cache, said.append)
    assert [line.rpartition(" ")[0] for line in said] == ["image", "plain Debian", "product"]
    assert said[0].endswith(keys[0])
    assert said[1].endswith(keys[1])
