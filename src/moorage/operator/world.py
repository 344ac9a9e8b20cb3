"""Everything that the leader reads from its own cluster, and which ExternalServices a change there touches."""

import asyncio
import random
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from ipaddress import IPv6Address, ip_address
from typing import Any
from urllib.parse import urlsplit

from moorage.api import contract
from moorage.api.addresses import as_kubernetes_reads, embedded
from moorage.api.core_v1 import Node, Pod, Service
from moorage.api.discovery_v1 import EndpointSlice
from moorage.api.meta import Object, ObjectKey
from moorage.api.moorage_v1alpha1 import ExternalService, MooringConfig
from moorage.api.moorings_v1alpha1 import Mooring
from moorage.api.networking_v1 import ServiceCIDR
from moorage.cluster.backoff import backoff
from moorage.cluster.client import Client
from moorage.cluster.errors import ApiError
from moorage.cluster.reading import Unreadable
from moorage.cluster.reflector import Reflector
from moorage.cluster.store import Change, Index
from moorage.core.admission import (
    API_SERVER,
    NODE,
    POD,
    Addresses,
    Gate,
    gate_of,
    node_addresses,
    pod_addresses,
    pod_ranges,
    service_addresses,
    slice_addresses,
)
from moorage.core.services import group_of
from moorage.errors import MoorageError
from moorage.log import get_logger
from moorage.operator.clientele import Clientele
from moorage.operator.config import Admission
from moorage.operator.mirror import Mirror
from moorage.operator.slim import KUBERNETES, OWNER, slim_node, slim_pod, slim_slice

log = get_logger("moorage.operator.world")

ASK_NAME_SECONDS = 60.0
"""How often the API server's name is looked up, if the operator connects to a name."""


def _owners_of(slice_: EndpointSlice) -> set[ObjectKey]:
    """The index keys of a slice: the Service that its label names, and the ExternalService that owns it."""
    meta = slice_.metadata
    service = contract.service_of(meta)
    owners = {service} if service else set()
    for each in meta.owner_references or ():
        if each.kind == OWNER and each.controller:
            owners.add(ObjectKey(meta.namespace or "", each.name))
    return owners


BY_OWNER = Index(_owners_of)


def _group_of(xsvc: ExternalService) -> tuple[ObjectKey, ...]:
    moored = xsvc.spec.session_affinity == "Mooring" and xsvc.metadata.deletion_timestamp is None
    return (group_of(xsvc),) if moored else ()


BY_GROUP = Index(_group_of)


class World:
    """Copies of the API server's objects. `run` keeps them current until cancelled.

    `touched(key)` is called when something changes that matters to decisions about this ExternalService,
    `gate_changed()` when the gate changes as a whole, `addresses_changed(addresses)` when it changes for these
    addresses only. `group_touched(group)` is called when something changes that matters to decisions about the
    moorings of this group.
    """

    def __init__(
        self,
        client: Client,
        admission: Admission,
        *,
        touched: Callable[[ObjectKey], None],
        gate_changed: Callable[[], None],
        addresses_changed: Callable[[frozenset[str]], None],
        group_touched: Callable[[ObjectKey], None] = lambda group: None,
    ) -> None:
        self._client = client
        self._admission = admission
        self._touched = touched
        self._gate_changed = gate_changed
        self._addresses_changed = addresses_changed
        self._xsvcs = Reflector(
            client, ExternalService, on_change=self._xsvc_changed, on_unreadable=self._touched, indexes=[BY_GROUP]
        )
        self._services = Reflector(client, Service, on_change=self._service_changed, on_unreadable=self._touch_known)
        self._slices = Reflector(
            client, EndpointSlice, on_change=self._slice_changed, transform=slim_slice, indexes=[BY_OWNER]
        )
        self._nodes = Reflector(client, Node, on_change=self._node_changed, transform=slim_node)
        self._cidrs = Reflector(client, ServiceCIDR, on_change=lambda change: self._gate_due())
        self._pods = Reflector(client, Pod, on_change=self._pod_changed, transform=slim_pod)
        self.xsvcs = Mirror(self._xsvcs.store, lambda change: self._touched(change.key))
        self.services = Mirror(self._services.store, lambda change: self._touched(change.key))
        self.slices = Mirror(self._slices.store, self._touch_owners)
        self.clients = Clientele(client, self._pods.store, self._nodes.store, group_touched)
        self._pod_ranges: dict[ObjectKey, tuple[str, ...]] = {}
        """Of Nodes."""
        self._own = Addresses()
        self.gate = self._gate()
        self._gate_is_due = False
        self._cidrs_known, self._server_known = asyncio.Event(), asyncio.Event()

    def names(self) -> list[ObjectKey]:
        """The keys of all ExternalServices."""
        return list(self._xsvcs.store)

    def unreadable(self, kind: type[ExternalService] | type[Service], key: ObjectKey) -> Unreadable | None:
        """Why this object cannot be read; None if it can, or if it does not exist."""
        reflector: Reflector[Any] = self._xsvcs if kind is ExternalService else self._services
        return reflector.unreadable.get(key)

    def unreadable_counts(self) -> dict[str, int]:
        """How many objects of each kind cannot be read."""
        return {each.kind: len(each.unreadable) for each in self._reflectors()}

    def members(self, group: ObjectKey) -> list[ExternalService]:
        """The ExternalServices that are moored by this group, by name."""
        return self.xsvcs.by(BY_GROUP, group)

    def has_unknown(self, namespace: str) -> bool:
        """Whether an ExternalService there could never be read, so that nobody knows its group."""
        return any(key.namespace == namespace and key not in self._xsvcs.store for key in self._xsvcs.unreadable)

    def whose(self, address: str) -> str | None:
        """Which object of this cluster has the address. For the log only: tenants must not see others' objects."""
        try:
            parsed = ip_address(address)
        except ValueError:
            return None
        inner = [str(each) for _, each in embedded(parsed)] if isinstance(parsed, IPv6Address) else []
        holders = (self._own.holder(each) for each in (str(parsed), *inner))
        what, key = next(filter(None, holders), ("", ObjectKey("", "")))
        return f"{what}: {key}" if what else None

    def slices_of(self, key: ObjectKey) -> list[EndpointSlice]:
        """The slices of the Service of the same name, and those that this ExternalService owns, by name."""
        return self.slices.by(BY_OWNER, key)

    def wrote(self, obj: Object, made: bool) -> None:
        """Take the answer to a write. `made`: it created the object."""
        match obj:
            case ExternalService():
                self.xsvcs.wrote(obj, made)
            case Service():
                self.services.wrote(obj, made)
            case EndpointSlice():
                self.slices.wrote(obj, made)
            case Mooring():
                self.clients.wrote(obj, made)

    def gone(self, kind: type[Object], key: ObjectKey) -> None:
        """Forget the object: the API server has said that it does not exist."""
        if issubclass(kind, ExternalService):
            self.xsvcs.gone(key)
        elif issubclass(kind, Service):
            self.services.gone(key)
        elif issubclass(kind, EndpointSlice):
            self.slices.gone(key)
        elif issubclass(kind, Mooring):
            self.clients.gone(key)

    async def run(self) -> None:
        """Follow the API server until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for reflector in (self._xsvcs, self._services, self._slices, self._nodes, self._pods):
                tasks.create_task(reflector.run())
            tasks.create_task(self._follow_cidrs())
            tasks.create_task(self._follow_server())
            tasks.create_task(self.clients.run())

    async def until_synced(self) -> None:
        """Wait until everything has been read once and `gate` has been made from it."""
        for reflector in (self._xsvcs, self._services, self._slices, self._nodes, self._pods):
            await reflector.synced.wait()
        await self.clients.until_answered()
        await self._cidrs_known.wait()
        await self._server_known.wait()
        # If everything had been read already, nothing else has run meanwhile, and the gate may still be due.
        self._make_gate()

    def _reflectors(self) -> Iterable[Reflector[Any]]:
        mine: tuple[Reflector[Any], ...] = (
            *(self._xsvcs, self._services, self._slices),
            *(self._nodes, self._cidrs, self._pods),
        )
        return (*mine, *self.clients.reflectors)

    async def _follow_cidrs(self) -> None:
        """Follow ServiceCIDRs, which Kubernetes has since 1.33 (KEP-1880)."""
        failures = 0
        while True:
            try:
                await self._client.list(ServiceCIDR)
                break
            except ApiError as error:
                if error.status == 404:
                    log.warning(
                        "this API server has no ServiceCIDRs: name the range of ClusterIPs in admission.refuse",
                        error=str(error),
                    )
                    self._cidrs_known.set()
                    return
                failure: MoorageError = error
            except MoorageError as error:
                failure = error
            failures += 1
            wait = backoff(failures, random.random())
            if failures == 1:
                log.warning("cannot list ServiceCIDRs", error=str(failure), retry_seconds=round(wait, 1))
            await asyncio.sleep(wait)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._cidrs.run())
            await self._cidrs.synced.wait()
            self._cidrs_known.set()

    async def _follow_server(self) -> None:
        """Follow the addresses that the operator itself connects to. If a look-up fails, the last answer stays."""
        host = urlsplit(self._client.config.server).hostname or ""
        loop = asyncio.get_running_loop()
        literal = as_kubernetes_reads(host)
        while not literal:
            with suppress(OSError, UnicodeError):
                found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
                self._took(self._own.put(API_SERVER, ObjectKey("", host), (str(each[4][0]) for each in found)))
            self._server_known.set()
            await asyncio.sleep(ASK_NAME_SECONDS)
        self._took(self._own.put(API_SERVER, ObjectKey("", host), [literal]))
        self._server_known.set()

    # --- What the watches show -----------------------------------------------------------------------------------

    def _xsvc_changed(self, change: Change[ExternalService]) -> None:
        self.xsvcs.watched(change)
        if change.new is not None and BY_GROUP.keys(change.new):
            details = change.new.spec.session_affinity_config
            self.clients.expect((details.mooring if details else None) or MooringConfig())
        self._touched(change.key)

    def _service_changed(self, change: Change[Service]) -> None:
        self.services.watched(change)
        self._touch_known(change.key)
        for what, addresses in service_addresses(change.new).items():
            self._took(self._own.put(what, change.key, addresses))

    def _slice_changed(self, change: Change[EndpointSlice]) -> None:
        self._touch_owners(self.slices.watched(change))
        key, _, slice_ = change
        if key.namespace == KUBERNETES.namespace:
            of_servers = slice_ is not None and KUBERNETES in BY_OWNER.keys(slice_)
            self._took(self._own.put(API_SERVER, key, slice_addresses(slice_ if of_servers else None)))

    def _touch_owners(self, change: Change[EndpointSlice]) -> None:
        for owner in BY_OWNER.touched(change):
            self._touch_known(owner)

    def _touch_known(self, key: ObjectKey) -> None:
        """Touch the ExternalService of this key, if there is one: most Services and slices have none."""
        if self.xsvcs.get(key) is not None:
            self._touched(key)

    def _node_changed(self, change: Change[Node]) -> None:
        key, _, node = change
        self._took(self._own.put(NODE, key, node_addresses(node)))
        self.clients.node_changed(change)
        # A Node changes every few seconds, but its ranges hardly ever do.
        ranges = pod_ranges(node)
        if ranges != self._pod_ranges.pop(key, ()):
            self._gate_due()
        if ranges:
            self._pod_ranges[key] = ranges

    def _pod_changed(self, change: Change[Pod]) -> None:
        self._took(self._own.put(POD, change.key, pod_addresses(change.new)))
        self.clients.pod_changed(change)

    def _took(self, changed: frozenset[str]) -> None:
        if changed:
            self._addresses_changed(changed)

    def _gate_due(self) -> None:
        # Once for all Nodes of a list: making a gate takes all Nodes, and one for each Node of a large cluster would
        # hold up the event loop for longer than the Lease lasts. Tasks that wait for the list wake up after this
        # call; it touches the ExternalServices that were decided on before.
        if not self._gate_is_due:
            self._gate_is_due = True
            asyncio.get_running_loop().call_soon(self._make_gate)

    def _make_gate(self) -> None:
        if not self._gate_is_due:
            return
        self._gate_is_due = False
        gate = self._gate()
        if gate.refused != self.gate.refused:
            self.gate = gate
            self._gate_changed()

    def _gate(self) -> Gate:
        return gate_of(
            allow=self._admission.allow,
            refuse=self._admission.refuse,
            nodes=self._nodes.store.values(),
            service_cidrs=self._cidrs.store.values(),
            own=self._own,
        )
