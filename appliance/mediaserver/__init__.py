"""Role media-server: TAPE, MOVER and SCSI services on the libraries that the configuration lists.

Read in this order: `libraries` (devices and who has them), `open_drive` (everything that is done to a
drive), `tape_service`, `scsi_service`, `window`, `mover_service` (requests), `mover_stream` and
`mover_restore` (the threads that move data), `role`.
"""
