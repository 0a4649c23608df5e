"""The robot, through NDMP's SCSI interface on the media server.

The changer is opened for each action and given back at once: it serves all drives and all jobs.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from appliance.errors import InfrastructureError, JobError
from appliance.ndmp import messages as m
from appliance.ndmp.client import Client
from appliance.ndmp.enums import CdbFlag, ErrorCode
from appliance.ndmp.errors import NdmpError, ReplyError
from appliance.text import show_path
from tape.changer import Changer, Inventory
from tape.elements import Element
from tape.errors import CommandTimeoutError, DeviceError, TapeMisuseError, TransportError, UnitAttentionError
from tape.transport import DEFAULT_TIMEOUT_S, Completion, DataOut, Transport

ROBOT_WAIT_S: Final = 900.0
"""Another job may have the robot: one move of a large library, with a drive that rewinds first."""

RETRY_S: Final = 1.0
"""Between two tries to get the robot."""

MOVE_TRIES: Final = 3
"""A move is planned anew when somebody else moved cartridges meanwhile; thrice in a row is no accident."""

REPLY_MARGIN_S: Final = 30.0
"""The media server answers at the command's own limit, and its answer takes a moment."""


class NotListedError(DeviceError):
    """The media server may not move this cartridge, or not to this drive."""


class RefusedMoveError(JobError):
    """What becomes of it: other cartridges may still be usable."""


class NdmpScsiTransport(Transport):
    """The path to the SCSI device that an NDMP session has open."""

    def __init__(self, client: Client, name: str) -> None:
        self.name = f"{name} on {client.peer}"
        self._client = client
        self._closed = False

    def execute(
        self,
        cdb: bytes,
        *,
        data_out: DataOut = b"",
        data_in_length: int = 0,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> Completion:
        """Carry out a command by SCSI_EXECUTE_CDB; see `Transport.execute`."""
        if self._closed:
            raise TapeMisuseError(f"{self.name} is closed")
        flags = CdbFlag.DATA_IN if data_in_length else CdbFlag.DATA_OUT if len(data_out) else 0
        request = m.ScsiExecuteCdbRequest(
            int(flags), int(timeout_s * 1000), data_in_length, bytes(cdb), bytes(data_out)
        )
        try:
            reply = self._client.call(request, m.ScsiExecuteCdbReply, timeout_s + REPLY_MARGIN_S)
        except NdmpError as error:
            if error.code is ErrorCode.TIMEOUT:
                raise CommandTimeoutError(str(error), device=self.name) from error
            if error.code is ErrorCode.PERMISSION:
                raise NotListedError(str(error), device=self.name) from error
            raise TransportError(str(error), device=self.name) from error
        return Completion(reply.status, reply.datain, reply.ext_sense, data_in_length - len(reply.datain))

    def close(self) -> None:
        """Give the path up; the device is closed by `robot`."""
        self._closed = True


def drive_element(inventory: Inventory, serial: str, drives: Sequence[str]) -> Element:
    """The drive element with this drive.

    Where the library does not tell serial numbers, the order of `backup_server.drives` is the order of the
    elements.  Raises InfrastructureError.
    """
    for element in inventory.drives:
        if element.serial == serial:
            return element
    place = drives.index(serial)
    if not any(element.serial for element in inventory.drives) and place < len(inventory.drives):
        return inventory.drives[place]
    found = ", ".join(element.serial or "?" for element in inventory.drives)
    raise InfrastructureError(f"the library has no drive {serial}; it has {found}: see backup_server.drives")


def free_slot(inventory: Inventory, element: Element) -> Element:
    """Where to put the cartridge of a drive: its own slot if that is free, else the first free one.

    Raises InfrastructureError when all slots are full.
    """
    own = None if element.source is None else inventory.at(element.source)
    if own in inventory.slots and own is not None and not own.full:
        return own
    for slot in inventory.slots:
        if not slot.full:
            return slot
    raise InfrastructureError(
        f"the library has no free slot for {element.barcode or 'the cartridge in a drive'}"
    )


class Library:
    """The library that `backup_server.changer` and `backup_server.drives` name; `changer` is its NDMP name.

    `client` is a control session of its own: a session may hold one device open, robot or drive.
    """

    def __init__(
        self,
        client: Client,
        changer: bytes,
        drives: Sequence[str],
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._changer = changer
        self._drives = tuple(drives)
        self._now = now
        self._sleep = sleep

    def inventory(self) -> Inventory:
        """What is where.  Raises InfrastructureError."""
        with self._robot() as changer:
            return changer.inventory()

    def loaded(self, inventory: Inventory, serial: str) -> str | None:
        """The barcode of the cartridge in a drive; None when there is none, "" when it has no label."""
        element = drive_element(inventory, serial, self._drives)
        return (element.barcode or "") if element.full else None

    def drive_holding(self, inventory: Inventory, barcode: str) -> str | None:
        """The serial number of the configured drive that holds a cartridge, None when it is in a slot."""
        for serial in self._drives:
            if drive_element(inventory, serial, self._drives).barcode == barcode:
                return serial
        return None

    def load(self, barcode: str, serial: str) -> None:
        """Bring a cartridge into a drive; what the drive holds goes to a slot first.

        The drive must be closed, and have put its cartridge out.  Raises JobError when the library has no
        such cartridge, InfrastructureError when robot or library fail.
        """
        with self._robot() as changer:
            for attempt in range(1, MOVE_TRIES + 1):
                try:
                    self._load(changer, barcode, serial)
                except UnitAttentionError:
                    # Somebody opened the door or moved a cartridge: the plan was made on old facts.
                    if attempt == MOVE_TRIES:
                        raise
                else:
                    return

    def _load(self, changer: Changer, barcode: str, serial: str) -> None:
        inventory = changer.inventory()
        source = inventory.find(barcode)
        drive = drive_element(inventory, serial, self._drives)
        if source is None:
            raise JobError(f"cartridge {barcode} is not in the library")
        if source.address == drive.address:
            return
        if drive.full:
            changer.move(drive.address, free_slot(inventory, drive).address)
        changer.move(source.address, drive.address)

    @contextmanager
    def _robot(self) -> Iterator[Changer]:
        name = show_path(self._changer)
        self._await_open(name)
        try:
            with NdmpScsiTransport(self._client, name) as transport:
                yield Changer(transport)
        except NotListedError as error:
            raise RefusedMoveError(
                f"{self._client.peer} does not move this cartridge, or not to this drive: "
                "its configuration does not list it (media_server.libraries: drives, writable, readable)"
            ) from error
        except DeviceError as error:
            raise InfrastructureError(f"the library failed: {error}") from error
        finally:
            with contextlib.suppress(NdmpError):
                self._client.do(m.ScsiCloseRequest())

    def _await_open(self, name: str) -> None:
        started = self._now()
        while True:
            try:
                self._client.do(m.ScsiOpenRequest(self._changer))
            except ReplyError as error:
                if error.code is not ErrorCode.DEVICE_BUSY:
                    raise InfrastructureError(
                        f"{error.peer} cannot open {name}: {error.code.name}; see backup_server.changer"
                    ) from error
                if self._now() - started >= ROBOT_WAIT_S:
                    raise InfrastructureError(f"{name} on {error.peer} has been busy for too long") from error
                self._sleep(RETRY_S)
            else:
                return
