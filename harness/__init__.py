"""The lab: builds whole clusters from one topology file, runs the main job on them, and proves it.

The harness reaches the appliance only as its users do: over the network, SSH and the command line.
It imports nothing of `appliance` or `tape` (a test checks the layers).
"""
