"""The OpenAPI documents, version 3, that `kubectl` asks for before it writes.

It looks for one thing: whether the server validates fields itself, which the query parameter `fieldValidation` of the
kind's PATCH shows. Then kubectl needs no schema. Version 2, which kubectl before 1.27 reads, is not served.
"""

from collections.abc import Sequence

from moorage.api.kinds import Kind
from moorage_lab.apiserver.objects import Obj

_QUERY = ("fieldValidation", "fieldManager", "dryRun")


def index(kinds: Sequence[Kind]) -> Obj:
    """`/openapi/v3`: the path of the document of each group and version."""
    paths = dict.fromkeys(_prefix(kind) for kind in kinds)
    return {"paths": {path: {"serverRelativeURL": f"/openapi/v3/{path}"} for path in paths}}


def v3(kinds: Sequence[Kind], path: str) -> Obj | None:
    """The document of one group and version (`api/v1`, `apis/apps/v1`); None if there is none."""
    chosen = [kind for kind in kinds if _prefix(kind) == path]
    if not chosen:
        return None
    parameters = [{"name": name, "in": "query", "schema": {"type": "string"}} for name in _QUERY]
    paths: Obj = {}
    for kind in chosen:
        operation = {
            "operationId": f"patch{kind.kind}",
            "parameters": parameters,
            "x-kubernetes-action": "patch",
            "x-kubernetes-group-version-kind": _gvk(kind),
            "responses": {"200": {"description": "OK"}},
        }
        paths[_path(kind)] = {"patch": operation}
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1"},
        "paths": paths,
        "components": {"schemas": {}},
    }


def _prefix(kind: Kind) -> str:
    return f"apis/{kind.api_version}" if kind.group else f"api/{kind.api_version}"


def _path(kind: Kind) -> str:
    namespace = "/namespaces/{namespace}" if kind.namespaced else ""
    return f"/{_prefix(kind)}{namespace}/{kind.plural}/{{name}}"


def _gvk(kind: Kind) -> Obj:
    return {"group": kind.group, "version": kind.version, "kind": kind.kind}
