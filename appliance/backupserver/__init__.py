"""The backup server: a DMA with a catalogue.

Read in this order: `catalogue` (the database file), `jobs`, `media`, `history`, `leases` (what is in
it), `labels` (what is on a cartridge), `cartridge` and `library` (tape and robot, through NDMP),
`chooser` and `shelf` (which cartridge), `connect` and `events` (the two control sessions), `backup` and
`restore` (the jobs), `role` (what runs in `spanreel serve backup-server`).
"""
