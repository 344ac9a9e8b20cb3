"""The kinds that Moorage knows, and how REST paths name them."""

from typing import NamedTuple

from moorage.api.apps_v1 import Deployment, ReplicaSet, StatefulSet
from moorage.api.batch_v1 import Job
from moorage.api.coordination_v1 import Lease
from moorage.api.core_v1 import Endpoints, Event, Namespace, Node, Pod, Secret, Service
from moorage.api.discovery_v1 import EndpointSlice
from moorage.api.meta import Object
from moorage.api.moorage_v1alpha1 import GROUP, VERSION, ExternalService
from moorage.api.moorings_v1alpha1 import Mooring
from moorage.api.networking_v1 import ServiceCIDR


class Kind(NamedTuple):
    """A kind, with the names that REST paths use (Kubernetes API conventions, "Types (Kinds)")."""

    group: str
    """`""` for the core group."""
    version: str
    kind: str
    plural: str
    type: type[Object]
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """The plural with its group, as in messages and in names of definitions: `services`, `deployments.apps`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The REST path. Without a namespace: that of the objects in all namespaces."""
        parts = ["/apis" if self.group else "/api", self.api_version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part]
        return "/".join(parts)


KINDS: tuple[Kind, ...] = (
    Kind("", "v1", "Namespace", "namespaces", Namespace, namespaced=False, short_names=("ns",)),
    Kind("", "v1", "Node", "nodes", Node, namespaced=False, short_names=("no",), subresources=("status",)),
    Kind("", "v1", "Service", "services", Service, short_names=("svc",), subresources=("status",)),
    Kind("", "v1", "Endpoints", "endpoints", Endpoints, short_names=("ep",)),
    Kind("", "v1", "Pod", "pods", Pod, short_names=("po",), subresources=("status",)),
    Kind("", "v1", "Secret", "secrets", Secret),
    Kind("", "v1", "Event", "events", Event, short_names=("ev",)),
    Kind("apps", "v1", "Deployment", "deployments", Deployment, True, ("deploy",), ("status", "scale")),
    Kind("apps", "v1", "ReplicaSet", "replicasets", ReplicaSet, True, ("rs",), ("status", "scale")),
    Kind("apps", "v1", "StatefulSet", "statefulsets", StatefulSet, True, ("sts",), ("status", "scale")),
    Kind("batch", "v1", "Job", "jobs", Job, True, (), ("status",)),
    Kind("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", EndpointSlice),
    Kind("coordination.k8s.io", "v1", "Lease", "leases", Lease),
    Kind("networking.k8s.io", "v1", "ServiceCIDR", "servicecidrs", ServiceCIDR, False, (), ("status",)),
    Kind(GROUP, VERSION, "ExternalService", "externalservices", ExternalService, True, ("xsvc",), ("status",)),
    Kind(GROUP, VERSION, "Mooring", "moorings", Mooring, True, ("moor",)),
)

_BY_TYPE = {kind.type: kind for kind in KINDS}
_BY_NAME = {(kind.api_version, kind.kind): kind for kind in KINDS}


def kind_of(type_: type[Object]) -> Kind:
    """The kind whose objects are of `type_`; KeyError for a type that is not in `KINDS`."""
    return _BY_TYPE[type_]


def find_kind(api_version: str, kind: str) -> Kind | None:
    """The kind that `apiVersion` and `kind` of a manifest name; None if Moorage does not know it."""
    return _BY_NAME.get((api_version, kind))


def named(resource: str) -> Kind | None:
    """The kind that a person means by `svc`, `service`, `services` or `services.v1.`; case does not matter."""
    word = resource.lower().split(".", 1)[0]
    for kind in KINDS:
        if word in (kind.plural, kind.kind.lower(), *kind.short_names):
            return kind
    return None
