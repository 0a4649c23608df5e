"""Figures for Prometheus, in its text format over HTTP; read from the registry of sessions when asked for.

No counter is touched on a data path: services count bytes for NDMP anyway, and are asked at each scrape.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from appliance.errors import InfrastructureError
from appliance.ndmp.enums import DataState, MoverState
from appliance.ndmp.sessions import Sessions
from appliance.ndmp.states import SessionState

PREFIX = "spanreel_"

# Which counters of the registry become which metric: its name, help, and label if it has one.
_COUNTERS: dict[str, tuple[str, str, str]] = {
    "refusals": ("session_refusals", "Connections refused.", "reason"),
    "login failures": ("failed_logins", "Logins refused.", ""),
    "device errors": ("tape_errors", "Failed commands of drives and changers.", "serial"),
    "jobs": ("jobs", "Jobs that this entry server ended.", "outcome"),
}
_STATES = {
    "data": ("data_states", "DATA services by state.", DataState),
    "channel": ("channel_states", "Backup channels by state.", DataState),
    "mover": ("mover_states", "Movers by state.", MoverState),
    "feed": ("feed_states", "Feeds by state.", MoverState),
}


class SessionCollector(Collector):
    """Makes metrics of what the sessions of this process say now."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics; called by the library for each scrape."""
        now = [live.describe() for live in self._sessions.all()]
        states = Counter((str(one["port"]), str(one["state"])) for one in now)
        gauge = GaugeMetricFamily(PREFIX + "sessions", "Control sessions.", labels=["port", "state"])
        for port in ("ndmp", "cluster"):
            for state in SessionState:
                gauge.add_metric([port, state.name.lower()], states[port, state.name.lower()])
        yield gauge
        yield from self._services(now)
        yield from self._sums()
        yield from self._counted()

    def _services(self, now: list[dict[str, object]]) -> Iterator[Metric]:
        """States of services, zeros included: a state that nobody is in is a fact, not a gap."""
        found: Counter[tuple[str, str]] = Counter()
        waiting = 0
        for one in now:
            services = one["services"]
            assert isinstance(services, dict)
            for service, facts in services.items():
                found[service, str(facts["state"])] += 1
                waiting += bool(facts.get("waiting"))
        for service, (name, about, states) in _STATES.items():
            gauge = GaugeMetricFamily(PREFIX + name, about, labels=["state"])
            for state in states:
                gauge.add_metric([state.name.lower()], found[service, state.name.lower()])
            yield gauge
        yield GaugeMetricFamily(PREFIX + "feeds_waiting", "Feeds that stand still now.", value=waiting)

    def _sums(self) -> Iterator[Metric]:
        sums = self._sessions.sums()
        moved = CounterMetricFamily(PREFIX + "bytes", "Bytes moved, by service.", labels=["service"])
        for service in _STATES:
            moved.add_metric([service], sums.get((service, "moved"), 0))
        yield moved
        yield CounterMetricFamily(
            PREFIX + "feed_wait_seconds",
            "Time that feeds stood still, for their turn or their file server.",
            value=sums.get(("feed", "waited"), 0),
        )

    def _counted(self) -> Iterator[Metric]:
        counts = self._sessions.counts()
        for key, (name, about, label) in _COUNTERS.items():
            counter = CounterMetricFamily(PREFIX + name, about, labels=[label] if label else [])
            found = {of: value for (counted, of), value in counts.items() if counted == key}
            for of, value in sorted((found or ({} if label else {"": 0})).items()):
                counter.add_metric([of] if label else [], value)
            yield counter
        jobs = GaugeMetricFamily(PREFIX + "catalogue_jobs", "Jobs in the catalogue.", labels=["status"])
        for (counted, of), value in sorted(counts.items()):
            if counted == "catalogue jobs":
                jobs.add_metric([of], value)
        yield jobs


class MetricsServer:
    """The HTTP server, in threads of its own."""

    def __init__(self, endpoint: str, sessions: Sessions) -> None:
        """Listen on `endpoint`, ADDRESS:PORT.  Raises InfrastructureError when that is not possible."""
        registry = CollectorRegistry()
        registry.register(SessionCollector(sessions))
        # Memory, descriptors and processor time of this process.
        ProcessCollector(namespace=PREFIX.rstrip("_"), registry=registry)
        host, _, port = endpoint.rpartition(":")
        try:
            self._server, self._thread = start_http_server(int(port), host, registry)
        except OSError as error:
            raise InfrastructureError(
                f"metrics cannot listen on {endpoint}: {error.strerror}; each process needs a port of its own"
            ) from error

    def stop(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
