"""Who the clients of a group are, by what `mooring.client` says."""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from moorage.api.core_v1 import LocalObjectReference, Node, Pod
from moorage.api.meta import LabelSelector, ObjectMeta, OwnerReference, selects
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
    match config.client:
        case "Namespace":
            return _present([Client(ClientKey("Namespace", namespace))])
        case "Zone":
            zones = {zone_of(node.metadata) for node in nodes} - {""}
            return _present(Client(ClientKey("Zone", zone), zone=zone) for zone in sorted(zones))
        case "Node":
            return _present(_node(node.metadata.name, node) for node in nodes)
        case kind if kind in KINDS_OF_PODS and config.pod_selector is not None:
            return _of_pods(config, config.pod_selector, pods, {each.metadata.name: each for each in nodes}, owners)
        case _:
            return Clients()  # of a spec that an older schema let in


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


def _present(clients: Iterable[Client]) -> Clients:
    return Clients({client.key: client for client in clients})


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


def _of_pods(
    config: MooringConfig, selector: LabelSelector, pods: Iterable[Pod], nodes: Mapping[str, Node], owners: Owners
) -> Clients:
    present: dict[ClientKey, Client] = {}
    others: set[ClientKey] = set()
    for pod in sorted(pods, key=lambda each: each.metadata.name):  # of several replicas, the first one tells
        client = client_of(config, pod, nodes, owners)
        selected = selects(selector, pod.metadata.labels)
        if client is None or client.key.kind != "Pod":
            others.add(ClientKey("Pod", pod.metadata.name))
        if client is not None and not selected:
            others.add(client.key)
        elif client is not None and not pod.metadata.deletion_timestamp and not pod.status.finished:
            present.setdefault(client.key, client)
    return Clients(present, _expected(config, owners, frozenset(others)))


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


def _expected(config: MooringConfig, owners: Owners, but: frozenset[ClientKey]) -> Container[ClientKey]:
    if config.client != "Workload":
        return ExpectedPods(owners.stateful_sets, but)
    workloads = [("StatefulSet", name) for name in owners.stateful_sets]
    workloads += [(by.kind, by.name) if by else made for made, by in owners.controllers.items()]
    return {ClientKey("Workload", f"{kind}/{name}") for kind, name in workloads} - but
