"""What an agent tells Prometheus."""

import re

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
