"""What the endpoint counts, in Prometheus' text format (`GET /metrics`).

Each process counts for itself. Under Ray a scrape reaches one replica; Ray's own metrics carry
the sums of all.
"""

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import GaugeMetricFamily

MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Meters:
    """The counters of one app, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "dtpf_requests", "Answered requests", ("route", "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "dtpf_request_seconds",
            "From the first byte of a request to the last of its answer",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._stages = Histogram(
            "dtpf_stage_seconds",
            "Stages of a fusion; model includes the wait for a batch",
            ("stage",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._batches = Histogram(
            "dtpf_batch_pairs", "Pairs in one model call", buckets=_SIZES, registry=self.registry
        )
        self._ongoing = Gauge("dtpf_ongoing_requests", "Requests now", registry=self.registry)

    def begin(self) -> None:
        """Count a request that has come."""
        self._ongoing.inc()

    def end(self, route: str, status: int, seconds: float) -> None:
        """Count its answer; `route` is a route's template, so that labels stay few."""
        self._ongoing.dec()
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def stages(self, timings: Mapping[str, float]) -> None:
        """Count the stages of one fusion, given in milliseconds."""
        for stage, milliseconds in timings.items():
            self._stages.labels(stage).observe(milliseconds / 1000.0)

    def batch(self, size: int) -> None:
        """Count one model call."""
        self._batches.observe(size)

    def show_models(self, served: Callable[[], Iterable[tuple[str, str]]]) -> None:
        """Report (name, version) of what is served at each scrape."""
        self.registry.register(_Models(served))

    def text(self) -> bytes:
        """Return all in Prometheus' text format."""
        return generate_latest(self.registry)


class _Models:
    """Collector of the served models: 1 for each name and its present version."""

    def __init__(self, served: Callable[[], Iterable[tuple[str, str]]]) -> None:
        self._served = served

    def collect(self) -> Iterable[GaugeMetricFamily]:
        family = GaugeMetricFamily("dtpf_model", "Served models", labels=("name", "version"))
        for labels in self._served():
            family.add_metric(labels, 1)
        return [family]
