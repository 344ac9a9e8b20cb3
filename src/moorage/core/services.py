"""The Service of an ExternalService: made once, then changed as little as possible, so that its address stays."""

from collections.abc import Sequence
from typing import Any

import msgspec

from moorage.api import contract
from moorage.api.core_v1 import ClientIPConfig, Service, ServicePort, ServiceSpec, SessionAffinityConfig
from moorage.api.meta import ObjectKey, ObjectMeta
from moorage.api.moorage_v1alpha1 import KINDS_OF_PODS, ExternalService, MooringConfig
from moorage.core.model import Complaint, Create, Patch, Write
from moorage.core.ownership import owns, predecessor_owns, reference

DEFAULT_TIMEOUT_SECONDS = 10800
"""Kubernetes' own default of sessionAffinityConfig.clientIP.timeoutSeconds."""

_OF_OTHER_TYPES = (
    "external_name",
    "external_traffic_policy",
    "allocate_load_balancer_node_ports",
    "load_balancer_class",
    "load_balancer_ip",
    "load_balancer_source_ranges",
    "health_check_node_port",
)
"""Fields that a Service of type ClusterIP cannot have."""


def taken(xsvc: ExternalService, service: Service | None) -> Complaint | None:
    """Why `service` must not be touched; None if it is ours or does not exist."""
    if service is None or owns(xsvc, service.metadata):
        return None
    name = f"{xsvc.metadata.namespace}/{xsvc.metadata.name}"
    if predecessor_owns(xsvc, service.metadata):
        return Complaint(
            "NameTaken",
            f"Service {name} belongs to an earlier ExternalService of this name, which was deleted; Kubernetes' "
            "garbage collector will delete it, and then a new one is made",
        )
    return Complaint(
        "NameTaken",
        f"Service {name} exists and was not made for this ExternalService, so it is left alone; delete it "
        f"(kubectl delete service -n {xsvc.metadata.namespace} {xsvc.metadata.name}) or rename the ExternalService",
    )


def unsupported(xsvc: ExternalService) -> Complaint | None:
    """Why no Service can be made from this spec, which the schema should have refused."""
    if not xsvc.spec.ports:
        return Complaint("NoPorts", "spec.ports: a Service needs a port; name at least one")
    mooring = mooring_of(xsvc)
    if mooring is None or mooring.client not in KINDS_OF_PODS:
        return None
    if xsvc.spec.proxy != "moorage":
        return Complaint(
            "MooringNeedsProxy",
            "spec.sessionAffinity: kube-proxy knows nodes and zones only, so it cannot moor pods; set spec.proxy to "
            "moorage, which needs the node agent, or spec.sessionAffinityConfig.mooring.client to Node, Zone or "
            "Namespace, or spec.sessionAffinity to ClientIP",
        )
    return _incomplete(mooring)


def _incomplete(mooring: MooringConfig) -> Complaint | None:
    """What is missing to tell who the clients are."""
    if mooring.pod_selector is None:
        what = f"podSelector: client {mooring.client} needs it: it says which pods are clients; set it"
    elif mooring.client == "Label" and not mooring.label:
        what = "label: client Label needs it; set it to the key of the pods' label"
    else:
        return None
    return Complaint("MooringIncomplete", f"spec.sessionAffinityConfig.mooring.{what}")


def mooring_of(xsvc: ExternalService) -> MooringConfig | None:
    """How its clients are moored, with what is left out filled in; None: they are not."""
    if xsvc.spec.session_affinity != "Mooring":
        return None
    config = xsvc.spec.session_affinity_config
    return (config.mooring if config else None) or MooringConfig()


def unchangeable(xsvc: ExternalService, service: Service | None) -> Complaint | None:
    """What the spec asks for that the API server never changes in an existing Service."""
    want, have = xsvc.spec.ip_families or [], (service.spec.ip_families if service else None) or []
    if not want or not have or want[0] == have[0]:
        return None
    return Complaint(
        "Unchangeable",
        f"spec.ipFamilies: Service {xsvc.metadata.namespace}/{xsvc.metadata.name} has {have[0]} as its first family, "
        f"which Kubernetes never changes; for {want[0]} delete it: it is made again, with another cluster IP",
    )


def changes(xsvc: ExternalService, service: Service | None) -> tuple[Write, ...]:
    """The write that brings `service` (ours, or None) to what the spec says; None if nothing is to be changed.

    Fields that the spec does not mention, and other labels and annotations, stay as others have set them.
    """
    if service is None:
        return (Create(_new(xsvc)),)
    meta = service.metadata
    if meta.deletion_timestamp is not None:
        return ()
    body: dict[str, Any] = {}
    if spec := _spec_patch(xsvc, service.spec):
        body["spec"] = spec
    metadata = _marks(xsvc).patch(meta)
    if not body and not metadata:
        return ()
    body["metadata"] = metadata | {"uid": meta.uid, "resourceVersion": meta.resource_version}
    return (Patch(Service, meta.namespace or "", meta.name, body),)


def _new(xsvc: ExternalService) -> Service:
    spec = xsvc.spec
    affinity, timeout = _affinity(xsvc)
    return Service(
        api_version="v1",
        kind="Service",
        metadata=_marks(xsvc).on(
            ObjectMeta(name=xsvc.metadata.name, namespace=xsvc.metadata.namespace, owner_references=[reference(xsvc)])
        ),
        spec=ServiceSpec(
            ports=_ports(xsvc),
            session_affinity=affinity,
            session_affinity_config=SessionAffinityConfig(client_ip=ClientIPConfig(timeout_seconds=timeout))
            if timeout
            else None,
            ip_families=spec.ip_families or None,
            ip_family_policy=_policy(xsvc),
            traffic_distribution=spec.traffic_distribution,
        ),
    )


def _spec_patch(xsvc: ExternalService, have: ServiceSpec) -> dict[str, Any]:
    patch: dict[str, Any] = {}
    if have.type != "ClusterIP":
        patch["type"] = "ClusterIP"
        for field in _OF_OTHER_TYPES:
            if getattr(have, field) is not None:
                patch[_in_json(field)] = None
    if have.selector:
        patch["selector"] = None
    ports = _ports(xsvc)
    if have.ports != ports:
        patch["ports"] = msgspec.to_builtins(ports)
    affinity, timeout = _affinity(xsvc)
    if (have.session_affinity, _timeout(have)) != (affinity, timeout):
        patch["sessionAffinity"] = affinity
        patch["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": timeout}} if timeout else None
    if have.internal_traffic_policy not in (None, "Cluster"):
        patch["internalTrafficPolicy"] = "Cluster"
    if have.publish_not_ready_addresses:
        patch["publishNotReadyAddresses"] = None
    distribution = xsvc.spec.traffic_distribution
    # What others have set stays, but what the spec no longer says is ours to take away.
    if have.traffic_distribution != distribution and (distribution or have.traffic_distribution == "PreferSameZone"):
        patch["trafficDistribution"] = distribution
    return patch | _families_patch(xsvc, have)


def _families_patch(xsvc: ExternalService, have: ServiceSpec) -> dict[str, Any]:
    """The families and their policy, if the spec sets them and the server can change them.

    The server adds a second family if the policy asks for two, and removes it if the policy asks for one. So families
    are only sent if the policy is not enough, and a single-family cluster is not asked again and again for a second
    one that is merely preferred.
    """
    families, present = xsvc.spec.ip_families or [], have.ip_families or []
    if families and present and families[0] != present[0]:
        return {}
    policy = _policy(xsvc)
    patch: dict[str, Any] = {}
    if policy and policy != have.ip_family_policy:
        patch["ipFamilyPolicy"] = policy
    if len(families) > len(present) and policy != "PreferDualStack":
        patch["ipFamilies"] = families
    return patch


def _policy(xsvc: ExternalService) -> str | None:
    """The policy for the Service; the API server accepts two families only with a policy for two."""
    return xsvc.spec.ip_family_policy or ("RequireDualStack" if len(xsvc.spec.ip_families or ()) > 1 else None)


def _ports(xsvc: ExternalService) -> list[ServicePort]:
    return [
        ServicePort(
            name=port.name,
            protocol=port.protocol,
            port=port.port,
            target_port=port.target_port or port.port,
            app_protocol=port.app_protocol,
        )
        for port in xsvc.spec.ports
    ]


def _affinity(xsvc: ExternalService) -> tuple[str, int | None]:
    """Kubernetes' sessionAffinity, and its time-out in seconds. Mooring needs sessions, too: they hold clients until
    they are moored."""
    if xsvc.spec.session_affinity == "None":
        return "None", None
    config = xsvc.spec.session_affinity_config
    return "ClientIP", (
        config.client_ip.timeout_seconds if config and config.client_ip else None
    ) or DEFAULT_TIMEOUT_SECONDS


def _timeout(have: ServiceSpec) -> int | None:
    if have.session_affinity != "ClientIP":
        return None
    config = have.session_affinity_config
    return (config.client_ip.timeout_seconds if config and config.client_ip else None) or DEFAULT_TIMEOUT_SECONDS


def _marks(xsvc: ExternalService) -> contract.Marks:
    moored = None
    if mooring := mooring_of(xsvc):
        of_pods = mooring.client in KINDS_OF_PODS
        moored = contract.MooredBy(
            group_of(xsvc).name,
            mooring.client,
            (mooring.label or "") if mooring.client == "Label" else "",
            mooring.pod_selector if of_pods else None,
            of_pods and mooring.while_pending == "Hold",
        )
    return contract.encode_service(contract.ServiceContract(proxy_of(xsvc), moored))


def group_of(xsvc: ExternalService) -> ObjectKey:
    """Namespace and name of the group that an ExternalService belongs to."""
    return ObjectKey(xsvc.metadata.namespace or "", xsvc.spec.group or xsvc.metadata.name)


def proxy_of(xsvc: ExternalService) -> str | None:
    """Who should carry the Service; None: kube-proxy."""
    return contract.PROXY if xsvc.spec.proxy == "moorage" else None


_JSON_NAMES: Sequence[msgspec.structs.FieldInfo] = msgspec.structs.fields(ServiceSpec)


def _in_json(field: str) -> str:
    return next(each.encode_name for each in _JSON_NAMES if each.name == field)
