"""The hints of EndpointSlices, and what kube-proxy makes of them: which endpoints the clients of a node may use.

The operator encodes hints, whoever carries packets obeys them. kube-proxy looks at nothing else: not at the
`trafficDistribution` of the Service, and not at where an endpoint is.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from moorage.api.discovery_v1 import EndpointHints, ForNode, ForZone
from moorage.api.meta import ObjectMeta

ZONE_LABEL = "topology.kubernetes.io/zone"
"""On a Node: its zone. kube-proxy and schedulers read it."""
MAX_HINTS = 8
"""Of nodes and of zones, each, of one endpoint: the API server refuses the ninth."""
NO_NODE = "none.moorage.dev"
"""A name that no node and no zone has. An endpoint that is hinted to it alone takes nobody, as long as another is
hinted to whoever asks; without a hint it would switch off the hints of all others."""
NOBODY = frozenset([NO_NODE])


class Hints(NamedTuple):
    """Who should use an endpoint."""

    nodes: frozenset[str] = frozenset()
    zones: frozenset[str] = frozenset()


NO_HINTS = Hints()


class Hinted(Protocol):
    """What decides whether an endpoint is used; see `HintedEndpoint`."""

    @property
    def ready(self) -> bool: ...

    @property
    def hints(self) -> Hints: ...

    @property
    def serving(self) -> bool: ...

    @property
    def terminating(self) -> bool: ...


class HintedEndpoint(NamedTuple):
    """What is asked of an endpoint of one port of a Service, in one IP family. Where an address and port is listed
    several times, kube-proxy takes one of these, and which is not defined."""

    ready: bool
    hints: Hints = NO_HINTS
    serving: bool = True
    terminating: bool = False


def zone_of(node: ObjectMeta) -> str:
    """The zone of the Node with this metadata; empty if it has none."""
    return (node.labels or {}).get(ZONE_LABEL, "")


def encode_hints(hints: Hints) -> EndpointHints | None:
    """The field `hints` of an endpoint, with its names in order; None where there are none."""
    if not hints.nodes and not hints.zones:
        return None
    return EndpointHints(
        for_nodes=[ForNode(name=name) for name in sorted(hints.nodes)] or None,
        for_zones=[ForZone(name=name) for name in sorted(hints.zones)] or None,
    )


def decode_hints(hints: EndpointHints | None) -> Hints:
    """What the field `hints` of an endpoint says, whoever wrote it."""
    if hints is None:
        return NO_HINTS
    return Hints(
        frozenset(each.name for each in hints.for_nodes or ()), frozenset(each.name for each in hints.for_zones or ())
    )


def usable(endpoints: Sequence[Hinted], node: str, zone: str) -> tuple[int, ...]:
    """The indexes of those of `endpoints` that kube-proxy sends clients of `node` to; `zone` is the node's, or empty.

    They are the ready ones that are hinted to the node, if every ready one has a hint to some node and one is hinted
    to this node; else the same by zones; else all that are ready. If none is ready, they are those that are
    terminating and still serve. So it is for Services of traffic policy Cluster; hints say nothing of endpoints that
    policy Local looks for on the node itself.

    From `CategorizeEndpoints` in pkg/proxy/topology.go of Kubernetes 1.37.2. Versions 1.34.4 and 1.35.4 differ in
    what they log, not in the result. Hints to nodes count from 1.34 on: before, they are behind the feature gate
    PreferSameTrafficDistribution, off unless somebody sets it (1.33), or not known.
    """
    ready = [index for index, each in enumerate(endpoints) if each.ready]
    if not ready:
        return tuple(index for index, each in enumerate(endpoints) if each.serving and each.terminating)
    if all(endpoints[index].hints.nodes for index in ready):
        found = tuple(index for index in ready if node in endpoints[index].hints.nodes)
        if found:
            return found
    if all(endpoints[index].hints.zones for index in ready):
        found = tuple(index for index in ready if zone in endpoints[index].hints.zones)
        if found:
            return found
    return tuple(ready)
