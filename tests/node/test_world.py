"""What is kept of what an agent reads of its own node."""

import pytest

from moorage.api.core_v1 import Node, NodeSpec, NodeStatus
from moorage.api.meta import ObjectMeta
from moorage.cluster.events import Event
from moorage.dataplane.services import Scope
from moorage.node.world import World


def told(*specs: NodeSpec) -> World:
    """After the Node had these specs, one after the other."""
    world = World(None, Scope("n1"))  # type: ignore[arg-type]
    for version, spec in enumerate(specs):
        meta = ObjectMeta(name="n1", uid="1", resource_version=str(version + 1))
        status = NodeStatus(conditions=[{"type": "Ready"}])
        world._node._apply(Event("MODIFIED", Node(metadata=meta, spec=spec, status=status)))
    return world


@pytest.mark.parametrize(
    ("spec", "prefixes"),
    [
        (NodeSpec(), []),
        (NodeSpec(pod_cidr="10.244.1.0/24"), ["10.244.1.0/24"]),
        (NodeSpec(pod_cidr="x", pod_cidrs=["10.244.1.0/24", "FD00:10:0::/64"]), ["10.244.1.0/24", "fd00:10::/64"]),
        (NodeSpec(pod_cidrs=["10.244.1.9/24"]), ["10.244.1.0/24"]),
        (NodeSpec(pod_cidrs=["10.244.1.0/24", "10.244.0.0/16", "10.244.1.128/25"]), ["10.244.1.0/24"]),
        (NodeSpec(pod_cidrs=["", "nonsense", "10.244.1.0/33"]), []),
    ],
)
def test_the_ranges_of_pods_are_those_that_can_be_read_and_do_not_overlap(
    spec: NodeSpec, prefixes: list[str]
) -> None:
    assert [each.prefix for each in told(spec).prefixes] == prefixes


def test_a_node_that_has_lost_its_ranges_has_none() -> None:
    assert told(NodeSpec(pod_cidr="10.244.1.0/24"), NodeSpec()).prefixes == ()


def test_of_a_node_what_changes_every_few_seconds_is_not_held() -> None:
    [node] = told(NodeSpec(pod_cidr="10.244.1.0/24"))._node.store.values()
    assert node.status == NodeStatus()
