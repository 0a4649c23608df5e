"""SCSI tape drives and libraries: commands, sense, transports, discovery, and a library model.

Reading order: `errors` (what can go wrong), `transport` (the port everything speaks through),
`fields` and `commands` (wire layouts as tables), `sense` (what a device says), `drive` and `changer`
(the two devices), `sg` (the Linux transport), `discovery` (which devices are there), `model` (a whole
library in memory and files), `testing` (what any drive and library must do).

The package needs the standard library only and imports nothing of the project's other packages: it
also runs from a bare checkout in a guest.
"""
