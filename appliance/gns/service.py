"""The map as the roles of one node see it: the present generation, and word when it changes.

One file server, the writer, changes the map; the others pull it from there and go on with their last
good copy while the writer is away.  How a map travels is not known here: `pull` is given.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from appliance.config import Cluster, NodeConfig
from appliance.errors import ConfigurationError, SpanreelError
from appliance.gns.change import Change, apply_change
from appliance.gns.codec import UPGRADE_THIS, decode_map
from appliance.gns.map import GnsMap, MapError
from appliance.gns.store import MapStore

Pull = Callable[[int], bytes | None]
Subscriber = Callable[[GnsMap], None]

_log = structlog.get_logger(__name__)


class MapService:
    """The map on this node; all methods may be called from any thread.

    `pull(generation)` returns the writer's map as `codec.encode_map` wrote it, or None when the writer
    has that generation; readers need it before `refresh`.  Construction reads the node's own copy and
    raises InfrastructureError when that cannot be.
    """

    def __init__(self, config: NodeConfig, pull: Pull | None = None) -> None:
        self.is_writer = config.is_gns_writer
        cluster = config.section(Cluster)
        self._writer_name = cluster.gns_writer
        nodes = {config.node.name, *(node.name for node in cluster.nodes)}
        self._owners = nodes - {cluster.connection_server}
        self.pull = pull
        self._store = MapStore(config.node.state)
        try:
            self._map = self._store.load() if self.is_writer else self._store.load_last_good()
        except BaseException:
            self._store.close()
            raise
        self._lock = threading.Lock()
        # Held while subscribers run, so that they see generations in order, and apart from _lock, so
        # that nobody who only asks for the map waits for mounts and exports.
        self._change_lock = threading.RLock()
        self._subscribers: list[Subscriber] = []

    def close(self) -> None:
        """Give up the store."""
        self._store.close()

    def current(self) -> GnsMap:
        """Return the present map; it is immutable, so a job that keeps it has pinned its generation."""
        with self._lock:
            return self._map

    def subscribe(self, subscriber: Subscriber) -> None:
        """Call `subscriber` now with the present map, and with every map that replaces it.

        What it raises for people to read is logged: the map has changed all the same.
        """
        with self._change_lock:
            self._subscribers.append(subscriber)
            self._tell(subscriber, self.current())

    def refresh(self, pull: Pull | None = None) -> bool:
        """Pull the map from the writer; return whether it changed.  On the writer nothing happens.

        `pull` is used in the place of the service's own: who has time waits longer.  Raises MapError when
        what came is damaged or older than this node's copy, and whatever `pull` raises; the present map
        stays in all these cases.
        """
        if self.is_writer:
            return False
        pull = pull or self.pull
        assert pull is not None, "a reader was not told how to pull the map"
        asked = self.current().generation
        # Without a lock: a writer that hangs must not hold up a job behind the thread that pulls.
        data = pull(asked)
        if data is None:
            return False
        pulled = decode_map(data, f"the map of {self._writer_name}", UPGRADE_THIS)
        if pulled.generation < asked:
            raise MapError(
                f"the map of {self._writer_name} has generation {pulled.generation}, this node's has "
                f"{asked}: was an old copy restored there?"
            )
        with self._change_lock:
            # Another thread may have pulled a newer one meanwhile.
            return pulled.generation >= self.current().generation and self._replace(pulled)

    def change(self, change: Change) -> GnsMap:
        """Apply a change on the writer and return the map after it, stored durably.

        Raises MapError or PathNotFoundError for a change that cannot be (an owner that the cluster does
        not have, too), ConfigurationError on a node that is not the writer, InfrastructureError when it
        cannot be stored.
        """
        if not self.is_writer:
            raise ConfigurationError(f"the map is changed on {self._writer_name} only; ask there")
        with self._change_lock:
            successor = apply_change(self.current(), change)
            self._require_owners(successor)
            self._replace(successor)
            return self.current()

    def _require_owners(self, successor: GnsMap) -> None:
        """A part whose owner nobody can ask would be missing from every backup."""
        for junction in set(successor.junctions) - set(self.current().junctions):
            if junction.owner not in self._owners:
                raise MapError(
                    f"{junction.owner!r} is no file server of this cluster; "
                    f"there are: {', '.join(sorted(self._owners))}"
                )

    def _replace(self, successor: GnsMap) -> bool:
        if successor == self.current():
            return False
        self._store.save(successor)
        with self._lock:
            self._map = successor
        _log.info("map changed", generation=successor.generation, junctions=len(successor.junctions))
        for subscriber in self._subscribers:
            self._tell(subscriber, successor)
        return True

    def _tell(self, subscriber: Subscriber, gns_map: GnsMap) -> None:
        try:
            subscriber(gns_map)
        except SpanreelError as error:
            _log.error("map not taken up", generation=gns_map.generation, reason=str(error))
