"""Commented configurations, by role: text for people that also loads as it stands."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from appliance.errors import ConfigurationError
from appliance.roles import BACKUP_SERVER, CONNECTION_SERVER, FILE_SERVER, MEDIA_SERVER

_HEAD: Final = """\
# Spanreel: configuration of one node, as /etc/spanreel/spanreel.toml.
# Check it with: spanreel config {roles} --check FILE

schema = 1

[node]
name = "{name}"                         # as in certificates; a-z, 0-9 and -
address = "{address}"              # IPv4: where this node listens, and what peers connect to
state = "/var/lib/spanreel"          # what must survive a restart
log = "info"                         # debug, info, warning or error
metrics = "{address}:9700"        # for Prometheus, by HTTP; leave it out and there are none
"""

_NDMP: Final = """
[ndmp]                               # for backup servers of any make: plain NDMP
port = 10000
# The accounts file has mode 0600.  A line user = "password" in it is an account that may do everything; a
# table says what it may (only password is needed):
#     [user]
#     password = "..."
#     text = true                    # may log in by clear text
#     subtrees = ["/projects"]       # global paths it may back up and restore to
#     restore = false                # may not restore
#     networks = ["10.77.0.41"]      # where it may come from
accounts = "/etc/spanreel/accounts.toml"
text = false                         # true: all accounts may log in by clear text; MD5 is always offered
profile = "compat"                   # or "strict": the draft to the letter, also where DMAs are not
sessions_max = 256                   # at once; one more is refused
allow = ["10.77.0.0/24"]             # who may connect; without this line everybody
data_networks = ["10.77.0.0/24"]     # where data connections may come from and go to; default: as allow
data_ports = "20000-20999"           # where they are listened for, say for a firewall; default: any port
accept_timeout = 600                 # seconds a listener waits; a cartridge may have to be mounted first
data_addresses = ["{address}"]       # of this node, the reachable one first; IPv6 by the published extension
"""

_CLUSTER: Final = """
[cluster]                            # between nodes: NDMP inside TLS; `spanreel ca` makes the files
port = 10001
authority = "/etc/spanreel/tls/ca.pem"
certificate = "/etc/spanreel/tls/node.pem"
key = "/etc/spanreel/tls/node.key"   # mode 0600
revoked = "/etc/spanreel/tls/crl.pem"   # from `spanreel ca revoke`, read again when it changes; optional
sessions_max = 256                   # sessions of other nodes at once; each part of a job takes two
gns_writer = "fs1"                   # the file server that holds the map's only writable copy
connection_server = "conn1"          # where backup channels come from
feed = "tls"                         # or "token": plain TCP with a one-time token, twice as fast

[[cluster.nodes]]                    # every node this one talks to
name = "{peer}"
address = "{peer_address}"
port = 10001
"""

_FILE_SERVER: Final = """
[file_server]
nfs = true                           # make bind mounts, referrals and exports for NFSv4
export_root = "/srv/gns"             # the tree that clients see; an empty directory
clients = ["10.77.0.0/24"]           # hosts or networks as in exports(5); "*" is everybody
root_clients = []                    # those of them whose root stays root
snapshots = "auto"                   # backups read them where they can be made; or "off", or "required"
"""

_CONNECTION_SERVER: Final = """
[connection_server]                  # where backup channels may go, as in [ndmp]; feeds use data_ports too
data_networks = ["10.77.0.0/24"]     # default: everywhere
data_ports = "20000-20999"           # default: any port
accept_timeout = 600
"""

_MEDIA_SERVER: Final = """
[media_server]

[[media_server.libraries]]           # real devices, found by their serial numbers
transport = "sg"
changer = "VTLCHANGER1"
drives = ["VTLDRIVE1", "VTLDRIVE2"]  # in the order of the library's drive elements
writable = ["VTL001L5", "VTL002L5"]  # no other barcode is ever written
readable = ["OLD001L5", "CLN001L5"]  # these besides may be moved, and read; no others are touched
reserve = true                       # keep other hosts off a drive while it is in use (SCSI RESERVE)

[[media_server.libraries]]           # the library model in this process: no hardware, for trying things
transport = "model"
changer = "MODELCHANGER"
drives = ["MODELDRIVE1"]
writable = ["MOD001L5", "MOD002L5"]
folder = "/var/lib/spanreel/model"   # cartridges and element map
slots = ["MOD001L5", "MOD002L5"]     # what lies in the slots at first start
capacity = 1073741824                # bytes a cartridge holds
"""

_BACKUP_SERVER: Final = """
[backup_server]
catalogue = "/var/lib/spanreel/catalogue.sqlite"
entry = "fs1"                        # the file server asked by default; any other would do
media = "media1"
changer = "VTLCHANGER1"              # NDMP device names are serial numbers
drives = ["VTLDRIVE1", "VTLDRIVE2"]
writable = ["VTL001L5", "VTL002L5"]  # no other barcode is ever written
record_size = 262144                 # bytes of a tape record: whole blocks of 512

[backup_server.devices]              # NDMP names, if the media server is of another make; see its list
VTLCHANGER1 = "changer:VTLCHANGER1"  # as Spanreel names them, without this section
VTLDRIVE1 = "drive:VTLDRIVE1"

[[backup_server.servers]]            # how to reach NDMP servers
name = "fs1"
address = "10.77.0.11"
port = 10000
user = "spanreel"
password_file = "/etc/spanreel/ndmp.password"   # mode 0600

[[backup_server.servers]]
name = "media1"
address = "10.77.0.31"
port = 10000
user = "spanreel"
password_file = "/etc/spanreel/ndmp.password"
"""

_SECTIONS: Final[dict[str, tuple[str, ...]]] = {
    FILE_SERVER: (_NDMP, _CLUSTER, _FILE_SERVER),
    CONNECTION_SERVER: (_CLUSTER, _CONNECTION_SERVER),
    MEDIA_SERVER: (_NDMP, _MEDIA_SERVER),
    BACKUP_SERVER: (_BACKUP_SERVER,),
}

# Example node and, for the cluster, a peer of it.
_NAMES: Final[dict[str, dict[str, str]]] = {
    FILE_SERVER: {"name": "fs1", "address": "10.77.0.11", "peer": "conn1", "peer_address": "10.77.0.21"},
    CONNECTION_SERVER: {
        "name": "conn1",
        "address": "10.77.0.21",
        "peer": "fs1",
        "peer_address": "10.77.0.11",
    },
    MEDIA_SERVER: {"name": "media1", "address": "10.77.0.31"},
    BACKUP_SERVER: {"name": "backup1", "address": "10.77.0.41"},
}


def example(roles: Iterable[str]) -> str:
    """Return a commented configuration for a node with all of `roles`; it loads as it stands.

    Raises ConfigurationError for a role there is not.
    """
    wanted = list(dict.fromkeys(roles))
    for role in wanted:
        if role not in _SECTIONS:
            raise ConfigurationError(f"no role {role!r}; allowed: {', '.join(_SECTIONS)}")
    # Roles on one node share sections, in the order of first need.
    sections = dict.fromkeys(section for role in wanted for section in _SECTIONS[role])
    names = {"peer": "fs2", "peer_address": "10.77.0.12", **_NAMES[wanted[0]], "roles": ",".join(wanted)}
    return "".join(section.format(**names) for section in (_HEAD, *sections))
