"""Errors of the configuration in the words of the file: key, what is wrong, what is allowed."""

from __future__ import annotations

from types import UnionType
from typing import Any, Final, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

# One line is for people to read; who has more mistakes mends these first.
ERRORS_SHOWN_MAX: Final = 5


def describe(error: ValidationError, model: type[BaseModel]) -> str:
    """Return all mistakes of `error`, found while validating `model`, as one line."""
    details = error.errors()
    lines = [_describe_one(detail, model) for detail in details[:ERRORS_SHOWN_MAX]]
    if len(details) > ERRORS_SHOWN_MAX:
        lines.append(f"and {len(details) - ERRORS_SHOWN_MAX} more")
    return "; ".join(lines)


def _describe_one(detail: ErrorDetails, model: type[BaseModel]) -> str:
    key = _key(detail["loc"])
    if detail["type"] == "extra_forbidden":
        allowed = _keys_at(model, detail["loc"][:-1])
        return f"{key}: unknown key; allowed here: {', '.join(allowed) or 'none'}"
    if detail["type"] == "missing":
        return f"{key}: is missing"
    if detail["type"] == "string_pattern_mismatch":
        return f"{key}: {_shown(detail)} must match {detail['ctx']['pattern']}"
    message = detail["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    if isinstance(detail["input"], dict):
        # A rule between keys of one section: its text names the key itself.
        return f"{key}.{message}" if key else message
    return f"{key}: {_shown(detail)} {message}"


def _shown(detail: ErrorDetails) -> str:
    return f"{detail['input']!r:.80}"


def _key(location: tuple[int | str, ...]) -> str:
    text = ""
    for step in location:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text.lstrip(".")


def _keys_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Return the keys allowed in the section at `location`."""
    here: type[BaseModel] | None = model
    for step in location:
        if isinstance(step, str) and here is not None:
            here = _model_in(here.model_fields[step].annotation)
    if here is None:
        return []
    return [field.alias or name for name, field in here.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the section model in an annotation such as `Cluster | None` or `tuple[Library, ...]`."""
    if get_origin(annotation) in (Union, UnionType, tuple):
        return next(filter(None, map(_model_in, get_args(annotation))), None)
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return annotation if is_model else None
