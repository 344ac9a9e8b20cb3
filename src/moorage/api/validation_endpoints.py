"""Rules for EndpointSlice and Endpoints (upstream: pkg/apis/discovery/validation, ValidateEndpoints in core)."""

from collections.abc import Iterator
from typing import Any

from moorage.api.addresses import family
from moorage.api.show import show
from moorage.api.topology import MAX_HINTS
from moorage.api.validation_names import (
    PROTOCOLS,
    Check,
    Once,
    dns_label,
    dns_subdomain,
    domain_name,
    entries,
    label_value,
    labels,
    mapping,
    metadata,
    named,
    number,
    one_of,
    port_number,
    qualified_name,
    required,
    structs,
    text,
    texts,
)
from moorage.api.validation_schema import INVALID, REQUIRED, TOO_MANY, FieldError
from moorage.api.validation_services import unicast

MAX_ENDPOINTS = 1000
"""In one EndpointSlice."""
MAX_PORTS = 100
"""In one EndpointSlice."""
MAX_ADDRESSES = 100
"""Of one endpoint; proxies use the first."""


def endpoint_slice(obj: dict[str, Any]) -> Iterator[FieldError]:
    """The errors of an EndpointSlice."""
    yield from metadata(obj, True, dns_subdomain)
    address_type = text(obj, "addressType")
    yield from required("addressType", address_type, "set IPv4, IPv6 or FQDN")
    yield from one_of("addressType", address_type, ("IPv4", "IPv6", "FQDN"))
    endpoints = entries(obj, "endpoints")
    if len(endpoints) > MAX_ENDPOINTS:
        yield _too_many("endpoints", len(endpoints), MAX_ENDPOINTS, "another EndpointSlice of the same Service")
    else:
        for index, endpoint in enumerate(endpoints):
            if isinstance(endpoint, dict):
                yield from _endpoint(f"endpoints[{index}]", endpoint, address_type)
    ports = entries(obj, "ports")
    if len(ports) > MAX_PORTS:
        yield _too_many("ports", len(ports), MAX_PORTS, "another EndpointSlice of the same Service")
    else:
        yield from _slice_ports(ports)


def _too_many(path: str, found: int, limit: int, where: str) -> FieldError:
    return FieldError(path, TOO_MANY, f"{found} are too many; keep at most {limit} and put the rest into {where}")


def _endpoint(path: str, endpoint: dict[str, Any], address_type: str) -> Iterator[FieldError]:
    addresses = entries(endpoint, "addresses")
    yield from required(f"{path}.addresses", endpoint.get("addresses"), "list the endpoint's address")
    if len(addresses) > MAX_ADDRESSES:
        yield _too_many(f"{path}.addresses", len(addresses), MAX_ADDRESSES, "another endpoint")
    for where, address in texts(endpoint, "addresses", path):
        yield from _address(where, address, address_type)
    yield from named(f"{path}.hostname", text(endpoint, "hostname"), dns_label)
    yield from named(f"{path}.nodeName", text(endpoint, "nodeName"), dns_subdomain)
    yield from labels(f"{path}.deprecatedTopology", mapping(endpoint, "deprecatedTopology"))
    hints = mapping(endpoint, "hints")
    yield from _hints(f"{path}.hints", hints, "forZones", label_value)
    yield from _hints(f"{path}.hints", hints, "forNodes", dns_subdomain)


def _hints(path: str, hints: dict[str, Any], key: str, check: Check) -> Iterator[FieldError]:
    found = list(structs(hints, key, path))
    if len(found) > MAX_HINTS:
        yield FieldError(f"{path}.{key}", TOO_MANY, f"{len(found)} are too many; keep at most {MAX_HINTS}")
        return
    names = Once()
    for where, hint in found:
        name = text(hint, "name")
        yield from named(f"{where}.name", name, check)
        yield from names.check(f"{where}.name", name, show(name), "name each once")


def _address(path: str, address: str, address_type: str) -> Iterator[FieldError]:
    if address_type == "FQDN":
        if complaint := domain_name(address):
            yield FieldError(path, INVALID, f"{show(address)} {complaint}")
        return
    errors = list(unicast(path, address))
    yield from errors
    if not errors and address_type in ("IPv4", "IPv6") and family(address) != address_type:
        message = f"{show(address)} is not {address_type}, as addressType says; put it into a slice of its own"
        yield FieldError(path, INVALID, message)


def _slice_ports(ports: list[Any]) -> Iterator[FieldError]:
    names = Once()
    for index, port in enumerate(ports):
        if not isinstance(port, dict):
            continue
        path, name = f"ports[{index}]", text(port, "name")
        yield from named(f"{path}.name", name, dns_label)
        what = show(name) if name else "a port without name"
        yield from names.check(f"{path}.name", name, what, "give each port its own name")
        yield from port_number(f"{path}.port", number(port, "port"))
        yield from one_of(f"{path}.protocol", text(port, "protocol"), PROTOCOLS)
        yield from named(f"{path}.appProtocol", text(port, "appProtocol"), qualified_name)


def endpoint_slice_update(new: dict[str, Any], old: dict[str, Any]) -> Iterator[FieldError]:
    """Forbidden changes of an EndpointSlice: of its address type."""
    if text(new, "addressType") != text(old, "addressType"):
        yield FieldError("addressType", INVALID, "may not change; create a new EndpointSlice")


def endpoints(obj: dict[str, Any]) -> Iterator[FieldError]:
    """The errors of an Endpoints object."""
    yield from metadata(obj, True, dns_subdomain)
    for index, subset in enumerate(entries(obj, "subsets")):
        if not isinstance(subset, dict):
            continue
        path = f"subsets[{index}]"
        if not subset.get("addresses") and not subset.get("notReadyAddresses"):
            yield FieldError(
                path, REQUIRED, "no addresses; list addresses or notReadyAddresses, or remove the subset"
            )
        for key in ("addresses", "notReadyAddresses"):
            for where, address in structs(subset, key, path):
                yield from required(f"{where}.ip", text(address, "ip"), "set the endpoint's address")
                if text(address, "ip"):
                    yield from unicast(f"{where}.ip", text(address, "ip"))
                yield from named(f"{where}.hostname", text(address, "hostname"), dns_label)
                yield from named(f"{where}.nodeName", text(address, "nodeName"), dns_subdomain)
        yield from _subset_ports(subset, path)


def _subset_ports(subset: dict[str, Any], path: str) -> Iterator[FieldError]:
    ports, names = list(structs(subset, "ports", path)), Once()
    for where, port in ports:
        name = text(port, "name")
        if len(ports) > 1:
            yield from required(f"{where}.name", name, "name each port of a subset that has several")
        yield from named(f"{where}.name", name, dns_label)
        if name:
            yield from names.check(f"{where}.name", name, show(name), "give each port its own name")
        yield from required(f"{where}.port", port.get("port"), "set a port from 1 to 65535")
        yield from port_number(f"{where}.port", number(port, "port"))
        yield from one_of(f"{where}.protocol", text(port, "protocol"), PROTOCOLS)
        yield from named(f"{where}.appProtocol", text(port, "appProtocol"), qualified_name)
