"""An iSCSI target (RFC 7143) that puts the library model in front of QEMU's libiscsi and open-iscsi.

- `pdu`      layouts of protocol data units; bytes in, units out
- `text`     key=value pairs
- `login`    the login phase as a state machine
- `session`  the full feature phase as a state machine
- `units`    which logical unit is behind which LUN
- `server`   sockets and threads, nothing else

What is left out, because no initiator of a lab needs it: digests, CHAP, error recovery above level 0, more
than one connection a session, SNACK, markers, bidirectional commands, AHS (passed over).
"""

from tape.iscsi.server import IscsiServer
from tape.iscsi.units import ModelUnits

__all__ = ["IscsiServer", "ModelUnits"]
