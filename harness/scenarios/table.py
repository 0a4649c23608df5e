"""The scenarios there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from harness.errors import UsageError
from harness.faults.link import CUT, DEAF, LOSSY, MUTE, SLOW
from harness.scenarios import library, ordinary
from harness.scenarios.losses import (
    CLOSING,
    CUT_POWER,
    KILL,
    OPENING,
    READING,
    RESTORING,
    WITHIN,
    Harm,
    Moment,
    Victim,
    link,
    strike,
    strike_name,
    works_again,
)
from harness.scenarios.stage import Stage


@dataclass(frozen=True)
class Scenario:
    """One thing that may happen.

    Attributes:
        name: what people give to --scenario.
        what: what is done and must hold, in a line.
        play: does it and keeps checks; raises HarnessError.
        slow: minutes, because peers wait for each other; nights only, and who asks for `all`.

    """

    name: str
    what: str
    play: Callable[[Stage], None]
    slow: bool = False


VICTIMS: dict[str, Victim] = {
    "entry": lambda stage: stage.entry,
    "owner": lambda stage: stage.owner,
    "connection-server": lambda stage: stage.connection_server,
    "media-server": lambda stage: stage.media_server,
}
BACKUP: tuple[Moment, ...] = (OPENING, WITHIN, CLOSING)
RESTORE: tuple[Moment, ...] = (READING, RESTORING)


def _struck(name: str, victim: Victim, strikes: Sequence[tuple[Moment, Harm]], *, survives: bool) -> Scenario:
    """Return a scenario of one victim, harmed at some moments, each of a job of its own."""
    names = [strike_name(moment, harm) for moment, harm in strikes]
    assert len(set(names)) == len(names)

    def play(stage: Stage) -> None:
        for moment, harm in strikes:
            with stage.run.guard(strike_name(moment, harm)):
                strike(stage, name, victim(stage), moment, harm, survives=survives)
        if not survives:
            works_again(stage)

    moments = ", ".join(dict.fromkeys(moment.name for moment, _ in strikes))
    return Scenario(name, f"{moments}; {'the job gets over it' if survives else 'a later job works'}", play)


def _killed(role: str, operation: str, moments: Sequence[Moment]) -> Scenario:
    return _struck(
        f"{role}-killed-{operation}", VICTIMS[role], [(each, KILL) for each in moments], survives=False
    )


def _cut(role: str) -> Scenario:
    """The connection server's loss is told after the minute that the other end of a stream is given."""
    cut = link(CUT, "cut off")
    strikes = [(WITHIN, cut), (WITHIN, link(DEAF, "deaf")), (WITHIN, link(MUTE, "mute")), (RESTORING, cut)]
    made = _struck(f"{role}-cut-off", VICTIMS[role], strikes, survives=False)
    return replace(made, slow=role != "owner")


def _powerless(role: str) -> Scenario:
    """Peers wait for a machine that says nothing any more, and it takes minutes to boot."""
    strikes = [(WITHIN, CUT_POWER), (RESTORING, CUT_POWER)]
    return replace(_struck(f"{role}-power-cut", VICTIMS[role], strikes, survives=False), slow=True)


def _bad(role: str) -> Scenario:
    lossy = link(LOSSY, "lossy")
    strikes = [(WITHIN, link(SLOW, "slow")), (WITHIN, lossy), (RESTORING, lossy)]
    return _struck(f"{role}-bad-link", VICTIMS[role], strikes, survives=True)


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        "clients-write", "backup while clients write; what nobody wrote is intact", ordinary.clients_write
    ),
    Scenario("entry-no-owner", "the server asked owns nothing of what is saved", ordinary.entry_no_owner),
    Scenario("junction-moved", "a part moves between backup and restore", ordinary.junction_moved),
    Scenario("incremental-chain", "every day of a chain comes back", ordinary.incremental_chain),
    Scenario("clock-skew", "the owner's clock is wrong, another way each day", ordinary.clock_skew),
    Scenario("several-volumes", "one job on several small cartridges", ordinary.several_volumes),
    Scenario("two-jobs", "two jobs at once on two drives", ordinary.two_jobs),
    Scenario("write-error", "a record cannot be written; the job is complete", library.write_error),
    Scenario("read-error", "a record cannot be read; the restore says so", library.read_error),
    Scenario("drive-gone", "the drive disappears within a backup", library.drive_gone),
    Scenario("slow-drive", "the drive waits; nobody loses patience", library.slow_drive),
    Scenario("robot-stuck", "the robot is stuck, and later is not", library.robot_stuck),
    Scenario("full-disk", "a restore to a full disk says so", library.full_disk),
    *(_killed(role, "in-backup", BACKUP) for role in VICTIMS),
    *(_killed(role, "in-restore", RESTORE) for role in VICTIMS),
    *(_cut(role) for role in ("owner", "connection-server", "media-server")),
    *(_powerless(role) for role in ("owner", "connection-server", "media-server")),
    *(_bad(role) for role in ("owner", "connection-server", "media-server")),
)
ALL, QUICK = "all", "quick"


def chosen(names: Sequence[str]) -> list[Scenario]:
    """Return the scenarios of these names, in the table's order; `all` is every one, `quick` those not slow.

    Raises UsageError.
    """
    known = {scenario.name for scenario in SCENARIOS} | {ALL, QUICK}
    for name in names:
        if name not in known:
            raise UsageError(f"there is no scenario {name!r}", hint="spanreel lab scenarios lists them")
    return [
        item for item in SCENARIOS if ALL in names or item.name in names or (QUICK in names and not item.slow)
    ]
