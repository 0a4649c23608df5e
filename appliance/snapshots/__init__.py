"""Snapshots of what file servers own: a backup reads them while clients go on writing.

`volume.py` says what a kind of snapshot must do; `btrfs.py` and `thin.py` do it; `keeper.py` holds those of
one file server.
"""
