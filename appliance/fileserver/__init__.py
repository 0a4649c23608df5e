"""The file server: entry server for DMAs, and owner of its parts of the name space.

`order` is how an entry server tells an owner what to do, `owner` does it, `plan` finds who has what,
`backup_job` and `restore_job` run a job over several owners, `entry` is the DMA's view of it all.
"""
