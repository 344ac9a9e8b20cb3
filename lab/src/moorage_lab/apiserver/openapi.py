"""The OpenAPI documents that `kubectl` asks for before it writes.

It looks in them for one thing: whether the server validates fields itself, which shows as a query parameter
`fieldValidation` on the kind's PATCH. With it, no kubectl since 1.25 needs a schema; older ones skip a kind that
has none. Version 2 is fetched as protobuf only (gnostic's `openapi.v2.Document`).
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from moorage.api.kinds import Kind
from moorage_lab.apiserver.objects import Obj

V2_PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
"""Clients ask with `@v1.0`, which Go refuses in an answer: it is no media type."""
_QUERY = ("fieldValidation", "fieldManager", "dryRun")


def index(kinds: Sequence[Kind]) -> Obj:
    """`/openapi/v3`: where the document of each group and version is."""
    paths = dict.fromkeys(_prefix(kind) for kind in kinds)
    return {"paths": {path: {"serverRelativeURL": f"/openapi/v3/{path}"} for path in paths}}


def v3(kinds: Sequence[Kind], path: str) -> Obj | None:
    """The document of one group and version (`api/v1`, `apis/apps/v1`), None where there is none such."""
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


def v2(kinds: Sequence[Kind]) -> Obj:
    """`/openapi/v2` as JSON."""
    paths: Obj = {}
    for kind in kinds:
        parameters = [{"name": name, "in": "query", "type": "string"} for name in _QUERY]
        paths[_path(kind)] = {
            "patch": {
                "operationId": f"patch{kind.kind}",
                "parameters": parameters,
                "x-kubernetes-action": "patch",
                "x-kubernetes-group-version-kind": _gvk(kind),
                "responses": {"200": {"description": "OK"}},
            }
        }
    return {"swagger": "2.0", "info": {"title": "Kubernetes", "version": "v1"}, "paths": paths, "definitions": {}}


def v2_protobuf(kinds: Sequence[Kind]) -> bytes:
    """`/openapi/v2` in gnostic's protobuf form: the same paths, with field numbers of its `OpenAPIv2.proto`."""
    document = _bytes(1, b"2.0") + _bytes(2, _bytes(1, b"Kubernetes") + _bytes(2, b"v1"))
    paths = b""
    for kind in kinds:
        operation = _bytes(5, f"patch{kind.kind}".encode())
        for name in _QUERY:
            parameter = _bytes(2, b"query") + _bytes(4, name.encode()) + _bytes(5, b"") + _bytes(6, b"string")
            # ParametersItem.parameter > Parameter.non_body_parameter > NonBodyParameter.query_parameter_sub_schema
            operation += _bytes(8, _bytes(1, _bytes(2, _bytes(3, parameter))))
        operation += _bytes(13, _named_any("x-kubernetes-group-version-kind", _gvk(kind)))
        paths += _bytes(2, _bytes(1, _path(kind).encode()) + _bytes(2, _bytes(8, operation)))
    return document + _bytes(8, paths)


def _named_any(name: str, value: Any) -> bytes:
    return _bytes(1, name.encode()) + _bytes(2, _bytes(2, msgspec.json.encode(value)))


def _bytes(number: int, value: bytes) -> bytes:
    """A length-delimited protobuf field."""
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _prefix(kind: Kind) -> str:
    return f"apis/{kind.api_version}" if kind.group else f"api/{kind.api_version}"


def _path(kind: Kind) -> str:
    namespace = "/namespaces/{namespace}" if kind.namespaced else ""
    return f"/{_prefix(kind)}{namespace}/{kind.plural}/{{name}}"


def _gvk(kind: Kind) -> Obj:
    return {"group": kind.group, "version": kind.version, "kind": kind.kind}
