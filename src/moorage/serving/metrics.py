"""Metrics of any process, for Prometheus. The number of label values does not grow with the number of objects."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Histogram, disable_created_metrics, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class ProcessMetrics:
    """The metrics of a process, in a registry of their own. Each kind of process adds some."""

    def __init__(self) -> None:
        # Twice the series, for information that the start time of the process gives, too.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.loop_lag_seconds = Histogram(
            "moorage_loop_lag_seconds",
            "How late the event loop is, measured every 10 ms.",
            # Fine where it matters: health probes, renewals of the Lease and decisions wait as long.
            buckets=(0.002, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2, 5, 10),
            registry=registry,
        )
        self.refresh: Callable[[], None] = lambda: None
        """Called before each exposition, for values that are cheaper to read then than to keep current."""

    def text(self) -> bytes:
        """The metrics as Prometheus reads them, in `CONTENT_TYPE`."""
        self.refresh()
        return generate_latest(self._registry)
