"""Rules for workloads, Pod, Node, Namespace and Event, as far as the lab plays them."""

from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

import msgspec

from moorage.api.meta import LabelSelector, selects
from moorage.api.show import show
from moorage.api.validation_names import (
    PROTOCOLS,
    Once,
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
from moorage.api.validation_schema import INVALID, NOT_SUPPORTED, REQUIRED, FieldError, without_nulls
from moorage.api.validation_services import cidr

_INT32 = 2**31 - 1


def deployment(obj: dict[str, Any]) -> Iterator[FieldError]:
    """The errors of a Deployment."""
    yield from _workload(obj)
    strategy = mapping(mapping(obj, "spec"), "strategy")
    yield from one_of("spec.strategy.type", text(strategy, "type"), ("RollingUpdate", "Recreate"))


def replica_set(obj: dict[str, Any]) -> Iterator[FieldError]:
    """The errors of a ReplicaSet."""
    yield from _workload(obj)


def stateful_set(obj: dict[str, Any]) -> Iterator[FieldError]:
    """The errors of a StatefulSet."""
    yield from _workload(obj)
    spec = mapping(obj, "spec")
    yield from in_range("spec.ordinals.start", number(mapping(spec, "ordinals"), "start"), 0, _INT32)
    policies = ("OrderedReady", "Parallel")
    yield from one_of("spec.podManagementPolicy", text(spec, "podManagementPolicy"), policies)
    strategy = text(mapping(spec, "updateStrategy"), "type")
    yield from one_of("spec.updateStrategy.type", strategy, ("RollingUpdate", "OnDelete"))


def named_only(obj: dict[str, Any]) -> Iterator[FieldError]:
    """The errors of the metadata of an object of a namespace, of which nothing else is read."""
    yield from metadata(obj, True, dns_subdomain)


def _workload(obj: dict[str, Any]) -> Iterator[FieldError]:
    yield from metadata(obj, True, dns_subdomain)
    spec = mapping(obj, "spec")
    for key in ("replicas", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"):
        yield from in_range(f"spec.{key}", number(spec, key), 0, _INT32)
    template = mapping(spec, "template")
    yield from _selector(spec, template)
    yield from labels("spec.template.metadata.labels", mapping(mapping(template, "metadata"), "labels"))
    pod = mapping(template, "spec")
    yield from _pod_spec(pod, "spec.template.spec")
    if text(pod, "restartPolicy") not in ("", "Always"):
        message = f"{show(text(pod, 'restartPolicy'))} is not supported here; use Always"
        yield FieldError("spec.template.spec.restartPolicy", NOT_SUPPORTED, message)


def _selector(spec: dict[str, Any], template: dict[str, Any]) -> Iterator[FieldError]:
    selector = mapping(spec, "selector")
    if not selector.get("matchLabels") and not selector.get("matchExpressions"):
        yield FieldError("spec.selector", REQUIRED, "missing; set matchLabels to the labels of spec.template")
        return
    errors = list(labels("spec.selector.matchLabels", mapping(selector, "matchLabels")))
    errors += _expressions(selector)
    yield from errors
    try:
        typed = msgspec.convert(without_nulls(selector), LabelSelector)
    except (msgspec.ValidationError, RecursionError):
        return  # wrong types, reported as such
    have = {
        key: value for key, value in mapping(mapping(template, "metadata"), "labels").items() if value is not None
    }
    if not errors and all(isinstance(value, str) for value in have.values()) and not selects(typed, have):
        message = "does not match spec.selector, so the pods would not be its own; add its labels"
        yield FieldError("spec.template.metadata.labels", INVALID, message)


def _expressions(selector: dict[str, Any]) -> Iterator[FieldError]:
    for path, expression in structs(selector, "matchExpressions", "spec.selector"):
        yield from required(f"{path}.key", text(expression, "key"), "name the label")
        yield from named(f"{path}.key", text(expression, "key"), qualified_name)
        operator = text(expression, "operator")
        yield from required(f"{path}.operator", operator, "use In, NotIn, Exists or DoesNotExist")
        yield from one_of(f"{path}.operator", operator, ("In", "NotIn", "Exists", "DoesNotExist"))
        if operator in ("In", "NotIn"):
            yield from required(f"{path}.values", expression.get("values"), f"{operator} needs at least one value")


def pod(obj: dict[str, Any]) -> Iterator[FieldError]:
    """The errors of a Pod."""
    yield from metadata(obj, True, dns_subdomain)
    spec = mapping(obj, "spec")
    yield from _pod_spec(spec, "spec")
    yield from one_of("spec.restartPolicy", text(spec, "restartPolicy"), ("Always", "OnFailure", "Never"))


def _pod_spec(spec: dict[str, Any], path: str) -> Iterator[FieldError]:
    yield from required(f"{path}.containers", spec.get("containers"), "list at least one container")
    yield from named(f"{path}.nodeName", text(spec, "nodeName"), dns_subdomain)
    yield from named(f"{path}.hostname", text(spec, "hostname"), dns_label)
    grace = number(spec, "terminationGracePeriodSeconds")
    yield from in_range(f"{path}.terminationGracePeriodSeconds", grace, 0, 2**63 - 1, " seconds")
    names = Once()
    for where, container in structs(spec, "containers", path):
        name = text(container, "name")
        yield from required(f"{where}.name", name, "name the container")
        yield from named(f"{where}.name", name, dns_label)
        if name:
            yield from names.check(f"{where}.name", name, show(name), "give each container its own name")
        yield from required(f"{where}.image", text(container, "image"), "set the image to run")
        for env_path, variable in structs(container, "env", where):
            yield from required(f"{env_path}.name", text(variable, "name"), "name the variable")
            if "=" in text(variable, "name"):
                message = f'{show(text(variable, "name"))} contains "="; use name and value for the two halves'
                yield FieldError(f"{env_path}.name", INVALID, message)
        yield from _container_ports(container, where)


def _container_ports(container: dict[str, Any], path: str) -> Iterator[FieldError]:
    names = Once()
    for where, port in structs(container, "ports", path):
        name = text(port, "name")
        yield from required(f"{where}.containerPort", port.get("containerPort"), "set a port from 1 to 65535")
        yield from port_number(f"{where}.containerPort", number(port, "containerPort"))
        yield from named(f"{where}.name", name, port_name)
        if name:
            yield from names.check(f"{where}.name", name, show(name), "give each port its own name")
        yield from one_of(f"{where}.protocol", text(port, "protocol"), PROTOCOLS)


def workload_update(new: dict[str, Any], old: dict[str, Any]) -> Iterator[FieldError]:
    """Forbidden changes of a workload: of its selector."""
    if mapping(mapping(new, "spec"), "selector") != mapping(mapping(old, "spec"), "selector"):
        yield FieldError("spec.selector", INVALID, "may not change; delete the object and create it again")


def stateful_set_update(new: dict[str, Any], old: dict[str, Any]) -> Iterator[FieldError]:
    """Forbidden changes of a StatefulSet."""
    yield from workload_update(new, old)
    for field in ("serviceName", "podManagementPolicy"):
        if mapping(new, "spec").get(field) != mapping(old, "spec").get(field):
            yield FieldError(f"spec.{field}", INVALID, "may not change; delete the object and create it again")


def node(obj: dict[str, Any]) -> Iterator[FieldError]:
    """The errors of a Node."""
    yield from metadata(obj, False, dns_subdomain)
    spec = mapping(obj, "spec")
    first, every = text(spec, "podCIDR"), list(texts(spec, "podCIDRs", "spec"))
    if first:
        yield from cidr("spec.podCIDR", first)
    if first and every and every[0][1] != first:
        yield FieldError("spec.podCIDRs", INVALID, f"{show(every[0][1])} is not spec.podCIDR; put that first")
    families = Once()
    for path, value in every:
        errors = list(cidr(path, value))
        yield from errors
        if not errors:
            version = f"IPv{ip_network(value, strict=False).version}"
            yield from families.check(path, version, f"an {version} range", "use one of each IP family")


def namespace(obj: dict[str, Any]) -> Iterator[FieldError]:
    """The errors of a Namespace."""
    yield from metadata(obj, False, dns_label)


def event(obj: dict[str, Any]) -> Iterator[FieldError]:
    """The errors of an Event."""
    yield from metadata(obj, True, dns_subdomain)
    yield from one_of("type", text(obj, "type"), ("Normal", "Warning"))
