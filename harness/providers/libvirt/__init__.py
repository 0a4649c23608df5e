"""Virtual machines through libvirt, in a network namespace of the lab's own.

Each module knows one thing; `provider` puts them together:

- `names`      names and places, derived from the lab's name
- `preflight`  what this host must have before anything is made
- `daemon`     the lab's own libvirtd, unseen by any other
- `domain`     XML of network and machines (pure)
- `disks`      overlays, data disks, the configuration disk
- `identity`   SSH keys of lab and machines
- `tgt`        the tape library
- `machines`   power on, console, wait until SSH answers
- `roles`      configuration files and role units inside a machine
"""
