"""Who may log in to a node's DMA-facing NDMP port, as accounts file and configuration say."""

from __future__ import annotations

from pathlib import Path

from appliance.config import Ndmp
from appliance.config_access import read_accounts
from appliance.ndmp.accounts import Accounts


def load_accounts(path: Path, *, allow_text: bool = False) -> Accounts:
    """Return the accounts in a file as `config_access.read_accounts` describes it.

    Raises ConfigurationError when the file is missing, not 0600, or no such list.
    """
    return Accounts(read_accounts(path), allow_text)


def accounts_of(ndmp: Ndmp) -> Accounts:
    """Return the accounts that the section [ndmp] names; raises as `load_accounts` does."""
    return load_accounts(ndmp.accounts, allow_text=ndmp.text)
