"""Every message of NDMP version 4 and of the project's extension, one module an interface."""

from __future__ import annotations

from appliance.ndmp import extension as extension
from appliance.ndmp.messages.config import *  # noqa: F403
from appliance.ndmp.messages.connect import *  # noqa: F403
from appliance.ndmp.messages.data import *  # noqa: F403
from appliance.ndmp.messages.extensions import *  # noqa: F403
from appliance.ndmp.messages.fh import *  # noqa: F403
from appliance.ndmp.messages.log import *  # noqa: F403
from appliance.ndmp.messages.mover import *  # noqa: F403
from appliance.ndmp.messages.notify import *  # noqa: F403
from appliance.ndmp.messages.scsi import *  # noqa: F403
from appliance.ndmp.messages.tape import *  # noqa: F403
