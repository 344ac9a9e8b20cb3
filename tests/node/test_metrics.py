"""What an agent tells Prometheus."""

import re

from moorage import __version__
from moorage.dataplane.capabilities import Capabilities
from moorage.dataplane.sync import Synced
from moorage.node.metrics import Metrics


def values(metrics: Metrics) -> dict[str, float]:
    found = re.findall(r"^(moorage_[^ ]+) (.+)$", metrics.text().decode(), re.MULTILINE)
    return {name: float(value) for name, value in found}


def test_syncs_are_counted_with_what_they_did() -> None:
    metrics = Metrics()
    metrics.done(Synced(transactions=1, sessions=3, flows=2), 0.02)
    metrics.done(Synced(), 0.3)
    metrics.failed()
    found = values(metrics)
    assert found['moorage_node_syncs_total{result="ok"}'] == 2
    assert found['moorage_node_syncs_total{result="failed"}'] == 1
    assert found["moorage_node_sync_seconds_sum"] == 0.32
    assert found["moorage_node_corrected_sessions_total"] == 3
    assert found["moorage_node_ended_flows_total"] == 2


def test_what_an_agent_does_not_measure_is_not_told() -> None:
    assert not any("loop_lag" in name for name in values(Metrics()))


def test_what_nft_and_the_kernel_can_do_is_told() -> None:
    metrics = Metrics()
    metrics.found(Capabilities(learn6=False, version=(1, 0, 6), tcp_loose=True))
    found = values(metrics)
    assert found[f'moorage_node_info{{nft="1.0.6",version="{__version__}"}}'] == 1
    assert found["moorage_node_learns_ipv6"] == 0
    assert found["moorage_node_tcp_loose"] == 1
