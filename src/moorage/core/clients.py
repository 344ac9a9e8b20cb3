"""Who the clients of a group are, by what `mooring.client` says."""

from bisect import insort
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from moorage.api.core_v1 import LocalObjectReference, Node, Pod
from moorage.api.meta import ObjectMeta, OwnerReference, selects
from moorage.api.moorage_v1alpha1 import KINDS_OF_PODS, MooringConfig
from moorage.api.topology import zone_of
from moorage.core.mooring_model import Client, ClientKey, Clients

MADE_BETWEEN = {"ReplicaSet": "apps/v1", "Job": "batch/v1"}
"""Kinds that others make to have pods made: the workload may be whoever controls one."""


class StatefulSetFacts(NamedTuple):
    """Which pods a StatefulSet has: `db-0`, `db-1`, ..."""

    replicas: int
    first: int = 0
    """The ordinal of the first one (KEP-3335, `spec.ordinals.start`)."""


class Owners(NamedTuple):
    """What makes the pods of one namespace."""

    controllers: Mapping[tuple[str, str], OwnerReference | None] = MappingProxyType({})
    """Kind and name of each ReplicaSet and Job -> what controls it."""
    stateful_sets: Mapping[str, StatefulSetFacts] = MappingProxyType({})
    """By name."""


def clients_of(
    config: MooringConfig, namespace: str, pods: Iterable[Pod], nodes: Iterable[Node], owners: Owners
) -> Clients:
    """The clients in `namespace`; `pods` are all of that namespace, `nodes` all of the cluster.

    A client exists as soon as its pod or node exists, before it has an address. Terminating and finished pods are no
    clients. Host-network pods have their node's address, so they belong to the node's client, once they have a node.
    A pod without the label of client Label, or without a workload, is a client by itself. A pod is no client while
    its workload is not known: a mooring that is made now would be for another client.

    Expected are the pods of each StatefulSet by its replicas, and each workload that `owners` shows, also without
    pods: a Deployment scaled to 0, a CronJob between two runs. Clients whose pods exist and are not selected are not
    expected.
    """
    index = ClientIndex(config, namespace)
    named = {each.metadata.name: each for each in nodes}
    for name, node in named.items():
        index.put_node(name, node)
    for pod in pods:
        index.put_pod(pod.metadata.name, pod, named, owners)
    return Clients(index.present, index.expected(owners))


def controller_of(meta: ObjectMeta) -> OwnerReference | None:
    """What manages an object, and has made it, as a rule; None: nothing does."""
    for each in meta.owner_references or ():
        if each.controller:
            return each
    return None


def workload_of(pod: ObjectMeta, owners: Owners) -> OwnerReference | None:
    """The Deployment, StatefulSet, CronJob or the like that a pod is a replica of; None: it is on its own.

    Raises LookupError while that cannot be known: its ReplicaSet or Job has not been seen yet.
    """
    made_by = controller_of(pod)
    if made_by is None or (made_by.api_version, made_by.kind) == ("v1", "Node"):
        return None  # a node is the controller of the mirror of a static pod (kubelet's pkg/kubelet/pod)
    if made_by.api_version != MADE_BETWEEN.get(made_by.kind):
        return made_by
    return owners.controllers[made_by.kind, made_by.name] or made_by


def _node(name: str, node: Node | None) -> Client:
    meta = node.metadata if node else ObjectMeta(name=name)
    return Client(
        ClientKey("Node", name),
        zone=zone_of(meta),
        subject=_reference("v1", "Node", name, meta.uid),
    )


def _reference(
    api_version: str, kind: str, name: str, uid: str | None, namespace: str | None = None
) -> LocalObjectReference:
    return LocalObjectReference(api_version=api_version, kind=kind, name=name, uid=uid, namespace=namespace)


# --- Of pods ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ExpectedPods(Container[ClientKey]):
    """Those that StatefulSets have, or will make again. Not a set: whoever writes one may ask for billions."""

    stateful_sets: Mapping[str, StatefulSetFacts]
    but: frozenset[ClientKey]

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, ClientKey) or key.kind != "Pod" or key in self.but:
            return False
        name, _, ordinal = key.name.rpartition("-")
        facts = self.stateful_sets.get(name)
        if facts is None or not ordinal.isdecimal() or ordinal != str(int(ordinal)):
            return False
        return facts.first <= int(ordinal) < facts.first + facts.replicas


def needed_for(pod: Pod) -> Iterable[tuple[str, str]]:
    """Kind and name of the object that has to be known to know which client a pod belongs to; none, as a rule."""
    made_by = controller_of(pod.metadata)
    if pod.spec.host_network:
        return [("Node", pod.spec.node_name)] if pod.spec.node_name else []
    return [(made_by.kind, made_by.name)] if made_by and made_by.kind in MADE_BETWEEN else []


def standing_of(config: MooringConfig, pod: Pod, nodes: Mapping[str, Node], owners: Owners) -> "Standing":
    """Who is a client because of a pod. `nodes` are by name."""
    client = client_of(config, pod, nodes, owners)
    itself = ClientKey("Pod", pod.metadata.name)
    others = () if client is not None and client.key.kind == "Pod" else (itself,)
    if client is None:
        return Standing(None, others)
    if config.pod_selector is None or not selects(config.pod_selector, pod.metadata.labels):
        return Standing(None, (*others, client.key))
    ended = pod.metadata.deletion_timestamp or pod.status.finished
    return Standing(None if ended else client, others)


def client_of(config: MooringConfig, pod: Pod, nodes: Mapping[str, Node], owners: Owners) -> Client | None:
    """The client that a pod belongs to, if it is selected; None while that is not known. `nodes` are by name."""
    meta, node = pod.metadata, pod.spec.node_name
    if pod.spec.host_network:
        return _node(node, nodes.get(node)) if node else None
    if config.client == "Workload":
        try:
            workload = workload_of(meta, owners)
        except LookupError:
            return None
        if workload:
            return Client(
                ClientKey("Workload", f"{workload.kind}/{workload.name}"),
                subject=_reference(workload.api_version, workload.kind, workload.name, workload.uid, meta.namespace),
            )
    value = (meta.labels or {}).get(config.label or "") if config.client == "Label" else None
    if value:
        return Client(ClientKey("Label", value))
    made_by = controller_of(meta)
    return Client(
        ClientKey("Pod", meta.name),
        owner=f"{made_by.kind}/{made_by.name}" if made_by else "",
        subject=_reference("v1", "Pod", meta.name, meta.uid, meta.namespace),
    )


# --- All clients --------------------------------------------------------------------------------------------------


class Standing(NamedTuple):
    """What one pod or node has to do with clients."""

    client: Client | None = None
    """Who is present because of it."""
    others: tuple[ClientKey, ...] = ()
    """Who is not expected because of it."""


_NOTHING = Standing()


class ClientIndex:
    """The clients in one namespace, kept as single pods and nodes change."""

    def __init__(self, config: MooringConfig, namespace: str) -> None:
        self.present: dict[ClientKey, Client] = {}
        """Who is present."""
        self._config = config
        self._of_pods = config.client in KINDS_OF_PODS and config.pod_selector is not None
        """Without a selector it is a spec that an older schema let in."""
        self._others = Counter[ClientKey]()
        self._standings: dict[str, Standing] = {}
        """By name of the pod or node; those that have to do with nobody are left out."""
        self._names: dict[ClientKey, list[str]] = {}
        """The pods or nodes because of which a client is present, in order; usually one."""
        if config.client == "Namespace":
            key = ClientKey("Namespace", namespace)
            self.present[key] = Client(key)

    def put_pod(self, name: str, pod: Pod | None, nodes: Mapping[str, Node], owners: Owners) -> Sequence[ClientKey]:
        """A pod is there as it is now; None: it is not. Returns the clients of which this has changed something."""
        if not self._of_pods:
            return ()
        return self._put(name, standing_of(self._config, pod, nodes, owners) if pod is not None else _NOTHING)

    def put_node(self, name: str, node: Node | None) -> Sequence[ClientKey]:
        """The same of a node."""
        standing = _NOTHING
        if self._config.client == "Node" and node is not None:
            standing = Standing(_node(name, node))
        elif self._config.client == "Zone" and node is not None and (zone := zone_of(node.metadata)):
            standing = Standing(Client(ClientKey("Zone", zone), zone=zone))
        return () if self._of_pods else self._put(name, standing)

    def expected(self, owners: Owners) -> Container[ClientKey]:
        """Whoever has a mooring to come back to."""
        if not self._of_pods:
            return frozenset()
        others = frozenset(self._others)
        if self._config.client != "Workload":
            return ExpectedPods(owners.stateful_sets, others)
        workloads = [("StatefulSet", name) for name in owners.stateful_sets]
        workloads += [(by.kind, by.name) if by else made for made, by in owners.controllers.items()]
        return {ClientKey("Workload", f"{kind}/{name}") for kind, name in workloads} - others

    def _put(self, name: str, new: Standing) -> Sequence[ClientKey]:
        old = self._standings.get(name, _NOTHING)
        if old == new:
            return ()
        for other in old.others:
            self._others[other] -= 1
            if not self._others[other]:
                del self._others[other]
        for other in new.others:
            self._others[other] += 1
        if new == _NOTHING:
            del self._standings[name]
        else:
            self._standings[name] = new
        changed = []
        for standing in (old, new):
            if standing.client is not None and standing.client.key not in changed:
                changed.append(standing.client.key)
        if old.client is not None:
            names = self._names[old.client.key]
            names.remove(name)
            if not names:
                del self._names[old.client.key]
        if new.client is not None:
            insort(self._names.setdefault(new.client.key, []), name)
        for key in changed:
            self._tell(key)
        return changed

    def _tell(self, key: ClientKey) -> None:
        """Of several replicas the first one tells about their client."""
        names = self._names.get(key)
        client = self._standings[names[0]].client if names else None
        if client is None:
            self.present.pop(key, None)
        else:
            self.present[key] = client
