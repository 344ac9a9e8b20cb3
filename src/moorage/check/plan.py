"""Which nodes a trial of the service proxy uses, and where hints are to lead their clients. Pure."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from moorage.api.core_v1 import Node
from moorage.api.topology import MAX_HINTS, NOBODY, Hints, zone_of

SERVERS = ("a", "b")
"""Pods that answer. With two endpoints and `MAX_HINTS` of each there are hints for all nodes below."""
MAX_NODES = len(SERVERS) * MAX_HINTS
"""Each has a pod of the trial for some seconds, in somebody's cluster."""
_OS_LABEL = "kubernetes.io/os"

NODES, ZONES, AGENTS = "nodes", "zones", "agents"
"""What is tried: kube-proxy with hints to nodes, and to zones; node agents with hints to nodes."""


class Way(NamedTuple):
    """A Service of the trial."""

    hints: Mapping[str, Hints]
    """Each server -> who should use it."""
    lead: Mapping[str, str]
    """Each node whose clients are led -> the server that these hints lead them to."""


class Plan(NamedTuple):
    nodes: tuple[str, ...]
    """Those with a client."""
    every: int
    """How many nodes the cluster has."""
    at: Mapping[str, str]
    """Each server -> its node: another one than those have whose clients are led to it, if that can be."""
    ways: Mapping[str, Way]


def planned(nodes: Sequence[Node], agents: Collection[str]) -> Plan | None:
    """What to try in a cluster of these nodes, of which some have an agent; None if no node takes pods.

    Hints to nodes are tried, to zones where nodes have some, and whether agents carry a Service. Nodes that
    take no pod by themselves are left out: those that are not Ready, are cordoned or tainted, or do not run Linux. Of
    more than `MAX_NODES`, those are taken that are evenly spread over their ages, the oldest and the newest among
    them: what is old and what has come last differ, if any do.
    """
    able = sorted(filter(_takes_pods, nodes), key=_age)
    if not able:
        return None
    many = min(len(able), MAX_NODES)
    chosen = [able[index * (len(able) - 1) // max(many - 1, 1)] for index in range(many)]
    first, *rest = chosen
    # In another zone, if that can be, so that hints to zones lead to other nodes, too.
    second = next((each for each in rest if _zone(each) != _zone(first)), rest[0] if rest else first)
    order = [first, *([second] if rest else []), *(each for each in rest if each is not second)]
    lead = _alternating(each.metadata.name for each in order)
    by_nodes = Way({server: Hints(nodes=_led_to(server, lead)) for server in SERVERS}, lead)
    ways = {NODES: by_nodes}
    of_zones = _alternating(zone for zone in map(_zone, order) if zone)
    if of_zones:
        hints = {server: Hints(zones=_led_to(server, of_zones)) for server in SERVERS}
        ways[ZONES] = Way(hints, {each.metadata.name: of_zones[_zone(each)] for each in order if _zone(each)})
    if carried := {name: server for name, server in lead.items() if name in agents}:
        ways[AGENTS] = by_nodes._replace(lead=carried)
    at = dict(zip(SERVERS, (first.metadata.name, second.metadata.name), strict=True))
    return Plan(tuple(each.metadata.name for each in order), len(nodes), at, ways)


def _age(node: Node) -> tuple[str, str]:
    return node.metadata.creation_timestamp or "", node.metadata.name


def _takes_pods(node: Node) -> bool:
    ready = any(each.get("type") == "Ready" and each.get("status") == "True" for each in node.status.conditions or ())
    tainted = any(each.get("effect") in ("NoSchedule", "NoExecute") for each in node.spec.taints or ())
    linux = (node.metadata.labels or {}).get(_OS_LABEL, "linux") == "linux"
    return ready and linux and not tainted and not node.spec.unschedulable


def _zone(node: Node) -> str:
    return zone_of(node.metadata)


def _alternating(names: Iterable[str]) -> dict[str, str]:
    """Each name -> a server in turn. The first name is that of the first server's node, or zone: it is led away."""
    return {name: SERVERS[(index + 1) % len(SERVERS)] for index, name in enumerate(dict.fromkeys(names))}


def _led_to(server: str, lead: Mapping[str, str]) -> frozenset[str]:
    """An endpoint without a hint would switch off those of the other."""
    return frozenset(name for name, its in lead.items() if its == server) or NOBODY
