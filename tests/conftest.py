"""What holds for all tests."""

from __future__ import annotations

from hypothesis import settings

# A shared machine stalls for longer than hypothesis's 200 ms now and then; whole tests have a timeout.
settings.register_profile("spanreel", deadline=None)
settings.load_profile("spanreel")
