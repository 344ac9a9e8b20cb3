"""How lists and maps of each kind merge, from `x-kubernetes-*` and `patchStrategy` marks of the upstream types.

Everything else has the default of structured-merge-diff: maps and structs merge field by field, lists are atomic
(replaced as a whole).
"""

from collections.abc import Mapping
from typing import NamedTuple

from moorage.api.kinds import Kind
from moorage_lab.apiserver import custom

Fields = tuple[str, ...]
"""Field names from the object's root; the items of a list add nothing."""


class Rule(NamedTuple):
    keys: Fields = ()
    """Server-side apply merges the list by these keys (`x-kubernetes-list-map-keys`)."""
    merge_key: str = ""
    """A strategic merge patch merges the list by this key (`patchMergeKey`)."""
    set: bool = False
    """A list of scalars merged as a set, by both."""
    atomic: bool = False
    """Server-side apply replaces the map as a whole (`x-kubernetes-map-type: atomic`)."""


Rules = Mapping[Fields, Rule]

KEY_DEFAULTS = {"protocol": "TCP"}
"""Keys that may be left out, with the default that the upstream schemas give them."""


def _by(key: str, *more: str) -> Rule:
    return Rule(keys=(key, *more), merge_key=key)


_ATOMIC_MAP = Rule(atomic=True)
_CONDITIONS: dict[Fields, Rule] = {("status", "conditions"): _by("type")}

_METADATA: dict[Fields, Rule] = {
    ("metadata", "ownerReferences"): _by("uid"),
    ("metadata", "finalizers"): Rule(set=True),
}

_CONTAINER: dict[Fields, Rule] = {
    ("env",): _by("name"),
    ("ports",): _by("containerPort", "protocol"),
    ("volumeMounts",): _by("mountPath"),
    ("volumeDevices",): _by("devicePath"),
    ("resources", "claims"): Rule(keys=("name",)),
}

_POD_SPEC: dict[Fields, Rule] = {
    ("containers",): _by("name"),
    ("initContainers",): _by("name"),
    ("ephemeralContainers",): _by("name"),
    ("volumes",): _by("name"),
    ("imagePullSecrets",): _by("name"),
    ("hostAliases",): _by("ip"),
    ("topologySpreadConstraints",): _by("topologyKey", "whenUnsatisfiable"),
    ("schedulingGates",): _by("name"),
    ("resourceClaims",): _by("name"),
    ("nodeSelector",): _ATOMIC_MAP,
    **{
        (containers, *fields): rule
        for containers in ("containers", "initContainers", "ephemeralContainers")
        for fields, rule in _CONTAINER.items()
    },
}


def _under(prefix: Fields, rules: Rules) -> dict[Fields, Rule]:
    return {(*prefix, *fields): rule for fields, rule in rules.items()}


_WORKLOAD: dict[Fields, Rule] = {
    **_CONDITIONS,
    ("spec", "selector"): _ATOMIC_MAP,
    **_under(("spec", "template"), _METADATA),
    **_under(("spec", "template", "spec"), _POD_SPEC),
}

_RULES: dict[tuple[str, str], Rules] = {
    ("", "Service"): {
        **_CONDITIONS,
        ("spec", "ports"): _by("port", "protocol"),
        ("spec", "selector"): _ATOMIC_MAP,
    },
    ("", "Pod"): {
        **_CONDITIONS,
        **_under(("spec",), _POD_SPEC),
        ("status", "podIPs"): _by("ip"),
        ("status", "hostIPs"): Rule(merge_key="ip"),
    },
    ("", "Node"): {
        **_CONDITIONS,
        ("spec", "podCIDRs"): Rule(set=True),
        ("status", "addresses"): _by("type"),
    },
    ("", "Namespace"): _CONDITIONS,
    ("", "Event"): {("involvedObject",): _ATOMIC_MAP, ("related",): _ATOMIC_MAP},
    ("", "Endpoints"): {},
    ("apps", "Deployment"): _WORKLOAD,
    ("apps", "ReplicaSet"): _WORKLOAD,
    ("apps", "StatefulSet"): _WORKLOAD,
    ("batch", "Job"): _WORKLOAD,
    ("discovery.k8s.io", "EndpointSlice"): {},
    ("", "Secret"): {},
    ("coordination.k8s.io", "Lease"): {},
    ("networking.k8s.io", "ServiceCIDR"): _CONDITIONS,
}


def rules_of(kind: Kind) -> Rules:
    """The merge rules of a kind; for a custom resource, those in its definition."""
    if custom.is_custom(kind):
        found = {one.fields: Rule(keys=one.keys, atomic=not one.keys) for one in custom.merges(kind)}
        return {**_METADATA, **found}
    return {**_METADATA, **_RULES.get((kind.group, kind.kind), {})}


def has_strategic_merge(kind: Kind) -> bool:
    """Whether the kind accepts strategic merge patches; custom resources do not."""
    return (kind.group, kind.kind) in _RULES
