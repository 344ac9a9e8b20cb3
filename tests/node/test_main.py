"""What the process of an agent tells about it."""

from types import SimpleNamespace
from typing import cast

from moorage.node.agent import Agent
from moorage.node.main import refresh
from moorage.node.metrics import Metrics


def test_metrics_have_the_present_state_of_the_agent() -> None:
    metrics = Metrics()
    crowding = SimpleNamespace(sessions={4: 7, 6: 8}, crowded={6})
    agent = SimpleNamespace(
        synced=True, behind_seconds=2.5, ports=3, moorings=4, refused=5, warnings=["line"] * 6, crowding=crowding
    )
    refresh(metrics, cast("Agent", agent))
    lines = metrics.text().decode().splitlines()
    told = {
        "moorage_node_synced 1.0",
        "moorage_node_behind_seconds 2.5",
        "moorage_node_ports 3.0",
        "moorage_node_moorings 4.0",
        "moorage_node_refused_ports 5.0",
        "moorage_node_warnings 6.0",
        'moorage_node_sessions{family="IPv4"} 7.0',
        'moorage_node_sessions{family="IPv6"} 8.0',
        'moorage_node_sessions_crowded{family="IPv4"} 0.0',
        'moorage_node_sessions_crowded{family="IPv6"} 1.0',
    }
    assert told <= set(lines)
