"""What a node agent knows of the API."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import NamedTuple, TypeVar

from moorage.api import contract, topology
from moorage.api.core_v1 import Node, NodeSpec, Service
from moorage.api.discovery_v1 import SERVICE_NAME_LABEL, EndpointSlice
from moorage.api.meta import Object, ObjectKey
from moorage.cluster.client import Client
from moorage.cluster.dirty import Dirty
from moorage.cluster.reflector import Reflector
from moorage.cluster.store import Change, Index
from moorage.dataplane import endpoints, services
from moorage.dataplane.model import PodPrefixKey
from moorage.dataplane.services import Scope
from moorage.node.clientele import Clientele

T = TypeVar("T", bound=Object)
Network = IPv4Network | IPv6Network


def _service_of(slice_: EndpointSlice) -> tuple[ObjectKey, ...]:
    service = contract.service_of(slice_.metadata)
    return (service,) if service else ()


def _group_of(service: Service) -> tuple[ObjectKey, ...]:
    moored = contract.decode_service(service.metadata).contract.moored
    return (ObjectKey(service.metadata.namespace or "", moored.group),) if moored else ()


BY_SERVICE = Index(_service_of)
BY_GROUP = Index(_group_of)


class PodsOf(NamedTuple):
    """The pods of this node in a namespace, as something to look at."""

    namespace: str


Subject = ObjectKey | PodsOf
"""Something to look at again: a Service, by its key, or pods."""


class World:
    """Copies of what concerns this node. `run` keeps them current; `dirty` has what to look at again."""

    def __init__(self, client: Client, scope: Scope) -> None:
        self.scope = scope
        """With the zone that the Node has now."""
        self.prefixes: tuple[PodPrefixKey, ...] = ()
        """The ranges of addresses of this node's pods, as far as the Node says."""
        self.dirty: Dirty[Subject] = Dirty()
        self.services = Reflector(
            client,
            Service,
            label_selector=contract.CARRIED_SELECTOR if scope.labelled_only else None,
            on_change=lambda change: self.dirty.add(change.key),
            transform=services.needed,
            fault=lambda service: services.fault(service, scope),
            indexes=[BY_GROUP],
        )
        self.slices = Reflector(
            client,
            EndpointSlice,
            label_selector=SERVICE_NAME_LABEL,
            on_change=self._slice_changed,
            transform=endpoints.needed,
            fault=endpoints.fault,
            indexes=[BY_SERVICE],
        )
        self._node = Reflector(
            client,
            Node,
            field_selector=f"metadata.name={scope.node}",
            on_change=self._node_changed,
            transform=_located,
        )
        self.clientele = Clientele(client, scope.node, lambda each: self.dirty.add(PodsOf(each)), self._moved)

    async def run(self) -> None:
        """Follow the API until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for each in (self.services, self.slices, self._node, self.clientele):
                tasks.create_task(each.run())

    async def until_known(self) -> None:
        """Wait until there is enough to decide from."""
        # Whoever may not read its Node has no zone: that is no reason to carry nothing.
        await self._node.answered.wait()
        await self.services.synced.wait()
        await self.slices.synced.wait()

    def slices_of(self, service: ObjectKey) -> list[EndpointSlice]:
        """By name."""
        return self.slices.store.by(BY_SERVICE, service)

    def left_out(self) -> Iterator[str]:
        """A line for each object whose present state is not used."""
        yield from _left_out(self.services)
        yield from _left_out(self.slices)
        for each in self.clientele.reflectors:
            yield from _left_out(each)

    def _slice_changed(self, change: Change[EndpointSlice]) -> None:
        for service in BY_SERVICE.touched(change):
            self.dirty.add(service)

    def _moved(self, group: ObjectKey) -> None:
        for service in self.services.store.by(BY_GROUP, group):
            self.dirty.add(service.metadata.key)

    def _node_changed(self, change: Change[Node]) -> None:
        zone = topology.zone_of(change.new.metadata) if change.new else ""
        prefixes = _prefixes(change.new.spec) if change.new else ()
        if (zone, prefixes) != (self.scope.zone, self.prefixes):
            self.scope, self.prefixes = self.scope._replace(zone=zone), prefixes
            for key in self.services.store:
                self.dirty.add(key)


def _located(node: Node) -> Node:
    """The Node without all that changes every few seconds."""
    return Node(metadata=node.metadata, spec=node.spec)


def _prefixes(spec: NodeSpec) -> tuple[PodPrefixKey, ...]:
    """Those that can be read, and no two that overlap."""
    found: list[Network] = []
    for written in spec.pod_cidrs or filter(None, [spec.pod_cidr]):
        with suppress(ValueError):
            prefix = ip_network(written, strict=False)
            if not any(map(prefix.overlaps, found)):
                found.append(prefix)
    return tuple(PodPrefixKey(str(each)) for each in found)


def _left_out(reflector: Reflector[T]) -> Iterator[str]:
    for key, each in reflector.unreadable.items():
        stays = "its last good state stays in use" if key in reflector.store else "nothing of it is carried"
        yield f"{reflector.kind} {key}: {each.why}; {stays}"
