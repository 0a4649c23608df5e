"""Waiting for a drive that was just opened, or reset, until it has told all it has to tell."""

from __future__ import annotations

from tape.device import MAX_UNIT_ATTENTIONS
from tape.drive import Drive
from tape.errors import NotReadyError, UnitAttentionError

READY_TIMEOUT_S = 300.0
"""A drive that says "becoming ready" threads a cartridge: up to two minutes for LTO, more after recovery."""


def wait_until_ready(drive: Drive) -> bool:
    """Wait until the drive is ready, and return whether it had something to tell on the way.

    Raises NoMediumError, NotReadyError, and whatever else keeps it.
    """
    told = False
    for _ in range(MAX_UNIT_ATTENTIONS):
        try:
            drive.test_ready()
        except UnitAttentionError:
            told = True
        except NotReadyError:
            told = True
            drive.wait_ready(READY_TIMEOUT_S)
        else:
            break
    return told


__all__ = ["READY_TIMEOUT_S", "wait_until_ready"]
