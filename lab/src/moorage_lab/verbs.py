"""What kubectl does with objects of any kind; each verb returns the text that kubectl would print."""

import json
from collections.abc import Callable, Iterable
from typing import Any, Literal

from moorage.api.kinds import KINDS, Kind, named
from moorage.api.manifest_yaml import TextError, documents
from moorage.api.yaml_text import dump
from moorage.cli.columns import columns_of
from moorage.cluster.client import MERGE_PATCH, Client
from moorage.cluster.errors import AnswerError, ApiError
from moorage.cluster.paths import collection_path, manifest_kind, manifest_path, object_path
from moorage.errors import MoorageError

Output = Literal["", "wide", "yaml", "json", "name"]
Manifest = dict[str, Any]
PatchType = Literal["merge", "json", "strategic"]

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
_PATCH_TYPES: dict[PatchType, str] = {
    "merge": MERGE_PATCH,
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
}
_ORDER = ("Namespace", "Node", "Service", "Endpoints", "EndpointSlice", "Deployment")
"""Objects that others need come first: namespaces before everything, Services before the pods that look them up."""


def resolve(resource: str) -> Kind:
    """The kind for `svc`, `service`, `services` or `deployments.apps`; MoorageError for an unknown one."""
    kind = named(resource)
    if kind is None:
        raise MoorageError(f"resource {resource!r}: unknown; there are: {', '.join(kind.plural for kind in KINDS)}")
    return kind


def full_name(kind: Kind, name: str) -> str:
    """`service/backend`, `deployment.apps/frontend`: how kubectl names an object."""
    return f"{_singular(kind)}/{name}"


def in_order(manifests: Iterable[Manifest]) -> list[Manifest]:
    """The manifests in the order to apply them; manifests of one kind keep their order."""
    return sorted(manifests, key=lambda m: _ORDER.index(m["kind"]) if m.get("kind") in _ORDER else len(_ORDER))


async def apply(
    client: Client, manifests: Iterable[Manifest], *, field_manager: str = "kubectl", force: bool = False
) -> str:
    """Server-side apply of all manifests, one result line each: `service/backend serverside-applied`.

    A manifest without namespace goes to the client's. Nothing is sent before all kinds and names have been checked.
    Then, as with kubectl, a refused object does not stop the others; PartlyDoneError says what was done.

    The field manager is kubectl's, so that a person can go on with `kubectl apply --server-side`: with another
    manager, a field would stay after it has been removed from the file.
    """
    prepared = [_prepare(client, manifest) for manifest in in_order(manifests)]
    lines: list[str] = []
    refusals: list[str] = []
    conflict = False
    for kind, manifest in prepared:
        name = manifest["metadata"]["name"]
        try:
            await client.apply(manifest, field_manager=field_manager, force=force)
        except ApiError as error:
            refusals.append(f"{full_name(kind, name)}: {error}")
            conflict |= error.status == 409
        else:
            lines.append(f"{full_name(kind, name)} serverside-applied")
    if refusals:
        raise PartlyDoneError("; ".join(refusals), "\n".join(lines), conflict)
    return "\n".join(lines)


async def get(
    client: Client,
    kind: Kind,
    name: str | None = None,
    *,
    namespace: str | None = None,
    all_namespaces: bool = False,
    label_selector: str | None = None,
    output: Output = "",
) -> str:
    """One object or all of a kind, in the server's columns or as YAML, JSON or names.

    `namespace` None is the client's own. Raises ApiError 404 for an object that does not exist.
    """
    namespace = (namespace or client.config.namespace) if not all_namespaces else None
    if name is None:
        path = collection_path(kind, namespace)
    elif all_namespaces:
        raise MoorageError(f"{full_name(kind, name)}: an object cannot be fetched by name from all namespaces")
    else:
        path = object_path(kind, namespace, name)
    params = {"labelSelector": label_selector if name is None else None}
    if output in ("", "wide"):
        table = await client.raw("GET", path, params=params, accept=TABLE)
        text = render_table(table, wide=output == "wide", namespaces=all_namespaces and kind.namespaced)
        where = f" in {namespace} namespace" if namespace and kind.namespaced else ""
        return text or f"No resources found{where}."
    answer = await client.raw("GET", path, params=params)
    # The items of a list have no kind.
    of_kind = {"apiVersion": kind.api_version, "kind": kind.kind}
    objects = [answer] if name is not None else [{**of_kind, **item} for item in answer.get("items") or []]
    if output == "name":
        return "\n".join(full_name(kind, obj["metadata"]["name"]) for obj in objects)
    for obj in objects:
        obj["metadata"].pop("managedFields", None)
    shown = objects[0] if name is not None else {"apiVersion": "v1", "kind": "List", "items": objects}
    if output == "json":
        return json.dumps(shown, indent=4)
    return dump(shown, sort_keys=True).rstrip()


async def patch(
    client: Client, kind: Kind, name: str, body: object, *, type_: PatchType = "merge", namespace: str | None = None
) -> str:
    """Send a patch of one object: `service/backend patched`."""
    path = object_path(kind, namespace or client.config.namespace, name)
    params = {"fieldManager": "kubectl-patch"}
    await client.raw("PATCH", path, params=params, body=body, content_type=_PATCH_TYPES[type_])
    return f"{full_name(kind, name)} patched"


async def edit(
    client: Client, kind: Kind, name: str, editor: Callable[[str], str | None], *, namespace: str | None = None
) -> str:
    """Have `editor` change the YAML of one object, and send it: `service/backend edited`.

    Raises MoorageError for what is not one object, and ApiError 409 if it has been changed meanwhile.
    """
    path = object_path(kind, namespace or client.config.namespace, name)
    before = await get(client, kind, name, namespace=namespace, output="yaml")
    edited = parse(editor(f"{before}\n") or before)
    if edited == parse(before):
        return "Edit cancelled, no changes made."
    await client.raw("PUT", path, params={"fieldManager": "kubectl-edit"}, body=edited)
    return f"{full_name(kind, name)} edited"


def parse(text: str) -> object:
    """The value that somebody has typed as YAML or JSON. Raises MoorageError for what is not one."""
    values = list(documents(text))
    if len(values) != 1:
        raise MoorageError(f"{len(values)} documents in place of one; leave one")
    [value] = values
    if isinstance(value, TextError):
        raise MoorageError(f"not JSON or YAML: {value}")
    return value.value


async def delete(client: Client, kind: Kind, name: str, *, namespace: str | None = None) -> str:
    """Delete one object: `service "backend" deleted`. Does not wait for its finalizers."""
    await client.delete(kind.type, (namespace or client.config.namespace) if kind.namespaced else None, name)
    return f'{_singular(kind)} "{name}" deleted'


async def delete_manifests(client: Client, manifests: Iterable[Manifest]) -> str:
    """Delete the objects that the manifests name, in the reverse of the order in which they are applied.

    An object that does not exist is no error; its line says so.
    """
    lines = []
    for kind, manifest in reversed([_prepare(client, manifest) for manifest in in_order(manifests)]):
        metadata = manifest["metadata"]
        try:
            lines.append(await delete(client, kind, metadata["name"], namespace=metadata.get("namespace")))
        except ApiError as error:
            if error.status != 404:
                raise
            lines.append(f'{_singular(kind)} "{metadata["name"]}" not found')
    return "\n".join(lines)


async def scale(client: Client, kind: Kind, name: str, replicas: int, *, namespace: str | None = None) -> str:
    """Set the number of replicas: `deployment.apps/backend1 scaled`."""
    if "scale" not in kind.subresources:
        can = ", ".join(kind.plural for kind in KINDS if "scale" in kind.subresources)
        raise MoorageError(f"{full_name(kind, name)}: cannot be scaled; only these can: {can}")
    if replicas < 0:
        raise MoorageError(f"{full_name(kind, name)}: replicas: {replicas} is negative")
    path = object_path(kind, namespace or client.config.namespace, name, "scale")
    await client.raw("PATCH", path, body={"spec": {"replicas": replicas}}, content_type=MERGE_PATCH)
    return f"{full_name(kind, name)} scaled"


async def cordon(client: Client, name: str, *, on: bool = True) -> str:
    """Have a node take no more pods, or with `on` False, take them again: `node/node-1 cordoned`."""
    done = "cordoned" if on else "uncordoned"
    kind = resolve("node")
    path = object_path(kind, None, name)
    before = await client.raw("GET", path)
    if bool(before.get("spec", {}).get("unschedulable")) is on:
        return f"{full_name(kind, name)} already {done}"
    await client.raw("PATCH", path, body={"spec": {"unschedulable": on or None}}, content_type=MERGE_PATCH)
    return f"{full_name(kind, name)} {done}"


class PartlyDoneError(MoorageError):
    """Some objects were refused. `done`: the lines about the others; `conflict`: whether force would have helped."""

    def __init__(self, message: str, done: str, conflict: bool) -> None:
        super().__init__(message)
        self.done = done
        self.conflict = conflict


def render_table(table: Manifest, *, wide: bool = False, namespaces: bool = False) -> str:
    """A `meta.k8s.io/v1 Table` in kubectl's columns; columns with a priority only if `wide`.

    Empty if there are no rows. Raises AnswerError for anything but a table.
    """
    if table.get("kind") != "Table":
        raise AnswerError(f"asked for a Table, got {table.get('kind')!r}")
    columns = table.get("columnDefinitions") or []
    shown = [index for index, column in enumerate(columns) if wide or not column.get("priority")]
    rows = table.get("rows") or []
    if not rows:
        return ""
    text = [[columns[index]["name"].upper() for index in shown]]
    text += [[_cell(row["cells"][index]) for index in shown] for row in rows]
    if namespaces:
        for line, of in zip(
            text, ["NAMESPACE", *(row["object"]["metadata"]["namespace"] for row in rows)], strict=True
        ):
            line.insert(0, of)
    return columns_of(text)


def _cell(value: object) -> str:
    if value is None:
        return "<none>"
    if isinstance(value, bool):
        return str(value).lower()
    # Escape sequences in an object must not reach the terminal.
    return "".join(c if c.isprintable() else "?" for c in str(value).partition("\n")[0])


def _singular(kind: Kind) -> str:
    word = kind.kind.lower()
    return f"{word}.{kind.group}" if kind.group else word


def _prepare(client: Client, manifest: Manifest) -> tuple[Kind, Manifest]:
    """The manifest's kind, and the manifest with a namespace if it needs one. Raises as `manifest_path` does."""
    kind, metadata = manifest_kind(manifest), manifest["metadata"]
    if kind.namespaced and not metadata.get("namespace"):
        manifest = {**manifest, "metadata": {**metadata, "namespace": client.config.namespace}}
    manifest_path(manifest)
    return kind, manifest
