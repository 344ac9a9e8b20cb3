"""The cluster's DNS: the `kube-dns` Service, its slices, and the records of all Services.

Names follow the Kubernetes DNS specification (github.com/kubernetes/dns, docs/specification.md).
"""

from collections.abc import Iterable, Mapping, Sequence

from moorage.api.core_v1 import Service, ServicePort, ServiceSpec
from moorage.api.discovery_v1 import (
    MANAGED_BY_LABEL,
    SERVICE_NAME_LABEL,
    Endpoint,
    EndpointConditions,
    EndpointPort,
    EndpointSlice,
)
from moorage.api.meta import ObjectMeta
from moorage.api.mirroring import family_of
from moorage_lab.control.slices import owner_of
from moorage_lab.topology import ClusterPlan

NAMESPACE, NAME = "kube-system", "kube-dns"
_PORTS = (("dns", "UDP"), ("dns-tcp", "TCP"))


def service(plan: ClusterPlan) -> Service:
    """The `kube-dns` Service, without selector: its server is not a pod."""
    addresses = plan.dns_service_addresses
    return Service(
        api_version="v1",
        kind="Service",
        metadata=ObjectMeta(name=NAME, namespace=NAMESPACE, labels={"k8s-app": "kube-dns"}),
        spec=ServiceSpec(
            cluster_ip=addresses[0],
            cluster_ips=addresses,
            ip_families=[family_of(address) for address in addresses],
            ip_family_policy="RequireDualStack" if len(addresses) > 1 else "SingleStack",
            ports=[ServicePort(name=name, protocol=protocol, port=53, target_port=53) for name, protocol in _PORTS],
        ),
    )


def slices(plan: ClusterPlan, owner: Service) -> list[EndpointSlice]:
    """The slices of `kube-dns` as read from the API server: one for each family, with the DNS server."""
    return [
        EndpointSlice(
            api_version="discovery.k8s.io/v1",
            kind="EndpointSlice",
            metadata=ObjectMeta(
                name=f"{NAME}-{family_of(address).lower()}",
                namespace=NAMESPACE,
                labels={SERVICE_NAME_LABEL: NAME, MANAGED_BY_LABEL: "lab.moorage.dev"},
                owner_references=[owner_of("v1", "Service", owner.metadata)],
            ),
            address_type=family_of(address),
            ports=[EndpointPort(name=name, protocol=protocol, port=53) for name, protocol in _PORTS],
            endpoints=[
                Endpoint(
                    addresses=[address],
                    conditions=EndpointConditions(ready=True, serving=True, terminating=False),
                )
            ],
        )
        for address in plan.dns_addresses
    ]


def hosts(services: Iterable[Service], slices: Iterable[EndpointSlice], domain: str) -> str:
    """The hosts file: a line `ADDRESS NAME.NAMESPACE.svc.DOMAIN` for every cluster IP, sorted.

    A headless Service has its ready endpoints' addresses instead (all of them with publishNotReadyAddresses), and
    `HOSTNAME.NAME...` for those that have a hostname. An ExternalName is an alias, which a hosts file cannot hold.
    """
    of_service: dict[tuple[str, str], list[Endpoint]] = {}
    for slice_ in slices:
        name = (slice_.metadata.labels or {}).get(SERVICE_NAME_LABEL)
        if name is not None and slice_.address_type in ("IPv4", "IPv6"):
            of_service.setdefault((slice_.metadata.namespace or "", name), []).extend(slice_.endpoints or ())
    lines = {line for service in services for line in _lines(service, of_service, domain)}
    return "".join(f"{address} {name}\n" for name, address in sorted(lines))


def _lines(
    service: Service, endpoints: Mapping[tuple[str, str], Sequence[Endpoint]], domain: str
) -> Iterable[tuple[str, str]]:
    meta, spec = service.metadata, service.spec
    name = f"{meta.name}.{meta.namespace}.svc.{domain}"
    if spec.cluster_ip != "None":
        return [(name, address) for address in spec.every_cluster_ip] if spec.type != "ExternalName" else []
    lines = []
    for endpoint in endpoints.get((meta.namespace or "", meta.name), ()):
        if endpoint.conditions.ready is not False:
            for address in endpoint.addresses:
                lines.append((name, address))
                if endpoint.hostname:
                    lines.append((f"{endpoint.hostname}.{name}", address))
    return lines
