"""What kube-proxy's clients may reach, by the endpoints of all slices of a Service."""

from collections.abc import Iterable, Sequence

from moorage.api.discovery_v1 import Endpoint
from moorage.api.topology import HintedEndpoint, decode_hints, usable

Slices = Sequence[Sequence[Endpoint]]


def used(slices: Slices, node: str) -> set[str]:
    """The names of the endpoints that clients of this node are sent to. It is in a zone of its own name."""
    found = [each for slice_ in slices for each in slice_]
    return {found[index].hostname or "" for index in usable([_hinted(each) for each in found], node, node)}


def ready(slices: Slices) -> set[str]:
    return {each.hostname or "" for each in _ready(slices)}


def allowed(before: Slices, after: Slices, node: str) -> set[str]:
    """What a node may use during a change of several writes: whatever it used before, or uses after.

    There are two exceptions. A node that no hint led before, and that is led to an endpoint which becomes ready in
    the same change, may use others that become ready; one that loses its endpoint and gets no other may use others
    that are lost.
    """
    first, last = used(before, node), used(after, node)
    was, is_ = _leads(before, node), _leads(after, node)
    return (
        first
        | last
        | (ready(after) if is_ and not was and last - ready(before) else set())
        | (ready(before) if was and not is_ and first - ready(after) else set())
    )


def _leads(slices: Slices, node: str) -> bool:
    """Whether hints lead the clients of this node."""
    found = [decode_hints(each.hints) for each in _ready(slices)]
    by_node = all(each.nodes for each in found) and any(node in each.nodes for each in found)
    return by_node or (all(each.zones for each in found) and any(node in each.zones for each in found))


def _ready(slices: Slices) -> Iterable[Endpoint]:
    return (each for slice_ in slices for each in slice_ if each.conditions.ready is not False)


def _hinted(endpoint: Endpoint) -> HintedEndpoint:
    return HintedEndpoint(endpoint.conditions.ready is not False, decode_hints(endpoint.hints))
