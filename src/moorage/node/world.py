"""What a node agent knows of the API."""

import asyncio
from collections.abc import Iterator
from typing import TypeVar

from moorage.api import contract, topology
from moorage.api.core_v1 import Node, Service
from moorage.api.discovery_v1 import SERVICE_NAME_LABEL, EndpointSlice
from moorage.api.meta import Object, ObjectKey
from moorage.cluster.client import Client
from moorage.cluster.dirty import Dirty
from moorage.cluster.reflector import Reflector
from moorage.cluster.store import Change, Index
from moorage.dataplane import endpoints, services
from moorage.dataplane.services import Scope

T = TypeVar("T", bound=Object)


def _service_of(slice_: EndpointSlice) -> tuple[ObjectKey, ...]:
    service = contract.service_of(slice_.metadata)
    return (service,) if service else ()


BY_SERVICE = Index(_service_of)


class World:
    """Copies of what concerns this node. `run` keeps them current; `dirty` has the Services to look at again."""

    def __init__(self, client: Client, scope: Scope) -> None:
        self.scope = scope
        """With the zone that the Node has now."""
        self.dirty: Dirty[ObjectKey] = Dirty()
        self.services = Reflector(
            client,
            Service,
            label_selector=contract.CARRIED_SELECTOR if scope.labelled_only else None,
            on_change=lambda change: self.dirty.add(change.key),
            transform=services.needed,
            fault=lambda service: services.fault(service, scope),
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

    async def run(self) -> None:
        """Follow the API until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for each in (self.services, self.slices, self._node):
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

    def _slice_changed(self, change: Change[EndpointSlice]) -> None:
        for service in BY_SERVICE.touched(change):
            self.dirty.add(service)

    def _node_changed(self, change: Change[Node]) -> None:
        zone = topology.zone_of(change.new.metadata) if change.new else ""
        if zone != self.scope.zone:
            self.scope = self.scope._replace(zone=zone)
            for key in self.services.store:
                self.dirty.add(key)


def _located(node: Node) -> Node:
    """The Node without all that changes every few seconds."""
    return Node(metadata=node.metadata)


def _left_out(reflector: Reflector[T]) -> Iterator[str]:
    for key, each in reflector.unreadable.items():
        stays = "its last good state stays in use" if key in reflector.store else "nothing of it is carried"
        yield f"{reflector.kind} {key}: {each.why}; {stays}"
