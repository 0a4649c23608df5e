"""The project's own tape library: SSC drives and an SMC changer over a folder of cartridges.

In process it serves unit tests and the process lab through `LibraryModel.transport`; a SCSI target can
put the same units in front of a hypervisor by `LogicalUnit.execute`.
"""

from tape.model.cartridge import Cartridge
from tape.model.changer import ChangerModel
from tape.model.drive import DriveModel
from tape.model.library import LibraryModel, ModelTransport
from tape.model.reader import dump
from tape.model.spec import LibrarySpec

__all__ = [
    "Cartridge",
    "ChangerModel",
    "DriveModel",
    "LibraryModel",
    "LibrarySpec",
    "ModelTransport",
    "dump",
]
