"""The node agent's metrics for Prometheus. Their number does not grow with the number of Services."""

from prometheus_client import Counter, Gauge, Histogram

from moorage import __version__
from moorage.dataplane.capabilities import Capabilities
from moorage.dataplane.sync import Synced
from moorage.node.agent import Observer
from moorage.serving.metrics import ProcessMetrics


class Metrics(ProcessMetrics, Observer):
    """The metrics of a node agent's process."""

    def __init__(self) -> None:
        super().__init__()
        registry = self._registry
        # To measure it takes 0.7 % of a core, on every node. Nothing here has to be done by the millisecond.
        registry.unregister(self.loop_lag_seconds)
        self.info = Gauge(
            "moorage_node_info",
            "Always 1: the versions of the agent and of nft.",
            ["version", "nft"],
            registry=registry,
        )
        self.learns_ipv6 = Gauge(
            "moorage_node_learns_ipv6", "1 if nft can learn IPv6 sessions; found out at start.", registry=registry
        )
        self.tcp_loose = Gauge(
            "moorage_node_tcp_loose",
            "1 if the kernel picks up TCP connections in the middle; found out at start.",
            registry=registry,
        )
        self.syncs = Counter(
            "moorage_node_syncs", "Times that the kernel was brought up to date.", ["result"], registry=registry
        )  # ok, failed
        self.sync_seconds = Histogram(
            "moorage_node_sync_seconds",
            "How long that took when it succeeded.",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=registry,
        )
        self.behind_seconds = Gauge(
            "moorage_node_behind_seconds",
            "For how long the kernel has not been brought up to date; 0 if it is.",
            registry=registry,
        )
        self.synced = Gauge(
            "moorage_node_synced", "1 once the kernel has been brought up to date.", registry=registry
        )
        self.ports = Gauge("moorage_node_ports", "Ports of Services that are carried.", registry=registry)
        self.moorings = Gauge(
            "moorage_node_moorings",
            "Addresses of pods that are led by a mooring, each port of a Service counted.",
            registry=registry,
        )
        self.refused_ports = Gauge(
            "moorage_node_refused_ports", "Ports that nft refuses; they stay as they were.", registry=registry
        )
        self.warnings = Gauge(
            "moorage_node_warnings",
            "Things that are left out or kept in their old state; the log has each.",
            registry=registry,
        )
        self.sessions = Counter(
            "moorage_node_corrected_sessions", "Sessions that ended, or got another timeout.", registry=registry
        )
        self.learned = Gauge(
            "moorage_node_sessions",
            "Sessions that the kernel has, looked at every 30 seconds.",
            ["family"],
            registry=registry,
        )  # IPv4, IPv6
        self.crowded = Gauge(
            "moorage_node_sessions_crowded",
            "1 while clients without a session choose by their address alone: the sessions nearly fill their map.",
            ["family"],
            registry=registry,
        )
        self.flows = Counter(
            "moorage_node_ended_flows", "Connections that were ended with their endpoint.", registry=registry
        )

    def found(self, capabilities: Capabilities) -> None:
        """What nft and the kernel can do, once that is known."""
        self.info.labels(__version__, ".".join(map(str, capabilities.version))).set(1)
        self.learns_ipv6.set(capabilities.learn6)
        self.tcp_loose.set(capabilities.tcp_loose)

    def done(self, synced: Synced, seconds: float) -> None:
        self.syncs.labels("ok").inc()
        self.sync_seconds.observe(seconds)
        self.sessions.inc(synced.sessions)
        self.flows.inc(synced.flows)

    def failed(self) -> None:
        self.syncs.labels("failed").inc()
