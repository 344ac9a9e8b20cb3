"""REST paths of objects."""

from typing import Any, TypeVar

import msgspec

from moorage.api.kinds import Kind, find_kind, kind_of
from moorage.api.meta import Object
from moorage.api.show import show
from moorage.errors import MoorageError

T = TypeVar("T", bound=Object)


def object_path(kind: Kind, namespace: str | None, name: str | None, subresource: str | None = None) -> str:
    """The path of one object. Raises MoorageError if a name or namespace is missing or cannot be in a path.

    An empty name must never pass: its path is that of the collection, and DELETE would empty it.
    """
    _check(kind, "name", name)
    if kind.namespaced:
        _check(kind, "namespace", namespace)
    return kind.path(namespace, name, subresource)


def collection_path(kind: Kind, namespace: str | None) -> str:
    """The path of all objects of a kind in one namespace, or with None in all. Raises as `object_path` does."""
    if namespace is not None:
        _check(kind, "namespace", namespace)
    return kind.path(namespace)


def creation_path(kind: Kind, namespace: str | None) -> str:
    """The path to post a new object to. Raises as `object_path` does."""
    if kind.namespaced:
        _check(kind, "namespace", namespace)
    return kind.path(namespace)


def manifest_kind(manifest: dict[str, Any]) -> Kind:
    """The kind of an unstructured manifest that has metadata; MoorageError for any other."""
    api_version, name = manifest.get("apiVersion"), manifest.get("kind")
    kind = find_kind(str(api_version), str(name))
    if kind is None:
        raise MoorageError(f"manifest: apiVersion and kind: {show(api_version)} {show(name)} is not a known kind")
    if not isinstance(manifest.get("metadata"), dict):
        raise MoorageError(f"{kind.kind}: metadata: is missing")
    return kind


def manifest_path(manifest: dict[str, Any]) -> str:
    """The path of the object in an unstructured manifest. Raises as `manifest_kind` and `object_path` do."""
    kind, metadata = manifest_kind(manifest), manifest["metadata"]
    return object_path(kind, metadata.get("namespace"), metadata.get("name"))


def with_type(obj: T) -> T:
    """`obj` with its apiVersion and kind, which the items of a list lack."""
    kind = kind_of(type(obj))
    return msgspec.structs.replace(obj, api_version=kind.api_version, kind=kind.kind)


def _check(kind: Kind, field: str, value: object) -> None:
    if not value:
        raise MoorageError(f"{kind.kind}: metadata.{field}: is missing")
    if (
        not isinstance(value, str)
        or value in (".", "..")
        or any(c in "/%?#" or c.isspace() or not c.isprintable() for c in value)
    ):
        raise MoorageError(f"{kind.kind}: metadata.{field}: {show(value)} is not a name")
