"""What each release leaves behind: its tape, its catalogue, its map and its configurations.

`RELEASE.tar.xz` beside this file was written by that release itself, once, and is never written again; tests
bring it back with the code as it is now (test_releases.py in tests/unit/ and tests/integration/).
`python -m tests.releases` makes the one of the present code; docs/upgrade.md says when.
"""
