"""The operator's metrics for Prometheus. The number of label values does not grow with the number of objects."""

from collections.abc import Mapping
from typing import get_args

from prometheus_client import Counter, Gauge, Histogram

from moorage.api.moorings_v1alpha1 import REASONS
from moorage.core.model import Health
from moorage.serving.metrics import ProcessMetrics


class Metrics(ProcessMetrics):
    """The metrics of an operator process."""

    def __init__(self) -> None:
        super().__init__()
        registry = self._registry
        self.leader = Gauge("moorage_leader", "1 while this process holds the lease.", registry=registry)
        self.synced = Gauge(
            "moorage_synced", "1 once the leader has read everything that it decides from.", registry=registry
        )
        self.reconciles = Counter(
            "moorage_reconciles", "ExternalServices looked at.", ["result"], registry=registry
        )  # changed, unchanged, conflict, error
        self.failed_decisions = Counter(
            "moorage_failed_decisions",
            "Looks at an ExternalService or a group that failed because of a bug in Moorage.",
            registry=registry,
        )
        self.unreadable = Gauge(
            "moorage_unreadable_objects",
            "Objects of this cluster that cannot be read; their last good state is in use.",
            ["kind"],
            registry=registry,
        )
        self.reconcile_seconds = Histogram(
            "moorage_reconcile_seconds",
            "Time to look at one ExternalService, its writes included.",
            buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=registry,
        )
        self.queue_depth = Gauge(
            "moorage_queue_depth", "ExternalServices that wait to be looked at.", registry=registry
        )
        self.writes = Counter(
            "moorage_writes",
            "Writes to the API that were tried.",
            ["kind", "verb", "result"],  # verb: create, patch, delete, status; result: ok, conflict, error
            registry=registry,
        )
        self.external_services = Gauge("moorage_external_services", "Number of ExternalServices.", registry=registry)
        self.endpoints = Gauge(
            "moorage_endpoints", "Endpoints by what the checks say.", ["health"], registry=registry
        )
        self.groups = Gauge("moorage_groups", "Groups whose clients are moored.", registry=registry)
        self.moorings = Gauge("moorage_moorings", "Moorings there are.", registry=registry)
        self.refused_moorings = Gauge(
            "moorage_refused_moorings", "Moorings that the API server does not take.", registry=registry
        )
        self.moves = Counter(
            "moorage_mooring_moves",
            "Clients that came to an endpoint, by why.",
            ["reason"],  # Assigned, FailedOver, Drained, Returned, Moved
            registry=registry,
        )
        for reason in REASONS:
            self.moves.labels(reason)
        self.group_decision_seconds = Histogram(
            "moorage_group_decision_seconds",
            "Time to decide about the moorings of one group.",
            buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
            registry=registry,
        )
        self.verdicts = Counter(
            "moorage_verdict_changes",
            "Changes of what the checks say, by the new verdict.",
            ["health"],
            registry=registry,
        )
        self.probes = Counter("moorage_probes", "Health checks done.", ["result"], registry=registry)  # ok, failed
        # Looked up once: thousands of checks are counted a second.
        self._probes_ok, self._probes_failed = self.probes.labels("ok"), self.probes.labels("failed")
        self.probes_skipped = Counter(
            "moorage_probes_skipped",
            "Health checks not made for want of files, ports or memory here.",
            registry=registry,
        )
        self.probe_seconds = Histogram(
            "moorage_probe_seconds",
            "How long health checks took.",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=registry,
        )
        self.probe_lateness_seconds = Histogram(
            "moorage_probe_lateness_seconds",
            "How much later than planned health checks began.",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
            registry=registry,
        )
        self.restarts = Counter(
            "moorage_child_restarts",
            "How often a child process was started again.",
            ["part"],  # checks, sources
            registry=registry,
        )
        for part in ("checks", "sources"):
            self.restarts.labels(part)
        self.sources = Gauge(
            "moorage_sources", "Sources, by whether their answer is current.", ["state"], registry=registry
        )
        self.rest()

    def rest(self) -> None:
        """Stop counting objects, because this process does not lead: two processes would count everything twice."""
        self.refresh = lambda: None
        self.set_endpoints({})
        self.unreadable.clear()
        self.set_sources(0, 0)
        for gauge in (
            *(self.leader, self.synced, self.queue_depth, self.external_services),
            *(self.groups, self.moorings, self.refused_moorings),
        ):
            gauge.set(0)

    def set_endpoints(self, counts: Mapping[str, int]) -> None:
        """Set how many endpoints have each verdict; verdicts that are not named have none."""
        for health in get_args(Health):
            self.endpoints.labels(health).set(counts.get(health, 0))

    def set_sources(self, current: int, problem: int) -> None:
        """Set how many sources have a current answer, and how many have a problem."""
        self.sources.labels("current").set(current)
        self.sources.labels("problem").set(problem)

    def count_probe(self, success: bool, seconds: float) -> None:
        (self._probes_ok if success else self._probes_failed).inc()
        self.probe_seconds.observe(seconds)
