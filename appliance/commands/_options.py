"""Options, argument types and output that several commands share."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from appliance.errors import ConfigurationError
from appliance.gns.map import check_path

Function = TypeVar("Function", bound=Callable[..., Any])

CONFIG_VARIABLE = "SPANREEL_CONFIG"
CONFIG_DEFAULT = "/etc/spanreel/spanreel.toml"


class BytesPath(click.ParamType[bytes]):
    """A path of any bytes: what the shell handed over, unchanged."""

    name = "path"

    def convert(
        self,
        value: str | bytes,
        param: click.Parameter | None,  # noqa: ARG002  (click's signature)
        ctx: click.Context | None,  # noqa: ARG002
    ) -> bytes:
        """Return the bytes of `value`."""
        return os.fsencode(value)


class GlobalPath(BytesPath):
    """A global path: absolute; doubled and trailing slashes are dropped; `..` is refused."""

    name = "global path"

    def convert(self, value: str | bytes, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        """Return the normalised bytes of `value`; a path that is not allowed is a usage error."""
        path = tidy(os.fsencode(value))
        try:
            return check_path(path, "global path")
        except ConfigurationError as error:
            self.fail(str(error), param, ctx)


def tidy(path: bytes) -> bytes:
    """Drop doubled and trailing slashes of an absolute path; leave anything else to be refused."""
    if not path.startswith(b"/"):
        return path
    return b"/" + b"/".join(part for part in path.split(b"/") if part)


def config_option(function: Function) -> Function:
    """Add `--config FILE` (parameter `config_file`, a Path)."""
    return click.option(
        "--config",
        "config_file",
        type=click.Path(dir_okay=False, path_type=Path),
        envvar=CONFIG_VARIABLE,
        default=CONFIG_DEFAULT,
        show_default=True,
        metavar="FILE",
        help=f"This node's configuration (environment: {CONFIG_VARIABLE}).",
    )(function)


def json_option(function: Function) -> Function:
    """Add `--json` (parameter `as_json`)."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def echo_json(document: object) -> None:
    """Print `document` as indented JSON on stdout."""
    click.echo(json.dumps(document, indent=2))
