"""Which global paths lie below which."""

from __future__ import annotations


def is_at_or_below(path: bytes, top: bytes) -> bool:
    """Tell whether `path` is `top` or lies below it, by whole components; the root is "" or "/"."""
    top = top.rstrip(b"/")
    return not top or path == top or path.startswith(top + b"/")
