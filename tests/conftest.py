"""What holds for all tests."""

from __future__ import annotations

from hypothesis import settings

# A shared machine stalls for longer than hypothesis's 200 ms now and then; whole tests have a timeout.
settings.register_profile("spanreel", deadline=None)
settings.load_profile("spanreel")

# Fixtures of a lab, for those who ask for them; and pytest's own, to test them.
pytest_plugins = ["harness.pytest_plugin", "pytester"]
