"""Who may log in to a node's DMA-facing NDMP port."""

from __future__ import annotations

from pathlib import Path

from appliance.config import read_accounts
from appliance.ndmp.session import Accounts


def load_accounts(path: Path) -> Accounts:
    """Return the accounts in a TOML file of lines `user = "password"`, for MD5 authentication.

    Raises ConfigurationError when the file is missing, not 0600, or no such list.
    """
    return Accounts(read_accounts(path))
