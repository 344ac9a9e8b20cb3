"""Where the pods of this node are led, given their Moorings. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from types import MappingProxyType
from typing import NamedTuple

from moorage.api.addresses import as_kubernetes_reads
from moorage.api.contract import MooredBy
from moorage.api.core_v1 import Pod
from moorage.api.meta import ObjectKey, selects
from moorage.api.moorage_v1alpha1 import MooringConfig
from moorage.api.moorings_v1alpha1 import Mooring
from moorage.core.clients import Owners, client_of
from moorage.core.mooring_model import ClientKey
from moorage.core.moorings import rank
from moorage.dataplane.model import ClientTarget, MooringKey, ServiceAddress, Target
from moorage.dataplane.services import At

MAX_PAIRS_OF_NAMESPACE = 10_000
"""How many pairs of a pod and a port of a Service are looked at: all of a namespace are, whenever something of it
changes. It is 100 pods that use 100 ports."""
MAX_WARNINGS_OF_NAMESPACE = 10

_MOVED_AWAY = ("Moved", "Drained", "Returned")
"""Reasons for which a client leaves an endpoint that may well serve: its connections there end."""


class PodMoorings(NamedTuple):
    """A Service whose clients are pods."""

    service: ObjectKey
    by: MooredBy
    serving: Mapping[ServiceAddress, Mapping[str, Target]]
    """The endpoints that a client can be at: for each port that is carried for this Service, by name."""


class GroupClient(NamedTuple):
    """A client of a group of the namespace."""

    group: str
    client: ClientKey


class Led(NamedTuple):
    """Where the pods of a namespace are led."""

    targets: tuple[ClientTarget, ...] = ()
    clients: Mapping[GroupClient, set[str]] = MappingProxyType({})
    """The clients that there are on this node, with the uids of their pods."""
    warnings: tuple[str, ...] = ()


def current(moorings: Iterable[Mooring]) -> Mooring | None:
    """The one that is in effect, of those of one client; None if there is none."""
    return min(moorings, key=rank, default=None)


def endpoints_of(mooring: Mooring) -> tuple[str, ...]:
    """Where the client may be, the best first: where a person wants it, else where the operator has recorded it.

    So an edit of `spec.endpoint` is followed while there is no operator, too. One that the operator has refused, with
    the reason in `status.message`, is not.
    """
    wanted, recorded = mooring.spec.endpoint, mooring.status.endpoint
    if recorded is None or recorded == wanted:
        return (wanted,)
    return (recorded,) if mooring.status.message else (wanted, recorded)


def at(moorings: Iterable[Mooring]) -> tuple[At, ...]:
    """Where the clients of a node may be, the best first, given the Moorings of the node or its zone in a group."""
    mooring = current(moorings)
    if mooring is None:
        return ()
    recorded, status = mooring.status.endpoint, mooring.status
    moved_from = status.previous if status.reason in _MOVED_AWAY else None
    return tuple(
        At(each, (recorded if recorded and recorded != each else moved_from) or "") for each in endpoints_of(mooring)
    )


def addresses_of(pod: Pod) -> tuple[str, ...]:
    """The addresses of a pod, in canonical form; none that cannot be."""
    status = pod.status
    written = [each.ip for each in status.pod_ips or ()] or [status.pod_ip or ""]
    return tuple(dict.fromkeys(filter(None, map(as_kubernetes_reads, written))))


def led(
    namespace: str,
    services: Iterable[PodMoorings],
    pods: Iterable[Pod],
    sharing: Callable[[str], Sequence[Pod]],
    moorings: Callable[[GroupClient], Iterable[Mooring]],
    owners: Owners,
) -> Led:
    """Where `pods`, those of this node in `namespace`, are led on the ports of `services`, those of the namespace.

    `sharing(address)` are all pods of this node with an address, `moorings(client)` all Moorings of a client of the
    namespace; `owners` has what makes the pods. A pod is led to the endpoint that its client is moored to, as long as
    this serves the Service. Pods that have finished are not led: their address may be another's by now. Pods in their
    host's network are, for the address that they share, the client that is the node.
    """
    warnings: dict[str, None] = {}
    holders = [
        (pod, _held(pod, sharing, warnings))
        for pod in sorted(pods, key=lambda each: each.metadata.name)
        if not pod.status.finished
    ]
    targets: dict[MooringKey, ClientTarget] = {}
    clients: dict[GroupClient, set[str]] = {}
    endpoints: dict[GroupClient, tuple[str, ...]] = {}
    room = MAX_PAIRS_OF_NAMESPACE
    for service, (pod, addresses) in product(sorted(services, key=lambda each: each.service), holders):
        room -= max(1, len(service.serving))
        if room < 0:
            most = f"{MAX_PAIRS_OF_NAMESPACE:,} pairs of a pod and a port of a Service"
            warnings[
                f"Namespace {namespace}: it has more than {most} with moorings on this node; from Service "
                f"{service.service} on pods are not led to where they are moored; use several namespaces"
            ] = None
            break
        client = _client(service.by, pod, owners)
        if client is None:
            continue
        if client not in clients:
            mooring = current(moorings(client))
            endpoints[client] = endpoints_of(mooring) if mooring else ()
        clients.setdefault(client, set()).add(pod.metadata.uid or "")
        for address, (key, serving), endpoint in product(addresses, service.serving.items(), endpoints[client]):
            if (":" in address) == (key.family == 6) and (target := serving.get(endpoint)):
                mine = MooringKey(address, key)
                targets.setdefault(mine, ClientTarget(mine, target))
    return Led(tuple(targets.values()), clients, _first(namespace, warnings))


def _client(by: MooredBy, pod: Pod, owners: Owners) -> GroupClient | None:
    """Whose mooring a pod has; None if it is no client, or if that is not known yet."""
    if by.pods is None or not selects(by.pods, pod.metadata.labels):
        return None
    client = client_of(MooringConfig(client=by.client, label=by.label), pod, {}, owners)
    return GroupClient(by.group, client.key) if client else None


def _held(pod: Pod, sharing: Callable[[str], Sequence[Pod]], warnings: dict[str, None]) -> list[str]:
    """The addresses that are this pod's. An address of several pods is that of the newest that lives."""
    held = []
    for address in addresses_of(pod):
        newest = max((pod, *(each for each in sharing(address) if not each.status.finished)), key=_newness)
        if newest.metadata.key == pod.metadata.key or (newest.spec.host_network and pod.spec.host_network):
            held.append(address)
        else:
            why = "is in its host's network" if newest.spec.host_network else "is newer"
            warnings[
                f"Pod {pod.metadata.key} is not led to where it is moored: Pod {newest.metadata.key}, which {why}, "
                f"has its address {address}, too"
            ] = None
    return held


def _newness(pod: Pod) -> tuple[bool, bool, str, ObjectKey]:
    """A pod that is ending gives its address up first. That of a node is never a pod's."""
    meta = pod.metadata
    return bool(pod.spec.host_network), meta.deletion_timestamp is None, meta.creation_timestamp or "", meta.key


def _first(namespace: str, warnings: Iterable[str]) -> tuple[str, ...]:
    lines = tuple(warnings)
    if len(lines) <= MAX_WARNINGS_OF_NAMESPACE:
        return lines
    return (
        *lines[:MAX_WARNINGS_OF_NAMESPACE],
        f"Namespace {namespace}: there are more warnings, which are not listed",
    )
