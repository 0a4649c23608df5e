"""YAML checked against a shipped JSON Schema, with the line of every field for error messages."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match

from harness.errors import TopologyError, UsageError

Where = Sequence[str | int]
# Nobody writes a topology of this size; a file that big is a mistake (a disk image, say).
FILE_LIMIT_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Document:
    """Plain data of a YAML file, and where each of its fields stands."""

    file: Path
    data: dict[str, Any]
    lines: dict[tuple[str | int, ...], int] = field(repr=False)

    def line(self, where: Where) -> int:
        """Return the line of a field, or of the nearest thing around it."""
        key = tuple(where)
        while key not in self.lines:
            key = key[:-1]
        return self.lines[key]

    def error(self, where: Where, message: str, *, hint: str = "") -> TopologyError:
        """Return an error that points at one field."""
        return TopologyError(self.file, self.line(where), dotted(where), message, hint=hint)


def dotted(where: Where) -> str:
    """Return a field as people write it: nodes[2].address."""
    text = ""
    for part in where:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def load(path: Path, schema: str) -> Document:
    """Read `path` and check it against the shipped `schema`."""
    document = _parse(path)
    validator = Draft202012Validator(_schema(schema))
    problem = best_match(validator.iter_errors(document.data))
    if problem is not None:
        raise _explain(problem, document)
    return document


def _schema(name: str) -> dict[str, Any]:
    """Return a schema of the package."""
    text = (resources.files("harness") / "schema" / name).read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def _parse(path: Path) -> Document:
    """Parse YAML, keeping lines; a syntax error names its line."""
    try:
        if path.stat().st_size > FILE_LIMIT_BYTES:
            raise TopologyError(path, 1, "", f"larger than {FILE_LIMIT_BYTES} bytes: surely not a topology")
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise TopologyError(path, line, "", f"not YAML: {error.problem}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise TopologyError(path, 1, "", f"not YAML: {error}") from error
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    if not isinstance(root, yaml.MappingNode):
        raise TopologyError(path, 1, "", "a mapping is wanted: schema, name, provider, ...")
    lines: dict[tuple[str | int, ...], int] = {}
    data = _plain(root, (), lines, path)
    return Document(path, data, lines)


def _plain(
    node: yaml.Node, where: tuple[str | int, ...], lines: dict[tuple[str | int, ...], int], path: Path
) -> Any:
    """Plain data of a YAML node; remembers the line of everything below it."""
    lines.setdefault(where, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            inner = (*where, key)
            if key in result:
                raise TopologyError(
                    path, key_node.start_mark.line + 1, dotted(inner), "the key is there twice"
                )
            lines[inner] = key_node.start_mark.line + 1
            result[key] = _plain(value_node, inner, lines, path)
        return result
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*where, index), lines, path) for index, item in enumerate(node.value)]
    loader = yaml.SafeLoader("")
    return loader.construct_object(node)


def _explain(problem: ValidationError, document: Document) -> TopologyError:
    """Put a schema violation into words, at the line of the field itself."""
    where: list[str | int] = list(problem.absolute_path)
    rule: Any = problem.validator_value
    found: Any = problem.instance
    if problem.validator == "additionalProperties":
        schema: Any = problem.schema
        known = sorted(schema["properties"])
        where.append(next(key for key in found if key not in known))
        return document.error(where, "unknown key", hint=f"known: {', '.join(known)}")
    if problem.validator == "enum":
        allowed = ", ".join(map(str, rule))
        return document.error(where, f"{found!r} is not allowed", hint=f"allowed: {allowed}")
    if problem.validator == "required":
        missing = next(key for key in rule if key not in found)
        return document.error(where, f"the key {missing} is missing")
    return document.error(where, problem.message[:300])
