"""The ExternalServices that the operator is measured with. Pure.

Endpoints are in 198.18.0.0/15: those of the services in 198.18.0.0/16, that of the load balancer, which
moves, in 198.19.0.0/16.
"""

import ipaddress
from collections.abc import Iterator

from moorage.api.core_v1 import (
    LoadBalancerIngress,
    LoadBalancerStatus,
    Service,
    ServicePort,
    ServiceSpec,
    ServiceStatus,
)
from moorage.api.meta import LabelSelector, ObjectMeta
from moorage.api.moorage_v1alpha1 import ExternalService, ExternalServicePort, ExternalServiceSpec
from moorage.api.sources_v1alpha1 import ClusterSource, EndpointSource, HealthCheck, SecretKeyReference, StaticAddress

NAMESPACE = "bench"
BARE_NAMESPACE = "bare"
"""Of what a client writes that is no operator."""
SOURCE_NAMESPACE = "source"
"""Where the load balancers are: as if it were another cluster's."""
KUBECONFIG = SecretKeyReference(name="source", key="kubeconfig")
RANGE = "198.18.0.0/15"
PORT = 8080
CLOSING_PORT = 8081
"""Of the endpoints whose port is closed one day."""
INTERVAL_SECONDS, FALL, TIMEOUT_SECONDS = 2, 3, 1
CHECK = HealthCheck(interval_seconds=INTERVAL_SECONDS, fall=FALL, timeout_seconds=TIMEOUT_SECONDS)
_PORTS = [ExternalServicePort(name="http", port=80, target_port=PORT)]
_FIRST = int(ipaddress.IPv4Address("198.18.0.1"))
_MOVING = int(ipaddress.IPv4Address("198.19.0.1"))


def name(number: int) -> str:
    return f"service-{number}"


def address(number: int, endpoint: int, endpoints: int) -> str:
    """Of an endpoint of a service that has so many."""
    return str(ipaddress.IPv4Address(_FIRST + number * endpoints + endpoint))


def external_services(namespace: str, services: int, endpoints: int, closing: int) -> Iterator[ExternalService]:
    """With TCP checks; the first endpoint of each of the first `closing` has CLOSING_PORT."""
    for number in range(services):
        addresses = [
            StaticAddress(
                address=address(number, endpoint, endpoints),
                port=CLOSING_PORT if endpoint == 0 and number < closing else None,
            )
            for endpoint in range(endpoints)
        ]
        yield _external_service(namespace, name(number), EndpointSource(addresses=addresses))


def follower() -> ExternalService:
    """The ExternalService that follows the load balancers."""
    source = ClusterSource(kubeconfig_secret_ref=KUBECONFIG, namespace=SOURCE_NAMESPACE, selector=LabelSelector())
    return _external_service(NAMESPACE, "follower", EndpointSource(cluster=source))


def _external_service(namespace: str, called: str, source: EndpointSource) -> ExternalService:
    spec = ExternalServiceSpec(ports=_PORTS, endpoints=[source], health_check=CHECK)
    return ExternalService(metadata=ObjectMeta(name=called, namespace=namespace), spec=spec)


def load_balancer() -> Service:
    """A LoadBalancer Service, which has no address yet."""
    ports = [ServicePort(name="http", port=80)]
    return Service(
        metadata=ObjectMeta(name="balanced", namespace=SOURCE_NAMESPACE),
        spec=ServiceSpec(type="LoadBalancer", ports=ports, selector={"app": "balanced"}),
    )


def moved(number: int) -> str:
    """The load balancer's address after so many moves."""
    return str(ipaddress.IPv4Address(_MOVING + number))


def balanced_at(where: str) -> ServiceStatus:
    return ServiceStatus(load_balancer=LoadBalancerStatus(ingress=[LoadBalancerIngress(ip=where)]))
