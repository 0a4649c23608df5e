"""How soon a session answers while its own stream runs at full speed."""

from __future__ import annotations

import time
from pathlib import Path

from appliance.ndmp import messages as m
from appliance.ndmp.client import Client
from tests.bench.dma import Dma
from tests.bench.figures import Figure, percentile

SIZE_MIB = 1024
PAUSE_S = 0.002
"""Between two questions: a DMA asks once a second."""


def run(dma: Dma, local: Path, path: bytes) -> list[Figure]:
    """Back one large file up and ask for both states all along."""
    with (local / "large").open("wb") as file:
        for _ in range(SIZE_MIB):
            file.write(b"spanreel" * (1 << 17))
    taken: dict[str, list[float]] = {"DATA": [], "MOVER": []}

    def look(data: Client, media: Client) -> None:
        for name, ask in (
            ("DATA", lambda: data.do(m.DataGetStateRequest())),
            ("MOVER", lambda: media.do(m.MoverGetStateRequest())),
        ):
            started = time.perf_counter()
            ask()
            taken[name].append((time.perf_counter() - started) * 1000)
        time.sleep(PAUSE_S)

    seconds = dma.backup(path, b"n", look)
    (local / "large").unlink()
    figures = [Figure("stream of one large file", SIZE_MIB / seconds, "MiB/s")]
    for name, values in taken.items():
        for percent, aim in ((50, ""), (99, "under 10 ms"), (100, "")):
            what = f"{name}_GET_STATE meanwhile, {percent} % of {len(values)}"
            figures.append(Figure(what, percentile(values, percent), "ms", aim))
    return figures
