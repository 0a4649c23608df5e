from collections.abc import Callable, Sequence

from appliance.archive.checksum import Checksum
from appliance.archive.quick import Owners

def save(
    directory: int,
    base: bytes,
    names: list[bytes | None],
    numbers: Sequence[int],
    first: int,
    buffer: memoryview,
    used: int,
    reserve: int,
    sent: int,
    job: bytes,
    owners: Owners,
    lines_room: int,
    checksum: Callable[[memoryview], Checksum],
    escape: Callable[[bytes], bytes],
    /,
) -> tuple[int, int, bytes, bytes]: ...
def span(buffer: memoryview, low: int, high: int, base: bytes, /) -> tuple[int, list[int]]: ...
def restore(
    buffer: memoryview,
    low: int,
    high: int,
    base: bytes,
    directory: int,
    may_give: bool,
    uid: int,
    gid: int,
    checksum: Callable[[memoryview], Checksum],
    /,
) -> tuple[int, int, list[tuple[int, bytes, bytes]]]: ...
