"""The smallest DMA that can run a backup in a running lab, and look at it while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from appliance.backupserver.library import Library
from appliance.ndmp import messages as m
from appliance.ndmp.client import Client
from appliance.ndmp.endpoint import Received
from appliance.ndmp.enums import ALL_ONES, MoverMode, MtioOp, TapeOpenMode
from appliance.ndmp.types import Pval

RECORD = 262144


class Dma:
    """Sessions with one file server and the media server of a lab, and a cartridge in the first drive."""

    def __init__(self, info: dict[str, Any], entry: str) -> None:
        self._nodes = {node["name"]: node for node in info["nodes"]}
        self._tape = info["tape"]
        self._halted = False
        self.on_post: Callable[[Received], None] = lambda _: None
        self.data = self._session(entry, self._heard)
        self.media = self._session(self._tape["node"], lambda _: None)

    def _session(self, name: str, on_post: Callable[[Received], None]) -> Client:
        node = self._nodes[name]
        client = Client.connect((node["address"], node["ndmp_port"]), name, on_post=on_post)
        client.login(node["ndmp_user"], node["ndmp_password"])
        return client

    def _heard(self, post: Received) -> None:
        self._halted = self._halted or isinstance(post.body(), m.NotifyDataHaltedPost)
        self.on_post(post)

    def load(self, barcode: str) -> None:
        """Bring a cartridge into the first drive."""
        serial = self._tape["drives"][0]["serial"]
        with self._session(self._tape["node"], lambda _: None) as robot:
            device = self._tape["changer"]["ndmp_device"].encode()
            Library(robot, device, (serial,)).load(barcode, serial)

    def backup(self, path: bytes, history: bytes, look: Callable[[Client, Client], None]) -> float:
        """Back `path` up over the cartridge's beginning, calling `look` all along; seconds to the halt."""
        device = self._tape["drives"][0]["ndmp_device"].encode()
        self.media.do(m.TapeOpenRequest(device, TapeOpenMode.RDWR))
        self.media.do(m.TapeMtioRequest(MtioOp.REW, 1))
        self.media.do(m.MoverSetRecordSizeRequest(RECORD))
        self.media.do(m.MoverSetWindowRequest(0, ALL_ONES))
        listening = self.media.call(m.MoverListenRequest(MoverMode.READ), m.MoverListenReply)
        self.data.do(m.DataConnectRequest(listening.connect_addr))
        env = (Pval(b"FILESYSTEM", path), Pval(b"HIST", history))
        self._halted = False
        started = time.monotonic()
        self.data.do(m.DataStartBackupRequest(b"tar", env))
        while not self._halted:
            look(self.data, self.media)
        took = time.monotonic() - started
        self.data.do(m.DataStopRequest())
        self.media.do(m.MoverStopRequest())
        self.media.do(m.TapeCloseRequest())
        return took

    def close(self) -> None:
        """Log out."""
        self.data.close()
        self.media.close()
