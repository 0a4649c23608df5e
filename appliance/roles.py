"""The roles a node may have, by the names used in configuration, certificates and units."""

from __future__ import annotations

import re
from typing import Final

FILE_SERVER: Final = "file-server"
CONNECTION_SERVER: Final = "connection-server"
MEDIA_SERVER: Final = "media-server"
BACKUP_SERVER: Final = "backup-server"

ROLES: Final = (FILE_SERVER, CONNECTION_SERVER, MEDIA_SERVER, BACKUP_SERVER)

# How certificates name roles and nodes, in subjectAltName URIs.
ROLE_URI: Final = "spanreel:role:"
NODE_URI: Final = "spanreel:node:"

# Node names stand in certificates, host names and file names.
NODE_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
