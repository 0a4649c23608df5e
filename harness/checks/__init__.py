"""The proofs: one small module for each, and nothing of the product in any of them.

Each check is a function from observations (manifests, connections, bytes) to a `CheckResult`, so
that its twin, the same function on planted faults, needs no lab.  Observing is done by modules of
their own: `capture`, `sockets`, `tapeback`.
"""
