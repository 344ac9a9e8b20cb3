"""`Accept: application/json;as=Table`: the columns of `kubectl get` (upstream `printers/internalversion`)."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from moorage.api.kinds import Kind
from moorage_lab.apiserver import custom
from moorage_lab.apiserver.objects import Obj, dig, metadata, name_of, parse_timestamp

META = "meta.k8s.io/v1"
NONE = "<none>"
UNKNOWN = "<unknown>"


class Column(NamedTuple):
    name: str
    cell: Callable[[Obj, datetime], Any]
    wide: bool = False
    type: str = "string"


def table(
    kind: Kind,
    objects: Iterable[Obj],
    list_meta: Obj,
    now: datetime,
    include: str,
    *,
    headers: bool = True,
) -> Obj:
    """The Table of some objects. `include` is what each row carries: None, Metadata or Object."""
    columns = _of_definition(kind) if custom.is_custom(kind) else _COLUMNS.get((kind.group, kind.kind), _ANY)
    return {
        "kind": "Table",
        "apiVersion": META,
        "metadata": list_meta,
        "columnDefinitions": [_definition(column) for column in columns] if headers else None,
        "rows": [
            {"cells": [column.cell(obj, now) for column in columns], **_row_object(obj, include)} for obj in objects
        ],
    }


def _row_object(obj: Obj, include: str) -> Obj:
    if include == "None":
        return {}
    return {"object": obj if include == "Object" else partial(obj)}


def partial(obj: Obj) -> Obj:
    """Nothing but an object's metadata."""
    return {"kind": "PartialObjectMetadata", "apiVersion": META, "metadata": obj["metadata"]}


def _definition(column: Column) -> Obj:
    return {
        "name": column.name,
        "type": column.type,
        "format": "name" if column.name == "Name" else "",
        "description": column.name,
        "priority": 1 if column.wide else 0,
    }


def duration(seconds: float) -> str:
    """An age in kubectl's form (apimachinery's `duration.HumanDuration`)."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    whole = max(whole, 0)
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if whole < 120:
        return f"{whole}s"
    if minutes < 10:
        return _pair(minutes, "m", whole % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _pair(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return _pair(days, "d", hours % 24, "h")
    if days < 730:
        return f"{days}d"
    if days < 8 * 365:
        return _pair(days // 365, "y", days % 365, "d")
    return f"{days // 365}y"


def _pair(big: int, big_unit: str, small: int, small_unit: str) -> str:
    return f"{big}{big_unit}{small}{small_unit}" if small else f"{big}{big_unit}"


def _since(text: Any, now: datetime) -> str:
    return duration((now - parse_timestamp(text)).total_seconds()) if text else UNKNOWN


def _name(obj: Obj, _: datetime) -> str:
    return name_of(obj)


def _age(obj: Obj, now: datetime) -> str:
    return _since(metadata(obj).get("creationTimestamp"), now)


def _field(*path: str, default: Any = NONE) -> Callable[[Obj, datetime], Any]:
    def cell(obj: Obj, _: datetime) -> Any:
        value = dig(obj, *path)
        return default if value is None or value == "" else value

    return cell


def _joined(values: Sequence[Any], limit: int = 3) -> str:
    shown = ",".join(str(value) for value in values[:limit])
    more = len(values) - limit
    return (f"{shown} + {more} more..." if more > 0 else shown) or NONE


def _pairs(labels: Any) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items())) or NONE


def _external_ip(service: Obj, _: datetime) -> str:
    spec = service["spec"]
    external = list(spec.get("externalIPs") or [])
    if spec.get("type") == "ExternalName":
        return str(spec.get("externalName") or NONE)
    if spec.get("type") == "LoadBalancer":
        ingress = dig(service, "status", "loadBalancer", "ingress") or []
        addresses = [one.get("ip") or one.get("hostname") or "" for one in ingress] + external
        return ",".join(addresses) or "<pending>"
    return ",".join(external) or NONE


def _service_ports(service: Obj, _: datetime) -> str:
    ports = []
    for port in service["spec"].get("ports") or []:
        node = f":{port['nodePort']}" if port.get("nodePort") else ""
        ports.append(f"{port['port']}{node}/{port.get('protocol', 'TCP')}")
    return ",".join(ports) or NONE


def _containers_ready(pod: Obj, _: datetime) -> str:
    statuses = dig(pod, "status", "containerStatuses") or []
    return f"{sum(bool(one.get('ready')) for one in statuses)}/{len(dig(pod, 'spec', 'containers') or [])}"


def _pod_status(pod: Obj, _: datetime) -> str:
    if metadata(pod).get("deletionTimestamp"):
        return "Terminating"
    reason = dig(pod, "status", "reason") or dig(pod, "status", "phase") or "Pending"
    for one in dig(pod, "status", "containerStatuses") or []:
        state = dig(one, "state", "waiting") or dig(one, "state", "terminated") or {}
        reason = state.get("reason") or reason
    return str(reason)


def _restarts(pod: Obj, _: datetime) -> str:
    return str(sum(int(one.get("restartCount", 0)) for one in dig(pod, "status", "containerStatuses") or []))


def _replicas(deployment: Obj, _: datetime) -> str:
    return f"{dig(deployment, 'status', 'readyReplicas') or 0}/{dig(deployment, 'spec', 'replicas') or 0}"


def _template(field: str) -> Callable[[Obj, datetime], str]:
    def cell(obj: Obj, _: datetime) -> str:
        containers = dig(obj, "spec", "template", "spec", "containers") or []
        return ",".join(str(one.get(field, "")) for one in containers)

    return cell


def _labels(*path: str) -> Callable[[Obj, datetime], str]:
    return lambda obj, _: _pairs(dig(obj, *path))


def _slice_ports(slice_: Obj, _: datetime) -> str:
    ports = slice_.get("ports") or []
    return _joined([port.get("port", "*") for port in ports]) if ports else "<unset>"


def _slice_endpoints(slice_: Obj, _: datetime) -> str:
    endpoints = slice_.get("endpoints") or []
    return (
        _joined([address for one in endpoints for address in one.get("addresses") or []]) if endpoints else "<unset>"
    )


def _endpoints(endpoints: Obj, _: datetime) -> str:
    shown = []
    for subset in endpoints.get("subsets") or []:
        for address in subset.get("addresses") or []:
            host = f"[{address['ip']}]" if ":" in address["ip"] else address["ip"]
            shown += [f"{host}:{port['port']}" for port in subset.get("ports") or []] or [address["ip"]]
    return _joined(shown)


def _node_status(node: Obj, _: datetime) -> str:
    ready = [one for one in dig(node, "status", "conditions") or [] if one.get("type") == "Ready"]
    state = ("Ready" if ready[0].get("status") == "True" else "NotReady") if ready else "Unknown"
    return state + (",SchedulingDisabled" if dig(node, "spec", "unschedulable") else "")


def _node_roles(node: Obj, _: datetime) -> str:
    prefix = "node-role.kubernetes.io/"
    roles = [key.removeprefix(prefix) for key in metadata(node).get("labels") or {} if key.startswith(prefix)]
    return ",".join(sorted(role for role in roles if role)) or NONE


def _node_address(type_: str) -> Callable[[Obj, datetime], str]:
    def cell(node: Obj, _: datetime) -> str:
        addresses = dig(node, "status", "addresses") or []
        return next((str(one["address"]) for one in addresses if one.get("type") == type_), NONE)

    return cell


def _event_seen(event: Obj, now: datetime) -> str:
    return _since(event.get("lastTimestamp") or event.get("eventTime") or event.get("firstTimestamp"), now)


def _event_object(event: Obj, _: datetime) -> str:
    involved = event.get("involvedObject") or {}
    return f"{str(involved.get('kind', '')).lower()}/{involved.get('name', '')}"


def _message(event: Obj, _: datetime) -> str:
    return str(event.get("message") or "").strip()


def _of_definition(kind: Kind) -> list[Column]:
    """The columns of a custom resource's definition (upstream: apiextensions-apiserver's `tableconvertor`)."""
    return [_NAME, *(Column(one.name, _at(one), one.wide, one.type) for one in custom.columns(kind))]


def _at(column: custom.CustomColumn) -> Callable[[Obj, datetime], Any]:
    def cell(obj: Obj, now: datetime) -> Any:
        value = custom.value_at(obj, column.path)
        if column.type != "date" or value is None:
            return value
        try:
            return _since(value, now)
        except ValueError:
            return "<invalid>"

    return cell


_NAME, _AGE = Column("Name", _name), Column("Age", _age)
_ANY = (_NAME, _AGE)
_TEMPLATE = (
    Column("Containers", _template("name"), True),
    Column("Images", _template("image"), True),
    Column("Selector", _labels("spec", "selector", "matchLabels"), True),
)

_COLUMNS: dict[tuple[str, str], Sequence[Column]] = {
    ("", "Namespace"): (_NAME, Column("Status", _field("status", "phase")), _AGE),
    ("", "Service"): (
        _NAME,
        Column("Type", _field("spec", "type")),
        Column("Cluster-IP", _field("spec", "clusterIP")),
        Column("External-IP", _external_ip),
        Column("Port(s)", _service_ports),
        _AGE,
        Column("Selector", _labels("spec", "selector"), True),
    ),
    ("", "Endpoints"): (_NAME, Column("Endpoints", _endpoints), _AGE),
    ("discovery.k8s.io", "EndpointSlice"): (
        _NAME,
        Column("AddressType", _field("addressType")),
        Column("Ports", _slice_ports),
        Column("Endpoints", _slice_endpoints),
        _AGE,
    ),
    ("", "Pod"): (
        _NAME,
        Column("Ready", _containers_ready),
        Column("Status", _pod_status),
        Column("Restarts", _restarts),
        _AGE,
        Column("IP", _field("status", "podIP"), True),
        Column("Node", _field("spec", "nodeName"), True),
        Column("Nominated Node", _field("status", "nominatedNodeName"), True),
        Column("Readiness Gates", lambda _obj, _now: NONE, True),
    ),
    ("", "Node"): (
        _NAME,
        Column("Status", _node_status),
        Column("Roles", _node_roles),
        _AGE,
        Column("Version", _field("status", "nodeInfo", "kubeletVersion", default="")),
        Column("Internal-IP", _node_address("InternalIP"), True),
        Column("External-IP", _node_address("ExternalIP"), True),
        Column("OS-Image", _field("status", "nodeInfo", "osImage", default=UNKNOWN), True),
        Column("Kernel-Version", _field("status", "nodeInfo", "kernelVersion", default=UNKNOWN), True),
        Column("Container-Runtime", _field("status", "nodeInfo", "containerRuntimeVersion", default=UNKNOWN), True),
    ),
    ("", "Event"): (
        Column("Last Seen", _event_seen),
        Column("Type", _field("type", default="")),
        Column("Reason", _field("reason", default="")),
        Column("Object", _event_object),
        Column("Subobject", _field("involvedObject", "fieldPath", default=""), True),
        Column("Source", _field("source", "component", default=""), True),
        Column("Message", _message),
        Column("First Seen", lambda event, now: _since(event.get("firstTimestamp"), now), True),
        Column("Count", _field("count", default=1), True, "integer"),
        Column("Name", _name, True),
    ),
    ("apps", "Deployment"): (
        _NAME,
        Column("Ready", _replicas),
        Column("Up-to-date", _field("status", "updatedReplicas", default=0), type="integer"),
        Column("Available", _field("status", "availableReplicas", default=0), type="integer"),
        _AGE,
        *_TEMPLATE,
    ),
    ("apps", "StatefulSet"): (_NAME, Column("Ready", _replicas), _AGE, *_TEMPLATE[:2]),
    ("apps", "ReplicaSet"): (
        _NAME,
        Column("Desired", _field("spec", "replicas", default=0), type="integer"),
        Column("Current", _field("status", "replicas", default=0), type="integer"),
        Column("Ready", _field("status", "readyReplicas", default=0), type="integer"),
        _AGE,
        *_TEMPLATE,
    ),
}
