"""Who of this node may be moored, and where: its pods, their Moorings, and those of the node itself."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from msgspec.structs import replace

from moorage.api import contract
from moorage.api.core_v1 import Pod, PodSpec, PodStatus
from moorage.api.meta import ObjectKey
from moorage.api.mooring_names import mooring_name
from moorage.api.moorings_v1alpha1 import Mooring
from moorage.api.slim import identity
from moorage.cluster.client import Client
from moorage.cluster.reflector import Reflector
from moorage.cluster.store import BY_NAMESPACE, Change, Index
from moorage.core.clients import Owners
from moorage.core.mooring_model import ClientKey
from moorage.node.controllers import Controllers
from moorage.node.followed import FollowedMoorings, Source
from moorage.node.moorings import GroupClient, addresses_of

BY_ADDRESS: Index[Pod, str] = Index(addresses_of)


class Clientele:
    """Read from the API only as far as some Service moors its clients, as `want` says.

    - Pods of this node that have not finished: as soon as a Service moors pods.
    - Moorings of each namespace that has such a Service, and pods on this node.
    - Moorings of the node and of its zone, in all namespaces: as soon as a Service moors nodes or zones.
    - A Mooring by its name, for each pod that comes; a ReplicaSet or Job once, where workloads are moored.

    `touched(namespace)` is called when something changes that tells where the pods of a namespace are led, and
    `moved(group)` when a Mooring of the node or zone has changed.
    """

    def __init__(
        self, client: Client, node: str, touched: Callable[[str], None], moved: Callable[[ObjectKey], None]
    ) -> None:
        self._node, self._touched, self._moved = node, touched, moved
        self._pods = Reflector(
            client,
            Pod,
            # kube-apiserver keeps an index by spec.nodeName. Those that have finished may be thousands.
            field_selector=f"spec.nodeName={node},status.phase!=Succeeded,status.phase!=Failed",
            on_change=self._pod_changed,
            transform=needed,
            indexes=[BY_NAMESPACE, BY_ADDRESS],
        )
        self._moorings = FollowedMoorings(client, self._mooring_changed)
        self._controllers = Controllers(client, touched)
        self._namespaces: frozenset[str] = frozenset()
        """Those with Services that moor pods."""
        self._clients_of_node: tuple[ClientKey, ...] = ()
        """The clients that this node is, as far as some Service moors nodes or zones."""
        self._clients: dict[str, Collection[GroupClient]] = {}
        """Namespace -> the clients that its pods on this node are."""
        self._arrived: dict[str, set[GroupClient]] = {}
        """Uids of pods that came after the Moorings of their namespace had been read -> the clients that they are,
        whose Moorings have been asked for."""
        self._pods_wanted = asyncio.Event()
        self.ended: set[str] = set()
        """Addresses that pods have had and that none has now. Whoever has dealt with one takes it out."""

    @property
    def reflectors(self) -> Iterable[Reflector[Any]]:
        """Those that are followed."""
        return (*([self._pods] if self._pods_wanted.is_set() else ()), *self._moorings.reflectors)

    def want(self, namespaces: Collection[str], zone: str | None) -> None:
        """There are Services that moor pods in these namespaces. `zone`: the node's, or empty, if there are Services
        that moor nodes or zones, else None."""
        self._namespaces = frozenset(namespaces)
        if namespaces:
            self._pods_wanted.set()
        self._clients_of_node = ()
        if zone is not None:
            zones = (ClientKey("Zone", zone),) if zone else ()
            self._clients_of_node = (ClientKey("Node", self._node), *zones)
        self._follow()

    def _follow(self) -> None:
        sources = [Source(each) for each in self._namespaces if self._pods.store.by(BY_NAMESPACE, each)]
        if self._clients_of_node:
            sources.append(Source(None, contract.moorings_of(*self._clients_of_node)))
        self._moorings.follow(sources)

    async def run(self) -> None:
        """Follow the API until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._moorings.run())
            tasks.create_task(self._controllers.run())
            await self._pods_wanted.wait()
            tasks.create_task(self._pods.run())

    async def until_answered(self) -> None:
        """Wait until all that is wanted has been read, or may not be read."""
        if self._pods_wanted.is_set():
            await self._pods.answered.wait()
        await self._moorings.until_answered()

    # --- What there is -------------------------------------------------------------------------------------------

    def pods(self, namespace: str) -> list[Pod]:
        return self._pods.store.by(BY_NAMESPACE, namespace)

    def sharing(self, address: str) -> list[Pod]:
        """Those that have this address."""
        return self._pods.store.by(BY_ADDRESS, address)

    def moorings(self, namespace: str, client: GroupClient) -> list[Mooring]:
        return self._moorings.of(namespace, client)

    def owners(self, pods: Iterable[Pod]) -> Owners:
        """What makes these pods, as far as that is known."""
        return self._controllers.owners(pods)

    # --- What changes --------------------------------------------------------------------------------------------

    def met(self, namespace: str, clients: Mapping[GroupClient, Collection[str]]) -> None:
        """The pods of this node in `namespace` are these clients, each with the uids of its pods."""
        self._clients.pop(namespace, None)
        if clients:
            self._clients[namespace] = frozenset(clients)
        for client, uids in clients.items():
            for uid in uids:
                asked = self._arrived.get(uid)
                if asked is not None and client not in asked:
                    asked.add(client)
                    name = mooring_name(client.group, client.client.kind, client.client.name)
                    self._moorings.ask(ObjectKey(namespace, name))

    def _pod_changed(self, change: Change[Pod]) -> None:
        _, old, new = change
        if old is None or new is None:
            self._follow()
        if old is not None and new is None:
            self._arrived.pop(old.metadata.uid or "", None)
        if new is not None and old is None and self._moorings.knows(Source(new.metadata.namespace)):
            self._arrived[new.metadata.uid or ""] = set()
        if _facts(old) == _facts(new):
            return
        touched = {each.metadata.namespace or "" for each in (old, new) if each}
        for address in BY_ADDRESS.touched(change):
            sharing = self.sharing(address)
            touched |= {each.metadata.namespace or "" for each in sharing}
            if sharing:
                self.ended.discard(address)
            else:
                self.ended.add(address)
        for namespace in touched & self._namespaces:
            self._touched(namespace)

    def _mooring_changed(self, namespace: str, client: GroupClient) -> None:
        if client.client in self._clients_of_node:
            self._moved(ObjectKey(namespace, client.group))
        if client in self._clients.get(namespace, ()):
            self._touched(namespace)


def needed(pod: Pod) -> Pod:
    """`pod` without what nothing here reads."""
    meta, spec, status = pod.metadata, pod.spec, pod.status
    return Pod(
        metadata=replace(
            identity(meta),
            creation_timestamp=meta.creation_timestamp,
            deletion_timestamp=meta.deletion_timestamp,
            labels=meta.labels,
            owner_references=meta.owner_references,
        ),
        spec=PodSpec(node_name=spec.node_name, host_network=spec.host_network),
        status=PodStatus(phase=status.phase, pod_ip=status.pod_ip, pod_ips=status.pod_ips),
    )


def _facts(pod: Pod | None) -> object:
    """What a decision reads of a pod."""
    if pod is None:
        return None
    return replace(pod.metadata, resource_version=None), pod.spec, pod.status.finished, addresses_of(pod)
