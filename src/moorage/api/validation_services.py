"""Rules for Service (upstream: ValidateService in pkg/apis/core/validation).

Upstream fills in the defaults first. Here an absent field means its default, so that a person's manifest and the
stored object are judged the same way.
"""

from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

from moorage.api.addresses import family, parse, special
from moorage.api.show import show
from moorage.api.validation_names import (
    PROTOCOLS,
    Once,
    dns_1035_label,
    dns_label,
    dns_subdomain,
    in_range,
    labels,
    mapping,
    metadata,
    named,
    number,
    one_of,
    port_name,
    port_number,
    qualified_name,
    required,
    structs,
    text,
    texts,
)
from moorage.api.validation_schema import FORBIDDEN, INVALID, REQUIRED, TOO_MANY, FieldError
from moorage.errors import MoorageError

_TYPES = ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")
_FAMILIES = ("IPv4", "IPv6")
_POLICIES = ("SingleStack", "PreferDualStack", "RequireDualStack")
_DAY_SECONDS = 86400


def service(obj: dict[str, Any]) -> Iterator[FieldError]:
    """The errors of a Service."""
    yield from metadata(obj, True, dns_1035_label)
    spec = mapping(obj, "spec")
    type_ = text(spec, "type") or "ClusterIP"
    yield from one_of("spec.type", type_, _TYPES)
    if not is_headless(spec) and type_ != "ExternalName":
        yield from required("spec.ports", spec.get("ports"), "list at least one port")
    yield from _ports(spec, type_)
    yield from labels("spec.selector", mapping(spec, "selector"))
    yield from _affinity(spec)
    yield from _external_name(spec) if type_ == "ExternalName" else _cluster_ips(spec, type_)
    for path, address in texts(spec, "externalIPs", "spec"):
        yield from unicast(path, address)
    yield from _load_balancer(spec, type_)
    yield from _traffic(spec, type_)


def is_headless(spec: dict[str, Any]) -> bool:
    """Whether the spec of a Service asks for no cluster IP: `clusterIP: None`."""
    return text(spec, "clusterIP") == "None"


def unicast(path: str, address: str) -> Iterator[FieldError]:
    """The error of text that is not an address, or of an address that may never be an endpoint."""
    try:
        parse(address)
    except MoorageError as error:
        yield FieldError(path, INVALID, str(error))
        return
    reason = special(address)
    if reason:
        message = f"{show(address)} is {reason}; use the address of an instance that other machines can reach"
        yield FieldError(path, INVALID, message)


def _ports(spec: dict[str, Any], type_: str) -> Iterator[FieldError]:
    names, numbers, node_ports = Once(), Once(), Once()
    several = len(list(structs(spec, "ports", "spec"))) > 1
    for path, port in structs(spec, "ports", "spec"):
        name, protocol = text(port, "name"), text(port, "protocol") or "TCP"
        value, node_port = number(port, "port"), number(port, "nodePort")
        if several:
            yield from required(f"{path}.name", name, "name each port of a Service that has several")
        yield from named(f"{path}.name", name, dns_label)
        if name:
            yield from names.check(f"{path}.name", name, show(name), "give each port its own name")
        yield from required(f"{path}.port", port.get("port"), "set a port from 1 to 65535")
        yield from port_number(f"{path}.port", value)
        yield from one_of(f"{path}.protocol", protocol, PROTOCOLS)
        yield from _target(f"{path}.targetPort", port.get("targetPort"))
        yield from named(f"{path}.appProtocol", text(port, "appProtocol"), qualified_name)
        if value is not None:
            what = f"port {show(value)}/{show(protocol)}"
            yield from numbers.check(path, (value, protocol), what, "change or remove one")
        if node_port:
            yield from port_number(f"{path}.nodePort", node_port)
            advice = "change or remove one"
            yield from node_ports.check(f"{path}.nodePort", (node_port, protocol), show(node_port), advice)
            if type_ == "ClusterIP":
                message = "not allowed with type ClusterIP; remove it, or set type: NodePort"
                yield FieldError(f"{path}.nodePort", FORBIDDEN, message)


def _target(path: str, target: object) -> Iterator[FieldError]:
    if isinstance(target, str):
        if not target:
            yield FieldError(path, INVALID, "empty; name a container port, or remove the field")
        elif target.isascii() and target.isdecimal():
            yield FieldError(path, INVALID, f"{show(target)} is in quotes, which makes it a name; write it without")
        else:
            yield from named(path, target, port_name)
    elif isinstance(target, int) and not isinstance(target, bool):
        yield from port_number(path, target)


def _affinity(spec: dict[str, Any]) -> Iterator[FieldError]:
    affinity = text(spec, "sessionAffinity") or "None"
    yield from one_of("spec.sessionAffinity", affinity, ("ClientIP", "None"))
    path = "spec.sessionAffinityConfig"
    if affinity == "None" and spec.get("sessionAffinityConfig") is not None:
        message = "not allowed with sessionAffinity None; remove it, or set sessionAffinity: ClientIP"
        yield FieldError(path, FORBIDDEN, message)
    seconds = number(mapping(mapping(spec, "sessionAffinityConfig"), "clientIP"), "timeoutSeconds")
    yield from in_range(f"{path}.clientIP.timeoutSeconds", seconds, 1, _DAY_SECONDS, " seconds")


def _external_name(spec: dict[str, Any]) -> Iterator[FieldError]:
    for key in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
        if spec.get(key):
            yield FieldError(f"spec.{key}", FORBIDDEN, "not allowed with type ExternalName; remove it")
    name = text(spec, "externalName").removesuffix(".")
    yield from required("spec.externalName", name, "set the DNS name that the Service stands for")
    yield from named("spec.externalName", name, dns_subdomain)


def _cluster_ips(spec: dict[str, Any], type_: str) -> Iterator[FieldError]:
    first, every = text(spec, "clusterIP"), list(texts(spec, "clusterIPs", "spec"))
    if first and every and every[0][1] != first:
        yield FieldError("spec.clusterIPs", INVALID, f"{show(every[0][1])} is not spec.clusterIP; put that first")
    if every and not first:
        yield FieldError("spec.clusterIPs", INVALID, "set without spec.clusterIP; set that to the first of them")
    if is_headless(spec) and type_ in ("NodePort", "LoadBalancer"):
        yield FieldError("spec.clusterIP", INVALID, f"None is not allowed with type {type_}; remove it")
    if len(every) > 2:
        yield FieldError("spec.clusterIPs", TOO_MANY, f"{len(every)} addresses; use at most one of each IP family")
    families = [name for _, name in texts(spec, "ipFamilies", "spec")]
    seen = Once()
    for index, (path, address) in enumerate([("spec.clusterIP", first)] if first and not every else every):
        if address == "None" and len(every) < 2:
            continue
        errors = list(unicast(path, address))
        yield from errors
        if errors:
            continue
        yield from seen.check(path, family(address), f"an {family(address)} address", "use one of each IP family")
        if index < len(families) and families[index] in _FAMILIES and families[index] != family(address):
            message = f"{show(address)} is not {families[index]}, as spec.ipFamilies[{index}] says; change either"
            yield FieldError(path, INVALID, message)
    yield from _families(spec, several=len(every) > 1)


def _families(spec: dict[str, Any], *, several: bool) -> Iterator[FieldError]:
    found = list(texts(spec, "ipFamilies", "spec"))
    seen = Once()
    for path, name in found:
        yield from one_of(path, name, _FAMILIES)
        yield from seen.check(path, name, show(name), "list each IP family once")
    policy = text(spec, "ipFamilyPolicy")
    yield from one_of("spec.ipFamilyPolicy", policy, _POLICIES)
    if policy == "SingleStack" and (several or len(found) > 1):
        message = "SingleStack contradicts two IP families or addresses; use PreferDualStack, or keep one"
        yield FieldError("spec.ipFamilyPolicy", INVALID, message)


def _load_balancer(spec: dict[str, Any], type_: str) -> Iterator[FieldError]:
    if type_ != "LoadBalancer":
        for key in ("allocateLoadBalancerNodePorts", "loadBalancerClass", "loadBalancerSourceRanges"):
            if spec.get(key) not in (None, "", []):
                yield FieldError(f"spec.{key}", FORBIDDEN, "only allowed with type LoadBalancer; remove it")
    yield from named("spec.loadBalancerClass", text(spec, "loadBalancerClass"), qualified_name)
    for path, value in texts(spec, "loadBalancerSourceRanges", "spec"):
        yield from cidr(path, value.strip())


def cidr(path: str, value: str) -> Iterator[FieldError]:
    """The error of text that is not a range of addresses."""
    try:
        if "/" not in value or "%" in value:
            raise ValueError
        ip_network(value, strict=False)
        valid = value.rpartition("/")[2].isdigit()
    except ValueError:
        valid = False
    if not valid:
        yield FieldError(
            path, INVALID, f"{show(value)} is not a range of addresses; write one such as 203.0.113.0/24"
        )


def _traffic(spec: dict[str, Any], type_: str) -> Iterator[FieldError]:
    yield from one_of("spec.internalTrafficPolicy", text(spec, "internalTrafficPolicy"), ("Cluster", "Local"))
    external = text(spec, "externalTrafficPolicy")
    yield from one_of("spec.externalTrafficPolicy", external, ("Cluster", "Local"))
    if external and type_ not in ("NodePort", "LoadBalancer") and not spec.get("externalIPs"):
        message = "only allowed with type NodePort or LoadBalancer, or with externalIPs; remove it"
        yield FieldError("spec.externalTrafficPolicy", INVALID, message)
    health = number(spec, "healthCheckNodePort")
    if health:
        yield from port_number("spec.healthCheckNodePort", health)
        if type_ != "LoadBalancer" or external != "Local":
            message = "only allowed with type LoadBalancer and externalTrafficPolicy Local; remove it"
            yield FieldError("spec.healthCheckNodePort", INVALID, message)
    distributions = ("PreferClose", "PreferSameZone", "PreferSameNode")
    yield from one_of("spec.trafficDistribution", text(spec, "trafficDistribution"), distributions)


def service_update(new: dict[str, Any], old: dict[str, Any]) -> Iterator[FieldError]:
    """Forbidden changes of a Service: of its first cluster IP, unless its type was or becomes ExternalName."""
    after, before = mapping(new, "spec"), mapping(old, "spec")
    if "ExternalName" in (text(after, "type"), text(before, "type")) or not text(before, "clusterIP"):
        return
    kept = text(before, "clusterIP")
    if text(after, "clusterIP") != kept:
        kind = INVALID if text(after, "clusterIP") else REQUIRED
        yield FieldError(
            "spec.clusterIP", kind, f"may not change once set; keep {show(kept)}, or create a new Service"
        )
