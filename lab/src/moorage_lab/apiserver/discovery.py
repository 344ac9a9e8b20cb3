"""The answers of `/api`, `/apis` and `/version`, and the object that a path means. All from the table of kinds."""

from collections.abc import Sequence
from typing import NamedTuple

from moorage.api.kinds import Kind
from moorage_lab.apiserver.objects import Obj

VERSION = "v1.37.2"
"""The Kubernetes release whose behaviour is imitated."""
_IN_ALL = ("pods", "services", "deployments", "replicasets", "externalservices")
"""What `kubectl get all` lists."""
_VERBS = ("create", "delete", "get", "list", "patch", "update", "watch")


class Target(NamedTuple):
    """What a path names: a collection (no name), an object, or a subresource of one."""

    kind: Kind
    namespace: str
    """`""`: cluster-scoped, or all namespaces."""
    name: str
    subresource: str


def resolve(kinds: Sequence[Kind], path: str) -> Target | None:
    """The target of a REST path with its parts already unquoted; None if there is no such resource."""
    parts = path.strip("/").split("/")
    if parts[0] == "api" and len(parts) >= 3:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) >= 4:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    if not all(rest):
        return None
    namespace = ""
    if len(rest) >= 3 and rest[0] == "namespaces" and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    if len(rest) > 3:
        return None
    plural, name, subresource = (*rest, "", "")[:3]
    for kind in kinds:
        if (kind.group, kind.version, kind.plural) == (group, version, plural):
            if (namespace and not kind.namespaced) or (name and kind.namespaced and not namespace):
                return None
            if subresource and subresource not in kind.subresources:
                return None
            return Target(kind, namespace, name, subresource)
    return None


def version() -> Obj:
    major, minor, _ = VERSION.removeprefix("v").split(".")
    return {
        "major": major,
        "minor": minor,
        "gitVersion": f"{VERSION}+moorage",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "",
        "platform": "linux/amd64",
    }


def group_versions(kinds: Sequence[Kind]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((kind.group, kind.version) for kind in kinds))


def document(kinds: Sequence[Kind], path: str) -> Obj | None:
    """The discovery document at a path; None if there is none."""
    parts = path.strip("/").split("/")
    versions = group_versions(kinds)
    match parts:
        case ["version"]:
            return version()
        case ["api"]:
            core = [one for group, one in versions if not group]
            return {"kind": "APIVersions", "versions": core, "serverAddressByClientCIDRs": []}
        case ["apis"]:
            groups = list(dict.fromkeys(group for group, _ in versions if group))
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(kinds, group) for group in groups]}
        case ["apis", group] if any(group and group == one for one, _ in versions):
            return {"kind": "APIGroup", "apiVersion": "v1", **_group(kinds, group)}
        case ["api", one] if ("", one) in versions:
            return _resources(kinds, "", one)
        case ["apis", group, one] if group and (group, one) in versions:
            return _resources(kinds, group, one)
    return None


def _group(kinds: Sequence[Kind], group: str) -> Obj:
    versions = [
        {"groupVersion": f"{group}/{one}", "version": one} for name, one in group_versions(kinds) if name == group
    ]
    return {"name": group, "versions": versions, "preferredVersion": versions[0]}


def _resources(kinds: Sequence[Kind], group: str, version: str) -> Obj:
    resources: list[Obj] = []
    for kind in kinds:
        if (kind.group, kind.version) != (group, version):
            continue
        resources.append(
            {
                "name": kind.plural,
                "singularName": kind.kind.lower(),
                "namespaced": kind.namespaced,
                "kind": kind.kind,
                "verbs": list(_VERBS),
                "shortNames": list(kind.short_names),
                **({"categories": ["all"]} if kind.plural in _IN_ALL else {}),
            }
        )
        for subresource in kind.subresources:
            entry = {
                "name": f"{kind.plural}/{subresource}",
                "singularName": "",
                "namespaced": kind.namespaced,
                "kind": kind.kind,
                "verbs": ["get", "patch", "update"],
            }
            if subresource == "scale":
                entry |= {"group": "autoscaling", "version": "v1", "kind": "Scale"}
            resources.append(entry)
    group_version = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources}
