"""NDMP version 4, without I/O, and the thin adapters that own sockets.

Read in this order: `xdr` (types on the wire), `enums`, `messages` (every message, declared),
`states` (the machines, as tables), `endpoint` (bytes in, events out), `session` (the server's rules),
then the adapters `server` and `client`.

Source of truth: draft-skardal-ndmpv4-04.
"""
