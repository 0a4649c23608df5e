"""The subcommands of `spanreel`, one file each, loaded only when called (see appliance/cli.py)."""
