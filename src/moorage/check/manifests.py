"""The objects of a trial of the service proxy. Pure."""

import json
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import msgspec

from moorage.api.contract import PROXY, PROXY_LABEL
from moorage.api.core_v1 import Service, ServicePort, ServiceSpec
from moorage.api.discovery_v1 import (
    MANAGED_BY_LABEL,
    SERVICE_NAME_LABEL,
    Endpoint,
    EndpointConditions,
    EndpointPort,
    EndpointSlice,
)
from moorage.api.meta import Object, ObjectMeta
from moorage.api.moorage_v1alpha1 import GROUP
from moorage.api.topology import encode_hints
from moorage.check.plan import AGENTS, Plan
from moorage.cluster.paths import with_type

LABEL = f"{GROUP}/check"
"""On all objects of a trial; its value is the trial's name."""
PORT = 8080
ASK_SECONDS = 20.0
"""How long clients wait for the service proxy to follow."""
MAX_ASK_SECONDS = 2 * ASK_SECONDS
"""With the last row of connections to each Service, of which none may be answered."""
MAX_POD_SECONDS = 300
"""The pods of a trial that nobody ends, end after this time."""
_MANAGER = f"check.{GROUP}"
_PROGRAM = Path(__file__).with_name("program.py").read_text()
_MESSAGE = "/dev/termination-log"
"""What a container writes there is in the status of its pod: no more has to be read, and of nobody else."""

Manifest: TypeAlias = dict[str, Any]


class Place(NamedTuple):
    """What all objects of a trial have in common."""

    name: str
    """Of the trial; names of objects begin with it."""
    namespace: str
    image: str
    """One that has python3."""

    def meta(self, name: str, **labels: str) -> ObjectMeta:
        full = f"{self.name}-{name}"
        return ObjectMeta(name=full, namespace=self.namespace, labels={LABEL: self.name, **labels})


def namespace(place: Place) -> Manifest:
    """Held to the restricted Pod Security Standard, as the trial's pods keep it."""
    labels = {LABEL: place.name, "pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": place.namespace, "labels": labels}}


def service(place: Place, way: str) -> Manifest:
    """Without a selector, as the Services of ExternalServices are."""
    spec = ServiceSpec(ports=[ServicePort(port=PORT)])
    return _manifest(Service(metadata=place.meta(way, **_carrier(way)), spec=spec))


def endpoint_slice(place: Place, plan: Plan, way: str, addresses: Mapping[str, str]) -> Manifest:
    """The endpoints of one of the Services. `addresses`: each server -> its address."""
    labels = {SERVICE_NAME_LABEL: place.meta(way).name, MANAGED_BY_LABEL: _MANAGER, **_carrier(way)}
    version = ip_address(next(iter(addresses.values()))).version
    endpoints = [
        Endpoint(
            addresses=[address],
            conditions=EndpointConditions(ready=True),
            hints=encode_hints(plan.ways[way].hints[server]),
        )
        for server, address in addresses.items()
    ]
    ports = [EndpointPort(port=PORT, protocol="TCP")]
    meta = place.meta(way, **labels)
    return _manifest(EndpointSlice(metadata=meta, address_type=f"IPv{version}", endpoints=endpoints, ports=ports))


def server(place: Place, plan: Plan, name: str) -> Manifest:
    """The pod that answers with this name."""
    probe = {"tcpSocket": {"port": PORT}, "periodSeconds": 1}
    ports = [{"containerPort": PORT}]
    return _pod(place, f"server-{name}", plan.at[name], ["serve", name, str(PORT)], readinessProbe=probe, ports=ports)


def client(place: Place, plan: Plan, node: str, services: Mapping[str, str]) -> Manifest:
    """The pod of a node that asks. `services`: each Service -> its cluster IP."""
    led = {name: way.lead[node] for name, way in plan.ways.items() if node in way.lead}
    ways = {name: (services[name], PORT, server) for name, server in led.items()}
    arguments = ["ask", _MESSAGE, str(ASK_SECONDS), json.dumps(ways)]
    return _pod(place, f"client-{plan.nodes.index(node)}", node, arguments)


def _carrier(way: str) -> dict[str, str]:
    return {PROXY_LABEL: PROXY} if way == AGENTS else {}


def _manifest(obj: Object) -> Manifest:
    found: Manifest = msgspec.to_builtins(with_type(obj))
    return found


def _pod(place: Place, name: str, node: str, arguments: list[str], **container: Any) -> Manifest:
    """A small pod for one node, which the scheduler lets there as it would any other: it tolerates no taint."""
    meta = place.meta(name)
    on_node = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [on_node]}}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": meta.name, "namespace": meta.namespace, "labels": meta.labels},
        "spec": {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": MAX_POD_SECONDS,
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "affinity": affinity,
            # Which user is left to the image, or to the cluster, as with the operator's pod.
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "check",
                    "image": place.image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["python3", "-ISc", _PROGRAM, *arguments],
                    "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "64Mi"}},
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    **container,
                }
            ],
        },
    }
