"""What an account may back up and restore: global paths, and the right to restore at all.

The draft leaves rights to servers and has PERMISSION for a user who has none (draft-skardal-ndmpv4-04, 2.8).
"""

from __future__ import annotations

from collections.abc import Iterable

from appliance.ndmp.accounts import Account
from appliance.text import show_path


def against_backup(account: Account | None, user: str, root: bytes) -> str:
    """Why the user may not back `root` up; empty when it may.  No account: nobody asked for a login."""
    if account is None or account.covers(root):
        return ""
    return f"account {user} may not back up {show_path(root)}; it may: {_shown(account)}"


def against_restore(account: Account | None, user: str, targets: Iterable[bytes]) -> str:
    """Why the user may not restore to `targets`; empty when it may."""
    if account is None:
        return ""
    if not account.restore:
        return f"account {user} may not restore; see `restore` in the accounts file"
    outside = next((target for target in targets if not account.covers(target)), None)
    if outside is None:
        return ""
    return f"account {user} may not restore to {show_path(outside)}; it may: {_shown(account)}"


def _shown(account: Account) -> str:
    return ", ".join(map(show_path, account.subtrees))
