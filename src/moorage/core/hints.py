"""How moorings are carried where no node has an agent: by which endpoints are published as ready, and by hints."""

from collections.abc import Collection, Mapping, Sequence

from moorage.api.discovery_v1 import EndpointSlice
from moorage.api.moorage_v1alpha1 import KINDS_OF_NODES, ExternalService
from moorage.api.topology import MAX_HINTS, NO_HINTS, NOBODY, Hints, decode_hints
from moorage.core.mooring_model import ClientKey, Moored, hash_of
from moorage.core.readiness import EndpointRow
from moorage.core.services import group_of, mooring_of, proxy_of


def carried_kind(xsvc: ExternalService, moored: Moored | None) -> str | None:
    """The kind of client whose moorings are carried by slices: `Node`, `Zone` or `Namespace`; None: they are not.

    `Namespace` is carried by readiness, which every proxy obeys. The others are carried by hints, and only for
    kube-proxy: an endpoint can have too few hints for a proxy that does not need them.
    """
    config = mooring_of(xsvc)
    if config is None:
        return None
    kind = moored.kind if moored else config.client
    return kind if kind == "Namespace" or (kind in KINDS_OF_NODES and proxy_of(xsvc) is None) else None


def published(
    xsvc: ExternalService, rows: Sequence[EndpointRow], moored: Moored | None, slices: Sequence[EndpointSlice]
) -> tuple[EndpointRow, ...]:
    """The `rows` of readiness as they are to be published: with `ready`, `hints` and `moorings` set.

    `moored` is None until the group has been decided about. Until then the status tells which endpoints that take no
    new clients have some, and hints stay as they are in our `slices`.
    """
    counts = {name: len(clients) for name, clients in moored.at.items()} if moored else None
    if counts is not None:
        rows = [each._replace(moorings=counts.get(each.endpoint.name, 0)) for each in rows]
    kind = carried_kind(xsvc, moored)
    if kind is None:
        return _near(xsvc, rows)
    before = {each.name for each in xsvc.status.endpoints or () if each.ready}
    held = before if counts is None else counts.keys()
    if kind == "Namespace":
        return _one(xsvc, rows, held, before)
    at = moored.at if moored else None
    present = _present(slices) if at is None else {}
    return tuple(
        each._replace(
            ready=each.takes or (each.keeps and each.endpoint.name in held), hints=_hints(kind, each, at, present)
        )
        for each in rows
    )


def lacks_hint(xsvc: ExternalService, kind: str | None, slice_: EndpointSlice) -> bool:
    """Whether `slice_` makes kube-proxy ignore all hints of this kind."""
    names = {port.name or "" for port in xsvc.spec.ports}
    if kind not in KINDS_OF_NODES or names.isdisjoint(port.name or "" for port in slice_.ports or ()):
        return False
    for endpoint in slice_.endpoints or ():
        hints = decode_hints(endpoint.hints)
        if endpoint.conditions.ready is not False and not (hints.nodes if kind == "Node" else hints.zones):
            return True
    return False


def _hints(
    kind: str, row: EndpointRow, at: Mapping[str, Sequence[str]] | None, present: Mapping[str, Hints]
) -> Hints:
    """An endpoint without clients names nobody: without any hint it would switch off those of all others."""
    name = row.endpoint.name
    if at is None:
        found = present.get(name, NO_HINTS)
        names = found.nodes if kind == "Node" else found.zones
    else:
        names = frozenset(at.get(name, ())[:MAX_HINTS])
    names = names or NOBODY
    return Hints(nodes=names) if kind == "Node" else Hints(zones=names)


def _present(slices: Sequence[EndpointSlice]) -> dict[str, Hints]:
    return {
        endpoint.hostname: decode_hints(endpoint.hints)
        for slice_ in slices
        for endpoint in slice_.endpoints or ()
        if endpoint.hostname
    }


def _one(
    xsvc: ExternalService, rows: Sequence[EndpointRow], held: Collection[str], before: Collection[str]
) -> tuple[EndpointRow, ...]:
    """Only the endpoint that the Namespace is moored to is published as ready.

    If that endpoint does not serve, or there is none yet, it is one that takes clients: the one that was published
    before, or else the one that the Namespace is about to be moored to. A quota or a webhook that keeps a Mooring
    from being written must not take the service down; and the Namespace must not see two endpoints at a time.
    """
    found = [each for each in rows if each.keeps and each.endpoint.name in held]
    able = [each for each in rows if each.takes]
    chosen = found or [each for each in able if each.endpoint.name in before]
    if not chosen and able:
        namespace = ClientKey("Namespace", xsvc.metadata.namespace or "")
        chosen = [able[hash_of(group_of(xsvc).name, namespace) % len(able)]]
    name = chosen[0].endpoint.name if chosen else None
    return tuple(
        each._replace(ready=True)
        if each.endpoint.name == name
        else each._replace(ready=False, withheld="NotMoored" if each.takes else each.withheld)
        for each in rows
    )


def _near(xsvc: ExternalService, rows: Sequence[EndpointRow]) -> tuple[EndpointRow, ...]:
    """Kubernetes' own hints of `trafficDistribution` (KEP-4444): each endpoint is for its own zone. kube-proxy obeys
    them only if every ready endpoint has one."""
    complete = all(each.endpoint.zone for each in rows if each.ready)
    if xsvc.spec.traffic_distribution != "PreferSameZone" or not complete:
        return tuple(rows)
    return tuple(
        each._replace(hints=Hints(zones=frozenset([each.endpoint.zone]))) if each.endpoint.zone else each
        for each in rows
    )
