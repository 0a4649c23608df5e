"""The lab without machines: every role is a process on its own loopback address."""
