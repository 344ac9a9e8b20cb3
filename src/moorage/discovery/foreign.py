"""Decodes Services from another cluster's answers: only the fields that are used, in bounded memory.

Whoever runs the other server chooses what it sends. A list of empty objects (`[{},{},...]`) would take some twenty
times its size in memory if it were fully decoded. So unused fields are skipped without decoding them, and only a
bounded number of entries of each list is decoded.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from moorage.api.core_v1 import (
    LoadBalancerIngress,
    LoadBalancerStatus,
    Service,
    ServicePort,
    ServiceSpec,
    ServiceStatus,
)
from moorage.api.meta import ObjectMeta
from moorage.cluster.reading import Page, Reading

MAX_SERVICES = 1000
MAX_INGRESS = 16
MAX_PORTS = 100
MAX_VERSION_CHARACTERS = 128
"""Of a uid or resourceVersion; kube-apiserver's have 36 and 20."""
MAX_CONTINUE_CHARACTERS = 4096
"""kube-apiserver's contain the last name in base64, so they have a few hundred."""

_Name = Annotated[str, Meta(max_length=253)]
"""A host name (RFC 1123, 2.1), or a name in Kubernetes."""
_Address = Annotated[str, Meta(max_length=45)]
"""IPv6 with its IPv4 part written out."""
_Version = Annotated[str, Meta(max_length=MAX_VERSION_CHARACTERS)]
_Word = Annotated[str, Meta(max_length=16)]


def _first(number: int, of: Any) -> Any:
    """The type of a JSON array whose first `number` entries are decoded; msgspec skips the others."""
    fields = [(f"at{index}", of | None, None) for index in range(number)]
    return msgspec.defstruct(f"First{number}", fields, array_like=True, gc=False)


def _entries(first: Any) -> list[Any]:
    """The entries of such an array, without nulls."""
    return [each for each in msgspec.structs.astuple(first) if each is not None] if first is not None else []


class _Slim(msgspec.Struct, rename="camel", gc=False):
    """Base of the structs here. Fields that they do not name are skipped."""


class _Meta(_Slim):
    name: _Name = ""
    namespace: _Name | None = None
    uid: _Version | None = None
    resource_version: _Version | None = None
    deletion_timestamp: Annotated[str, Meta(max_length=64)] | None = None


class _Port(_Slim):
    port: int
    protocol: _Word = "TCP"


class _PortStatus(_Slim):
    port: int
    protocol: _Word = "TCP"
    error: Annotated[str, Meta(max_length=316)] | None = None
    """A CamelCase word, or one with a domain before it (KEP-1435)."""


class _Ingress(_Slim):
    ip: _Address | None = None
    hostname: _Name | None = None
    ports: _first(MAX_PORTS, _PortStatus) | None = None  # type: ignore[valid-type]


class _Balancer(_Slim):
    ingress: _first(MAX_INGRESS, _Ingress) | None = None  # type: ignore[valid-type]


class _Spec(_Slim):
    type: _Word = "ClusterIP"
    ports: _first(MAX_PORTS, _Port) | None = None  # type: ignore[valid-type]


class _Status(_Slim):
    load_balancer: _Balancer | None = None


class _Service(_Slim):
    metadata: _Meta
    spec: _Spec = msgspec.field(default_factory=_Spec)
    status: _Status = msgspec.field(default_factory=_Status)


class _ListMeta(_Slim):
    resource_version: _Version = ""
    continue_: Annotated[str, Meta(max_length=MAX_CONTINUE_CHARACTERS)] = msgspec.field(default="", name="continue")


class _List(_Slim):
    metadata: _ListMeta
    items: _first(MAX_SERVICES + 1, _Service) | None = None  # type: ignore[valid-type]


class ForeignServices(Reading[Service]):
    """Decodes Services. Also raises msgspec.DecodeError for text that is longer than any in Kubernetes.

    It reads at most `MAX_SERVICES` plus one from a page; the extra one shows that there are more.
    """

    def __init__(self) -> None:
        self._list = msgspec.json.Decoder(_List)
        self._service = msgspec.json.Decoder(_Service)

    def page(self, answer: bytes | bytearray) -> Page[Service]:
        found = self._list.decode(answer)
        items = [_full(each) for each in _entries(found.items)]
        return Page(items, found.metadata.resource_version, found.metadata.continue_)

    def one(self, text: bytes | msgspec.Raw) -> Service:
        return _full(self._service.decode(text))


SERVICES = ForeignServices()


def _full(slim: _Service) -> Service:
    meta = slim.metadata
    balancer = slim.status.load_balancer
    return Service(
        metadata=ObjectMeta(
            name=meta.name,
            namespace=meta.namespace,
            uid=meta.uid,
            resource_version=meta.resource_version,
            deletion_timestamp=meta.deletion_timestamp,
        ),
        spec=ServiceSpec(
            type=slim.spec.type,
            ports=[
                ServicePort(protocol=each.protocol, port=each.port)
                for each in _entries(slim.spec.ports)
                if 0 < each.port < 2**16
            ],
        ),
        status=ServiceStatus(
            load_balancer=LoadBalancerStatus(
                ingress=[
                    LoadBalancerIngress(ip=each.ip, hostname=each.hostname, ports=_errors(each.ports))
                    for each in _entries(balancer and balancer.ingress)
                ]
            )
        ),
    )


def _errors(ports: Any) -> list[dict[str, object]] | None:
    """The ports of a load balancer that have an error."""
    found: list[dict[str, object]] = [
        {"port": each.port, "protocol": each.protocol, "error": each.error}
        for each in _entries(ports)
        if each.error and 0 < each.port < 2**16
    ]
    return found or None
