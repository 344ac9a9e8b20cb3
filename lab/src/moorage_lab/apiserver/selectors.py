"""Label and field selectors (apimachinery's `labels` and `fields`)."""

import re
from collections.abc import Callable
from typing import NamedTuple

from moorage.api.kinds import Kind
from moorage_lab.apiserver.objects import Obj, dig, metadata
from moorage_lab.apiserver.status import bad_request

Predicate = Callable[[Obj], bool]


class Requirement(NamedTuple):
    """One label requirement; `operator` is one of in, notin, exists, absent."""

    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def matches(self, labels: dict[str, str]) -> bool:
        # A label that is absent satisfies notin (and !=), as in Kubernetes.
        value = labels.get(self.key)
        match self.operator:
            case "in":
                return value is not None and value in self.values
            case "notin":
                return value is None or value not in self.values
            case "exists":
                return value is not None
            case _:
                return value is None


_KEY = r"[A-Za-z0-9](?:[A-Za-z0-9._/-]*[A-Za-z0-9])?"
_VALUE = r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)?"
_SET = re.compile(rf"^({_KEY})\s+(in|notin)\s+\(([^()]*)\)$")
_EQUAL = re.compile(rf"^({_KEY})\s*(==|=|!=)\s*({_VALUE})$")
_EXISTS = re.compile(rf"^(!?)\s*({_KEY})$")


def parse_labels(text: str) -> list[Requirement]:
    """The requirements of a label selector, equality- and set-based; raises StatusError 400."""
    return [_requirement(part.strip(), text) for part in _split(text) if part.strip()]


def _split(text: str) -> list[str]:
    """Splits at commas that are not inside parentheses."""
    return re.split(r",(?![^()]*\))", text)


def _requirement(part: str, whole: str) -> Requirement:
    if found := _SET.match(part):
        values = frozenset(value.strip() for value in found[3].split(","))
        return Requirement(found[1], found[2], values)
    if found := _EQUAL.match(part):
        return Requirement(found[1], "notin" if found[2] == "!=" else "in", frozenset([found[3]]))
    if found := _EXISTS.match(part):
        return Requirement(found[2], "absent" if found[1] else "exists")
    raise bad_request(f"unable to parse requirement: {part!r} in label selector {whole!r}")


def label_predicate(text: str | None) -> Predicate | None:
    """The filter for a label selector; None if everything matches."""
    requirements = parse_labels(text or "")
    if not requirements:
        return None
    return lambda obj: all(one.matches(metadata(obj).get("labels") or {}) for one in requirements)


_COMMON = {"metadata.name", "metadata.namespace"}
_SUPPORTED: dict[tuple[str, str], set[str]] = {
    ("", "pods"): {
        *("spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName"),
        *("spec.hostNetwork", "status.phase", "status.podIP", "status.nominatedNodeName"),
    },
    ("", "events"): {
        *(f"involvedObject.{field}" for field in ("kind", "namespace", "name", "uid", "apiVersion", "fieldPath")),
        *("involvedObject.resourceVersion", "reason", "reportingComponent", "source", "type"),
    },
    ("", "nodes"): {"spec.unschedulable"},
    ("", "namespaces"): {"status.phase"},
    ("", "services"): {"spec.clusterIP", "spec.type"},
    ("apps", "replicasets"): {"status.replicas"},
}
_BOOLEANS = {"spec.hostNetwork", "spec.unschedulable"}


def field_predicate(kind: Kind, text: str | None) -> Predicate | None:
    """The filter for a field selector; None if everything matches. Raises StatusError 400 for an unsupported
    field."""
    wanted: list[tuple[str, bool, str]] = []
    for part in (text or "").split(","):
        if not part.strip():
            continue
        found = re.match(r"^\s*([A-Za-z.]+)\s*(==|=|!=)(.*)$", part)
        if found is None:
            raise bad_request(f"invalid selector: {text!r}; can't understand {part!r}")
        field, operator, value = found[1], found[2], found[3].strip()
        if field not in _COMMON | _SUPPORTED.get((kind.group, kind.plural), set()):
            raise bad_request(
                f'Unable to find "{kind.api_version}, Resource={kind.plural}" that match field '
                f'selector "{text}": field label not supported: {field}'
            )
        wanted.append((field, operator != "!=", value))
    if not wanted:
        return None
    return lambda obj: all((_text(obj, field) == value) is equal for field, equal, value in wanted)


def _text(obj: Obj, field: str) -> str:
    value = dig(obj, *field.split("."))
    if field == "source":
        value = dig(obj, "source", "component") or obj.get("reportingComponent")
    if field in _BOOLEANS:
        return "true" if value else "false"
    return "" if value is None else str(value)


def both(first: Predicate | None, second: Predicate | None) -> Predicate:
    """The filter that satisfies both; None means that everything matches."""
    return lambda obj: (first is None or first(obj)) and (second is None or second(obj))
