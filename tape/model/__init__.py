"""The project's own tape library: SSC drives and an SMC changer over a folder of cartridges.

In process it serves unit tests and the process lab through `LibraryModel.transport`; a SCSI target can
put the same units in front of a hypervisor by `LogicalUnit.execute`.
"""

from tape.model.cartridge import Cartridge
from tape.model.changer import ChangerModel
from tape.model.description import read_description
from tape.model.drive import DriveModel
from tape.model.faults import FaultPlan
from tape.model.faultscript import parse_faults, read_faults
from tape.model.library import LibraryModel, ModelTransport
from tape.model.reader import dump
from tape.model.spec import LibrarySpec

__all__ = [
    "Cartridge",
    "ChangerModel",
    "DriveModel",
    "FaultPlan",
    "LibraryModel",
    "LibrarySpec",
    "ModelTransport",
    "dump",
    "parse_faults",
    "read_description",
    "read_faults",
]
