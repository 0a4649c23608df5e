"""The main job: back up through each file server, restore in every way, prove it.

`run` is the order of things; `steps` what is done; `proofs` what is checked; `record` what is kept.
"""
