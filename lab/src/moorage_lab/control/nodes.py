"""Node objects of the cluster's plan."""

from ipaddress import ip_address

from moorage.api.core_v1 import Node, NodeAddress, NodeSpec, NodeStatus
from moorage.api.meta import ObjectMeta
from moorage.api.topology import ZONE_LABEL
from moorage_lab.topology import ClusterPlan

ZONES = ("zone-1", "zone-2")
"""Nodes are in these in turn."""


def nodes(plan: ClusterPlan, version: str, kernel: str, now: str) -> list[Node]:
    """A Ready node for each of the plan's; `version` is Moorage's, `now` RFC 3339."""
    return [
        Node(
            api_version="v1",
            kind="Node",
            metadata=ObjectMeta(
                name=node.name,
                labels={
                    "kubernetes.io/hostname": node.name,
                    "kubernetes.io/os": "linux",
                    ZONE_LABEL: ZONES[index % len(ZONES)],
                },
            ),
            spec=NodeSpec(pod_cidr=node.pod_ranges[0], pod_cidrs=node.pod_ranges),
            status=NodeStatus(
                addresses=[
                    *(NodeAddress(type="InternalIP", address=str(ip_address(address))) for address in node.addresses),
                    NodeAddress(type="Hostname", address=node.name),
                ],
                conditions=[
                    {
                        "type": "Ready",
                        "status": "True",
                        "reason": "KubeletReady",
                        "message": "the lab runs this node's pods",
                        "lastHeartbeatTime": now,
                        "lastTransitionTime": now,
                    }
                ],
                node_info={
                    "kubeletVersion": f"v{version}-lab",
                    "kernelVersion": kernel,
                    "operatingSystem": "linux",
                    "osImage": "Moorage lab",
                    "containerRuntimeVersion": "processes://1",
                },
            ),
        )
        for index, node in enumerate(plan.nodes)
    ]
