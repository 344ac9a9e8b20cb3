"""The ExternalServices and Secrets of the honest tenant and of its neighbours. Pure.

All addresses are in 198.18.0.0/15, as those of the operator's other table: the honest ones in 198.18.0.0/16, the
neighbours' in 198.19.0.0/16.
"""

import base64
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address
from itertools import cycle

import msgspec

from moorage.api.core_v1 import Secret
from moorage.api.meta import LabelSelector, ObjectMeta
from moorage.api.moorage_v1alpha1 import MAX_SOURCES, ExternalService, ExternalServicePort, ExternalServiceSpec
from moorage.api.sources_v1alpha1 import (
    MAX_ADDRESSES,
    ClusterSource,
    DnsSource,
    EndpointSource,
    HealthCheck,
    HttpCheck,
    SecretKeyReference,
    StaticAddress,
    TlsCheck,
)

HONEST, HOSTILE = "honest", "hostile"
"""Namespaces."""
SERVER = "198.19.0.1"
"""Of all TLS servers: the name in their certificates, and the address of the API server."""
TCP, TLS, CLOSING = 8080, 8443, 8081
"""The honest ports; CLOSING is of those that die."""
CHAINED_TLS, RENEGOTIATING_TLS, API = (9443, 9444), 9445, 6443
"""The neighbours' ports."""
INTERVAL_SECONDS, FALL, TIMEOUT_SECONDS = 1, 3, 1
SERVICES, ENDPOINTS, TLS_SERVICES, TLS_ENDPOINTS = 50, 4, 5, 2
DYING = 4
"""Honest services whose first endpoint dies."""
DEAR, RENEGOTIATING = 25, 25
"""Endpoints that are checked over TLS, of these kinds."""
CLUSTERS = 4
"""ExternalServices with as many sources as one may have, in other clusters."""
NAMES = 20
"""The same, in the DNS."""
LARGE = 4
"""The same, with as many addresses as one may have."""
BUNDLES = 2
"""CA Secrets that are rewritten, each with an ExternalService."""
ZONE = "hostile.example"
Made = list[ExternalService | Secret]
_CA = SecretKeyReference(name="ca", key="ca.crt")
_KUBECONFIG = SecretKeyReference(name="kubeconfig", key="kubeconfig")


# --- the honest tenant --------------------------------------------------------------------------------------------


def honest_address(service: int, endpoint: int) -> str:
    return str(IPv4Address("198.18.1.0") + service * ENDPOINTS + endpoint)


def honest_tls_address(service: int, endpoint: int) -> str:
    return str(IPv4Address("198.18.100.1") + service * TLS_ENDPOINTS + endpoint)


def honest_name(service: int) -> str:
    return f"honest-{service}"


def honest(ca: str) -> Made:
    """Services that are checked over TCP, the first endpoint of the first ones at CLOSING, and some over HTTPS."""
    made: Made = [secret(HONEST, _CA.name, {_CA.key: ca.encode()})]
    for service in range(SERVICES):
        addresses = [
            StaticAddress(
                address=honest_address(service, endpoint),
                port=CLOSING if _dies(service, endpoint) else None,
            )
            for endpoint in range(ENDPOINTS)
        ]
        sources = [EndpointSource(addresses=addresses)]
        made.append(_xsvc(HONEST, honest_name(service), sources, TCP, _check(None)))
    for service in range(TLS_SERVICES):
        addresses = [
            StaticAddress(address=honest_tls_address(service, endpoint)) for endpoint in range(TLS_ENDPOINTS)
        ]
        sources = [EndpointSource(addresses=addresses)]
        made.append(_xsvc(HONEST, f"honest-tls-{service}", sources, TLS, _check(_CA)))
    return made


def endpoints() -> int:
    """How many the honest tenant has."""
    return SERVICES * ENDPOINTS + TLS_SERVICES * TLS_ENDPOINTS


def checked(*, dying: bool) -> list[tuple[str, int]]:
    """Address and port of each honest endpoint; `dying`: also of those that die."""
    tcp = [
        (honest_address(service, endpoint), CLOSING if _dies(service, endpoint) else TCP)
        for service in range(SERVICES)
        for endpoint in range(ENDPOINTS)
        if dying or not _dies(service, endpoint)
    ]
    tls = [
        (honest_tls_address(service, endpoint), TLS)
        for service in range(TLS_SERVICES)
        for endpoint in range(TLS_ENDPOINTS)
    ]
    return tcp + tls


def _dies(service: int, endpoint: int) -> bool:
    return service < DYING and endpoint == 0


# --- its neighbours -----------------------------------------------------------------------------------------------


def tls_addresses(count: int) -> list[str]:
    """Of the endpoints that the neighbours have checked over TLS."""
    return [str(IPv4Address("198.19.1.1") + number) for number in range(count)]


def tls_endpoints(ca: str, ports: Sequence[int], count: int) -> Made:
    """One ExternalService whose endpoints are checked over HTTPS, at these ports in turn."""
    addresses = [
        StaticAddress(address=address, port=port)
        for address, port in zip(tls_addresses(count), cycle(ports), strict=False)
    ]
    return [
        secret(HOSTILE, _CA.name, {_CA.key: ca.encode()}),
        _xsvc(HOSTILE, "tls", [EndpointSource(addresses=addresses)], TLS, _check(_CA)),
    ]


def clusters(ca: str, behaviours: Sequence[str]) -> Made:
    """ExternalServices with as many cluster sources as may be; the API server behaves as the namespace says."""
    made: Made = [secret(HOSTILE, _KUBECONFIG.name, {_KUBECONFIG.key: kubeconfig(ca)})]
    for number in range(CLUSTERS):
        sources = [
            EndpointSource(
                cluster=ClusterSource(
                    kubeconfig_secret_ref=_KUBECONFIG,
                    namespace=f"{behaviours[index % len(behaviours)]}-{number}-{index}",
                    selector=LabelSelector(),
                )
            )
            for index in range(MAX_SOURCES)
        ]
        made.append(_xsvc(HOSTILE, f"cluster-{number}", sources, 80, None))
    return made


def names() -> Made:
    """ExternalServices with as many names in the DNS as may be."""
    return [
        _xsvc(
            HOSTILE,
            f"dns-{number}",
            [EndpointSource(dns=DnsSource(name=f"n{number}-{index}.{ZONE}")) for index in range(MAX_SOURCES)],
            80,
            None,
        )
        for number in range(NAMES)
    ]


def bundled(bundle: bytes) -> Made:
    """ExternalServices with HTTPS checks, and the CA Secrets that they trust."""
    made: Made = []
    for number in range(BUNDLES):
        ref = SecretKeyReference(name=f"ca-{number}", key=_CA.key)
        addresses = [StaticAddress(address=str(IPv4Address("198.19.2.1") + number * 4 + each)) for each in range(4)]
        made += [
            secret(HOSTILE, ref.name, {ref.key: bundle}),
            _xsvc(HOSTILE, f"bundle-{number}", [EndpointSource(addresses=addresses)], TLS, _check(ref)),
        ]
    return made


def bundle_patch(bundle: bytes) -> dict[str, object]:
    """What gives a CA Secret another content."""
    return {"data": {_CA.key: base64.b64encode(bundle).decode()}}


def large() -> Made:
    """ExternalServices with as many addresses as may be."""
    return [_xsvc(HOSTILE, large_name(number), list(_large_sources(number, 0)), 80, None) for number in range(LARGE)]


def large_name(number: int) -> str:
    return f"large-{number}"


def large_patch(number: int, turn: int) -> dict[str, object]:
    """What gives one of them other addresses, an eighth of them in each turn."""
    return {"spec": {"endpoints": msgspec.to_builtins(list(_large_sources(number, turn)))}}


def _large_sources(number: int, turn: int) -> Iterator[EndpointSource]:
    every = MAX_SOURCES * MAX_ADDRESSES
    first = IPv4Address("198.19.64.0") + number * 4096 + turn % 8 * (every // 8)
    for source in range(MAX_SOURCES):
        start = first + source * MAX_ADDRESSES
        yield EndpointSource(addresses=[StaticAddress(address=str(start + each)) for each in range(MAX_ADDRESSES)])


# --- parts of them ------------------------------------------------------------------------------------------------


def secret(namespace: str, name: str, data: dict[str, bytes]) -> Secret:
    encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
    return Secret(metadata=ObjectMeta(name=name, namespace=namespace), data=encoded)


def kubeconfig(ca: str) -> bytes:
    """Of the neighbours' API server."""
    cluster = {
        "server": f"https://{SERVER}:{API}",
        "certificate-authority-data": base64.b64encode(ca.encode()).decode(),
    }
    return msgspec.json.encode(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "hostile",
            "contexts": [{"name": "hostile", "context": {"cluster": "hostile", "user": "hostile"}}],
            "clusters": [{"name": "hostile", "cluster": cluster}],
            "users": [{"name": "hostile", "user": {"token": "token"}}],
        }
    )


def _check(ca: SecretKeyReference | None) -> HealthCheck:
    """Over HTTPS where a CA is given, else over TCP."""
    http = HttpCheck(tls=TlsCheck(server_name=SERVER, ca_secret_ref=ca)) if ca else None
    return HealthCheck(http=http, interval_seconds=INTERVAL_SECONDS, fall=FALL, timeout_seconds=TIMEOUT_SECONDS)


def _xsvc(
    namespace: str, name: str, sources: list[EndpointSource], port: int, check: HealthCheck | None
) -> ExternalService:
    spec = ExternalServiceSpec(
        ports=[ExternalServicePort(name="main", port=80, target_port=port)], endpoints=sources, health_check=check
    )
    return ExternalService(metadata=ObjectMeta(name=name, namespace=namespace), spec=spec)
