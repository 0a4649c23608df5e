"""The subcommands of `spanreel lab`, one file each."""
