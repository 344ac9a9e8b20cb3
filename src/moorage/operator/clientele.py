"""What moorings are decided from, and which groups a change of it touches."""

import asyncio
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from moorage.api.core_v1 import Node, Pod
from moorage.api.meta import Object, ObjectKey, selects
from moorage.api.moorage_v1alpha1 import KINDS_OF_NODES, KINDS_OF_PODS, MooringConfig
from moorage.api.moorings_v1alpha1 import Mooring
from moorage.api.topology import zone_of
from moorage.cluster.client import Client
from moorage.cluster.reading import Unreadable
from moorage.cluster.reflector import Reflector
from moorage.cluster.store import Change, Index, Store
from moorage.core.clients import ClientIndex, Owners, needed_for
from moorage.core.mooring_model import ClientKey
from moorage.core.roster import Roster
from moorage.operator.mirror import Mirror
from moorage.operator.pod_makers import PodMakers

BY_NEEDED: Index[Pod, tuple[str, str]] = Index(needed_for)
"""Kind and name of what has to be known to know which client a pod belongs to."""
PODS_OF_A_TURN = 200
"""So many are looked at in one turn of the event loop: that takes some milliseconds."""


class Clientele:
    """Moorings, and those who may be clients. `run` keeps them current until cancelled.

    Pods and Nodes are read anyway: `pod_changed` and `node_changed` are called after `pods` and `nodes` have changed.
    What makes pods is followed from when `expect` asks for it. `touched(group)` is called when something changes
    that decisions about this group read; which groups there are, and who is a client of theirs, `want` says.
    """

    def __init__(
        self, client: Client, pods: Store[Pod], nodes: Store[Node], touched: Callable[[ObjectKey], None]
    ) -> None:
        self._pods, self._nodes, self._touched = pods, nodes, touched
        self._moorings = Reflector(client, Mooring, on_change=self._mooring_changed)
        self._mirror = Mirror(self._moorings.store, self._seen)
        self._makers = PodMakers(client, self._maker_changed)
        self._makers_wanted = asyncio.Event()
        self._rosters: dict[ObjectKey, Roster] = {}
        """Of groups that have Moorings, or clients."""
        self._indexes: dict[ObjectKey, ClientIndex] = {}
        """Of groups that have clients."""
        self._unseen: dict[ObjectKey, list[ObjectKey]] = {}
        """Of groups, pods that are not in their indexes yet."""
        self._configs: dict[ObjectKey, MooringConfig] = {}
        self._of_pods: dict[str, set[ObjectKey]] = {}
        """Namespace -> groups whose clients are pods; namespaces without one are left out."""
        self._of_nodes: set[ObjectKey] = set()
        self._pods_of: dict[str, Store[Pod]] = {}
        """The same namespaces -> all pods there."""
        self._node_named: dict[str, Node] = {}
        self._early: dict[ObjectKey, dict[str | None, set[ObjectKey]]] = {}
        """Moorings that are being written -> versions that the watch has shown meanwhile -> groups they touch."""

    @property
    def reflectors(self) -> Iterable[Reflector[Any]]:
        """Those that are followed."""
        return (self._moorings, *(self._makers.reflectors if self._makers_wanted.is_set() else ()))

    def expect(self, config: MooringConfig) -> None:
        """Clients will be of this `config`.

        From the first time that it takes more than pods and nodes, ReplicaSets, Jobs and StatefulSets are followed: a
        large cluster has very many, mostly for nobody.
        """
        if config.client in KINDS_OF_PODS:
            self._makers_wanted.set()

    async def run(self) -> None:
        """Follow the API server until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow(self._moorings))
            await self._makers_wanted.wait()
            for reflector in self._makers.reflectors:
                tasks.create_task(self._follow(reflector))

    async def until_answered(self) -> None:
        """Wait until all that is followed has been read once, or the API server has said that it may not be read."""
        await self._moorings.answered.wait()
        if self._makers_wanted.is_set():
            for reflector in self._makers.reflectors:
                await reflector.answered.wait()

    def knows(self, config: MooringConfig | None) -> bool:
        """Whether all that is needed for a group with this `config` has been read; None: for one without members."""
        needed = (self._moorings, *(self._makers.reflectors if config and config.client in KINDS_OF_PODS else ()))
        return all(each.synced.is_set() for each in needed)

    # --- Which groups there are ----------------------------------------------------------------------------------

    def want(self, group: ObjectKey, config: MooringConfig | None) -> None:
        """Touch `group` for what is a client by this `config`; None: there is no such group any more."""
        if self._configs.get(group) == config:
            return
        namespace = group.namespace
        if config is None:
            del self._configs[group]
        else:
            self._configs[group] = config
            self.expect(config)
        self._of_nodes.discard(group)
        if config is not None and config.client in KINDS_OF_NODES:
            self._of_nodes.add(group)
        wanting = self._of_pods.setdefault(namespace, set())
        wanting.discard(group)
        if config is not None and config.client in KINDS_OF_PODS:
            wanting.add(group)
        if not wanting:
            del self._of_pods[namespace]
            self._pods_of.pop(namespace, None)
        elif namespace not in self._pods_of:
            kept = self._pods_of[namespace] = Store[Pod]([BY_NEEDED])
            for key, pod in self._pods.items():
                if key.namespace == namespace:
                    kept.put(pod)
        self._index(group, config)

    def _index(self, group: ObjectKey, config: MooringConfig | None) -> None:
        """Find out who the clients of a group are, from all that there is."""
        roster = self._rosters.setdefault(group, Roster())
        for key in list(roster.present):
            roster.set_client(key, None)
        self._unseen.pop(group, None)
        if config is None:
            self._indexes.pop(group, None)
            self._drop_empty(group)
            return
        index = self._indexes[group] = ClientIndex(config, group.namespace)
        for name, node in self._node_named.items() if group in self._of_nodes else ():
            index.put_node(name, node)
        if config.client in KINDS_OF_PODS:
            self._unseen[group] = list(self._pods_of[group.namespace])
        self._changed(group, index.present)

    async def until_indexed(self, group: ObjectKey) -> None:
        """Find out who the clients of a group are, as far as that has not been done since `want`."""
        while pods := self._unseen.get(group):
            for key in pods[-PODS_OF_A_TURN:]:
                self._look_at(key, [group])
            del pods[-PODS_OF_A_TURN:]
            await asyncio.sleep(0)

    @property
    def count(self) -> int:
        """Of Moorings."""
        return len(self._moorings.store)

    # --- What there is -------------------------------------------------------------------------------------------

    def roster(self, group: ObjectKey) -> Roster:
        """The clients and Moorings of a group, with our own writes, as they are now."""
        return self._rosters[group].copy() if group in self._rosters else Roster()

    def expected(self, group: ObjectKey) -> Container[ClientKey]:
        """Whoever is not present and has a mooring to come back to."""
        index = self._indexes.get(group)
        return index.expected(self.owners(group.namespace)) if index else frozenset()

    def owners(self, namespace: str) -> Owners:
        """What makes the pods of a namespace."""
        return self._makers.of(namespace)

    def moorings(self, group: ObjectKey) -> list[Mooring]:
        """All of a group, with our own writes."""
        roster = self._rosters.get(group)
        return list(roster.moorings.values()) if roster else []

    def mooring(self, key: ObjectKey) -> Mooring | None:
        return self._mirror.get(key)

    def unreadable(self, key: ObjectKey) -> Unreadable | None:
        """Why this Mooring cannot be read; None if it can, or if there is none."""
        return self._moorings.unreadable.get(key)

    @contextmanager
    def writing(self, key: ObjectKey) -> Iterator[None]:
        """While we write a Mooring, the watch may show that before the answer comes: that touches nothing."""
        early = self._early[key] = {}
        try:
            yield
        finally:
            self._early.pop(key, None)
            for group in {each for groups in early.values() for each in groups}:
                self._touched(group)

    def wrote(self, obj: Mooring, made: bool) -> None:
        """Take the answer to a write. `made`: it created the object."""
        key = obj.metadata.key
        self._early.get(key, {}).pop(obj.metadata.resource_version, None)
        before = self._mirror.get(key)
        self._mirror.wrote(obj, made)
        self._hold(key, before)

    def gone(self, key: ObjectKey) -> None:
        """There is no such Mooring, as the API server said; the watch may show it for a moment yet."""
        before = self._mirror.get(key)
        self._mirror.gone(key)
        self._drop(before)

    # --- What the watches show -----------------------------------------------------------------------------------

    async def _follow(self, reflector: Reflector[Any]) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(reflector.run())
            await reflector.synced.wait()
            for group in list(self._configs):
                self._touched(group)

    def _mooring_changed(self, change: Change[Mooring]) -> None:
        self._seen(self._mirror.watched(change))

    def _seen(self, change: Change[Mooring]) -> None:
        key, old, _ = change
        if old is not None and self._mirror.get(key) is None and not self._holds(old):
            return  # our own deletion
        new = self._hold(key, old)
        if _version(old) == _version(new):
            return
        groups = {group_of_mooring(each) for each in (old, new) if each is not None}
        if key in self._early:
            self._early[key][_version(new)] = groups
            return
        for group in groups:
            self._touched(group)

    def _hold(self, key: ObjectKey, before: Mooring | None = None) -> Mooring | None:
        """Have this Mooring among those of its group, as it is now."""
        new = self._mirror.get(key)
        if before is not None and (new is None or group_of_mooring(before) != group_of_mooring(new)):
            self._drop(before)
        if new is not None:
            self._rosters.setdefault(group_of_mooring(new), Roster()).put(new)
        return new

    def _drop(self, mooring: Mooring | None) -> None:
        """Have it no more among those of its group."""
        if mooring is None:
            return
        group = group_of_mooring(mooring)
        roster = self._rosters.get(group)
        if roster is not None:
            roster.discard(mooring.metadata.name)
            self._drop_empty(group)

    def _holds(self, mooring: Mooring) -> bool:
        """Whether it is among those of its group."""
        roster = self._rosters.get(group_of_mooring(mooring))
        return roster is not None and mooring.metadata.name in roster.moorings

    def _drop_empty(self, group: ObjectKey) -> None:
        if group not in self._configs and not self._rosters[group].moorings:
            del self._rosters[group]

    def pod_changed(self, change: Change[Pod]) -> None:
        key, old, new = change
        kept = self._pods_of.get(key.namespace)
        if kept is None:
            return
        if new is None:
            kept.discard(key)
        else:
            kept.put(new)
        if _facts(old) == _facts(new):
            return
        self._look_at(key, self._of_pods[key.namespace])
        seen = [each for each in (old, new) if each is not None]
        for group in self._of_pods[key.namespace]:
            selector = self._configs[group].pod_selector
            if selector and any(selects(selector, each.metadata.labels) or _in_set(each) for each in seen):
                self._touched(group)

    def _look_at(self, key: ObjectKey, groups: Iterable[ObjectKey]) -> None:
        """Find out whose client a pod is."""
        pod = self._pods_of[key.namespace].get(key)
        owners = self.owners(key.namespace)
        for group in groups:
            self._changed(group, self._indexes[group].put_pod(key.name, pod, self._node_named, owners))

    def _changed(self, group: ObjectKey, clients: Iterable[ClientKey]) -> None:
        present, roster = self._indexes[group].present, self._rosters[group]
        for key in clients:
            roster.set_client(key, present.get(key))

    def _look_again(self, namespace: str, kind: str, name: str) -> None:
        """Find out whose clients the pods are of which that depends on this object."""
        for pod in self._pods_of[namespace].by(BY_NEEDED, (kind, name)):
            self._look_at(pod.metadata.key, self._of_pods[namespace])

    def node_changed(self, change: Change[Node]) -> None:
        (_, name), old, new = change
        if new is None:
            self._node_named.pop(name, None)
        else:
            self._node_named[name] = new
        if _facts_of_node(old) == _facts_of_node(new):
            return
        for group in self._of_nodes:
            self._changed(group, self._indexes[group].put_node(name, new))
        for namespace in self._of_pods:
            self._look_again(namespace, "Node", name)
        before, after = (zone_of(each.metadata) if each else None for each in (old, new))
        if before != after:
            for group in self._of_nodes:
                self._touched(group)

    def _maker_changed(self, namespace: str, kind: str, name: str) -> None:
        if namespace in self._of_pods:
            self._look_again(namespace, kind, name)
            for group in self._of_pods[namespace]:
                self._touched(group)


def group_of_mooring(mooring: Mooring) -> ObjectKey:
    """The group that a Mooring is of."""
    return ObjectKey(mooring.metadata.namespace or "", mooring.spec.group)


def _facts_of_node(node: Node | None) -> object:
    """What a decision reads of a node."""
    return (node.metadata.uid, zone_of(node.metadata)) if node is not None else None


def _version(obj: Object | None) -> str | None:
    return obj.metadata.resource_version if obj is not None else None


def _facts(pod: Pod | None) -> object:
    """What a decision reads of a pod."""
    if pod is None:
        return None
    meta, spec = pod.metadata, pod.spec
    return (
        meta.uid,
        meta.labels,
        meta.owner_references,
        meta.deletion_timestamp is None and not pod.status.finished,
        spec.host_network and (spec.node_name or ""),
    )


def _in_set(pod: Pod) -> bool:
    """Whether it is a StatefulSet's: that it is there matters also when it is no client."""
    return any(each.kind == "StatefulSet" for each in pod.metadata.owner_references or ())
