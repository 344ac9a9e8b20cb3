"""Kinds that have a CustomResourceDefinition: does what kube-apiserver does, with the same schema.

Defaults, unknown fields that are dropped, how lists merge, and the columns of tables.
"""

import copy
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

from moorage.api import crds
from moorage.api.kinds import Kind
from moorage.api.moorage_v1alpha1 import GROUP
from moorage_lab.apiserver.objects import Obj

_STEP = re.compile(r'\.([A-Za-z]+)|\[\?\(@\.([A-Za-z]+)=="([^"]*)"\)\]')


def is_custom(kind: Kind) -> bool:
    return kind.group == GROUP


def fill(kind: Kind, obj: Obj) -> None:
    """Put the schema's defaults into an object, in place. Parts of the wrong type are left as they are."""
    _fill(crds.schema(kind), obj)


def _fill(part: Obj, value: Any) -> None:
    if isinstance(value, dict):
        for name, inner in part.get("properties", {}).items():
            if "default" in inner:
                value.setdefault(name, copy.deepcopy(inner["default"]))
            if name in value:
                _fill(inner, value[name])
    elif isinstance(value, list) and "items" in part:
        for item in value:
            _fill(part["items"], item)


def pruned(kind: Kind, obj: Obj) -> Obj:
    """The object without the fields that the schema does not know; its metadata as it is."""
    return {**_pruned(crds.schema(kind), obj), "metadata": obj["metadata"]}


def _pruned(part: Obj, value: Any) -> Any:
    if isinstance(value, dict) and "additionalProperties" not in part and part.get("type") == "object":
        known = part.get("properties", {})
        return {name: _pruned(known[name], inner) for name, inner in value.items() if name in known}
    if isinstance(value, list) and "items" in part:
        return [_pruned(part["items"], item) for item in value]
    return value


class Merge(NamedTuple):
    """How server-side apply merges one field that is not merged by default."""

    fields: tuple[str, ...]
    keys: tuple[str, ...]
    """The keys of a list's items; none: the field is a map that is replaced as a whole."""


@cache
def merges(kind: Kind) -> tuple[Merge, ...]:
    """The merge rules from the list types and map types in the schema."""
    return tuple(_merges(crds.schema(kind)))


def _merges(schema: Obj) -> Iterator[Merge]:
    for path, part in crds.walk(schema):
        fields = tuple(path.replace("[]", "").replace("{}", "").split(".")[1:])
        if keys := part.get("x-kubernetes-list-map-keys"):
            yield Merge(fields, tuple(keys))
        elif part.get("x-kubernetes-map-type") == "atomic":
            yield Merge(fields, ())


class CustomColumn(NamedTuple):
    name: str
    type: str
    path: str
    wide: bool


@cache
def columns(kind: Kind) -> tuple[CustomColumn, ...]:
    """The definition's printer columns, in order."""
    found = crds.definition(kind)["spec"]["versions"][0]["additionalPrinterColumns"]
    return tuple(CustomColumn(one["name"], one["type"], one["jsonPath"], bool(one.get("priority"))) for one in found)


def value_at(obj: Obj, path: str) -> Any:
    """The value at a column's JSONPath, None if there is none. Knows fields, and `[?(@.type=="X")]` for list
    items."""
    value: Any = obj
    for name, key, wanted in _STEP.findall(path):
        if name:
            value = value.get(name) if isinstance(value, dict) else None
        else:
            items = value if isinstance(value, list) else []
            value = next((item for item in items if isinstance(item, dict) and item.get(key) == wanted), None)
    return value
