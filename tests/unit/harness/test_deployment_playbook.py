"""Running playbooks: what is read from ansible's words."""

from __future__ import annotations

from harness.deployment.playbook import changes

RECAP = """\
PLAY RECAP *********************************************************************
conn1             : ok=19   changed=0    unreachable=0    failed=0    skipped=24   rescued=0    ignored=0
fs1               : ok=40   changed=12   unreachable=0    failed=0    skipped=3    rescued=0    ignored=0
fs2               : ok=3    changed=1    unreachable=0    failed=1    skipped=3    rescued=0    ignored=0
"""


def test_changes_are_counted_by_machine() -> None:
    """A machine on which a task failed is not among them: nothing is known of it."""
    assert changes(RECAP) == {"conn1": 0, "fs1": 12}
