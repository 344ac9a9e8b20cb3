"""Mooring objects: which one belongs to a client, what a person has requested there, and how a step is written."""

from collections.abc import Container, Iterable
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from moorage.api import contract
from moorage.api.meta import ObjectKey, ObjectMeta
from moorage.api.moorage_v1alpha1 import KINDS_OF_NODES
from moorage.api.mooring_names import mooring_name
from moorage.api.moorings_v1alpha1 import (
    MAX_PAST_MOVES,
    Mooring,
    MooringClient,
    MooringSpec,
    MooringStatus,
    PastMove,
)
from moorage.core.model import Create, Delete, Patch
from moorage.core.mooring_model import ClientKey, Moored, Move, Reason


class Step(NamedTuple):
    """A client comes to an endpoint."""

    endpoint: str
    reason: Reason
    why: str
    """The cause, as a clause."""
    home: str
    """The endpoint to which it may return later."""
    past: MooringStatus | None = None
    """Its record in the group that it comes from; that stays as it is."""


def client_of(mooring: Mooring) -> ClientKey:
    """The client that a Mooring belongs to."""
    return ClientKey(mooring.spec.client.kind, mooring.spec.client.name)


def requested(mooring: Mooring) -> str | None:
    """The endpoint that a person has requested and where the client is not yet; None if there is no such request."""
    return mooring.spec.endpoint if mooring.spec.endpoint != mooring.status.endpoint else None


def rank(mooring: Mooring) -> tuple[bool, str, str]:
    """Of several Moorings of a client the one with a record counts, then the oldest, then the first by name."""
    return mooring.status.endpoint is None, mooring.metadata.creation_timestamp or "", mooring.metadata.name


def created(group: ObjectKey, client: ClientKey, step: Step, now: str, names: Container[str]) -> Create:
    """The write that makes the Mooring of a new client. `names` are in use: people may choose any name."""
    name = free = mooring_name(group.name, client.kind, client.name)
    number = 2
    while free in names:
        free, number = f"{name}.{number}", number + 1
    return Create(
        Mooring(
            api_version="moorage.dev/v1alpha1",
            kind="Mooring",
            metadata=contract.encode_mooring(group.name, client.kind, client.name).on(
                ObjectMeta(name=free, namespace=group.namespace)
            ),
            spec=MooringSpec(
                group=group.name, client=MooringClient(kind=client.kind, name=client.name), endpoint=step.endpoint
            ),
            status=replace(step.past, message=None) if step.past else _recorded(MooringStatus(), step, now),
        )
    )


def patched(mooring: Mooring, step: Step | None, message: str | None, now: str) -> Patch | None:
    """The write that records a step and sets the message; None if nothing changes, or the object is being deleted.

    It sets spec.endpoint, too. But if there is a message, spec.endpoint holds a request that cannot be fulfilled at
    the moment, and keeps it. Those of nodes and zones get the labels by which node agents find them: people make
    Moorings without.
    """
    old, meta = mooring.status, mooring.metadata
    new = replace(_recorded(old, step, now) if step else old, message=message)
    body: dict[str, Any] = {}
    if new != old:
        body["status"] = _difference(old, new)
    if step and message is None and step.endpoint != mooring.spec.endpoint:
        body["spec"] = {"endpoint": step.endpoint}
    marks = unmarked(mooring)
    if not (body or marks) or meta.deletion_timestamp is not None:
        return None
    body["metadata"] = {"uid": meta.uid, "resourceVersion": meta.resource_version, **marks}
    return Patch(Mooring, meta.namespace or "", meta.name, body)


def unmarked(mooring: Mooring) -> dict[str, Any]:
    """The merge patch of its metadata with labels that it lacks: those of nodes and zones are found by them."""
    client = mooring.spec.client
    if client.kind not in KINDS_OF_NODES:
        return {}
    return contract.encode_mooring(mooring.spec.group, client.kind, client.name).patch(mooring.metadata)


def deleted(mooring: Mooring) -> Delete | None:
    """The write that deletes a Mooring; None if it is being deleted already."""
    meta = mooring.metadata
    if meta.deletion_timestamp is not None:
        return None
    return Delete(Mooring, meta.namespace or "", meta.name, meta.uid or "", meta.resource_version or "")


def as_written(moored: Moored, undone: Iterable[Move]) -> Moored:
    """The same without moves that are not written: what is published follows from Moorings."""
    changed: dict[str, set[str]] = {}

    def names(endpoint: str) -> set[str]:
        if endpoint not in changed:
            changed[endpoint] = set(moored.at.get(endpoint, ()))
        return changed[endpoint]

    for move in undone:
        names(move.endpoint).discard(move.client.key.name)
        if move.previous:
            names(move.previous).add(move.client.key.name)
    if not changed:
        return moored
    at = {**moored.at, **{endpoint: tuple(sorted(names)) for endpoint, names in changed.items()}}
    return moored._replace(at={endpoint: at[endpoint] for endpoint in sorted(at) if at[endpoint]})


def _recorded(before: MooringStatus, step: Step, now: str) -> MooringStatus:
    move = PastMove(time=now, endpoint=step.endpoint, reason=step.reason)
    return MooringStatus(
        endpoint=step.endpoint,
        since=now,
        reason=step.reason,
        previous=before.endpoint,
        home=step.home,
        moves=[move, *(before.moves or ())][:MAX_PAST_MOVES],
    )


def _difference(old: MooringStatus, new: MooringStatus) -> dict[str, Any]:
    """The fields of a merge patch (RFC 7386) from `old` to `new`."""
    before, after = msgspec.to_builtins(old), msgspec.to_builtins(new)
    return {field: after.get(field) for field in {**before, **after} if before.get(field) != after.get(field)}
