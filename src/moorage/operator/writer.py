"""Writes to the API server, each only while this process leads."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from moorage.api.kinds import kind_of
from moorage.api.meta import Object, ObjectKey, ObjectMeta
from moorage.api.moorage_v1alpha1 import ExternalService, ExternalServiceStatus
from moorage.cluster.client import MERGE_PATCH, Client
from moorage.cluster.errors import ApiError
from moorage.cluster.paths import object_path
from moorage.core.model import Create, Delete, Patch, Write
from moorage.operator.metrics import Metrics

R = TypeVar("R")


class StaleError(Exception):
    """The object has changed since the decision: decide again."""


class TakenError(StaleError):
    """An object of that name exists already."""


class RefusedError(Exception):
    """The API server refuses the write, and would refuse it again."""

    def __init__(self, what: str, error: ApiError) -> None:
        super().__init__(f"{what}: {error}")
        self.what = what
        self.error = error


class Writer:
    """Writes for one term of leadership.

    `check` is called right before each write, and raises if this process may no longer write. `wrote` gets each
    answer, and whether that write created the object; `gone` gets the objects that turn out not to exist.
    """

    def __init__(
        self,
        client: Client,
        metrics: Metrics,
        check: Callable[[], None],
        wrote: Callable[[Object, bool], None],
        gone: Callable[[type[Object], ObjectKey], None],
    ) -> None:
        self._client = client
        self._metrics = metrics
        self._check = check
        self._wrote = wrote
        self._gone = gone

    async def do(self, write: Write) -> None:
        """Write to a Service or a slice once.

        Raises StaleError if the object has changed (or unexpectedly exists, or is gone), RefusedError if the server
        refuses the write for good, and MoorageError if the write should be tried again.
        """
        match write:
            case Create(obj):
                kind, key = type(obj), obj.metadata.key
            case _:
                kind, key = write.kind, ObjectKey(write.namespace, write.name)
        verb = type(write).__name__.lower()
        self._check()
        try:
            match write:
                case Create(obj):
                    self._wrote(await self._client.create(obj), True)
                case Patch(kind, namespace, name, body):
                    self._wrote(await self._client.patch(kind, namespace, name, body), False)
                case Delete(kind, namespace, name, uid, version):
                    await self._client.delete(kind, namespace, name, uid=uid, resource_version=version)
        except ApiError as error:
            self._failed(kind, verb, key, error)
            if isinstance(write, Delete) and error.status == 404:
                return
            raise _classified(kind, key, verb, error) from None
        except Exception:
            self._metrics.writes.labels(kind_of(kind).kind, verb, "error").inc()
            raise
        self._metrics.writes.labels(kind_of(kind).kind, verb, "ok").inc()

    async def status(self, xsvc: ExternalService, status: ExternalServiceStatus) -> ExternalService:
        """Write the fields of the status that differ. Returns the new state of the object; raises as `do` does."""
        meta = xsvc.metadata
        key = meta.key
        body = {
            "metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version},
            "status": changes(xsvc.status, status),
        }
        written = await self._status(
            key, lambda: self._client.patch(ExternalService, *key, body, subresource="status")
        )
        self._wrote(written, False)
        return written

    async def status_of_unreadable(self, meta: ObjectMeta, status: ExternalServiceStatus) -> None:
        """Write these fields of the status of an ExternalService that cannot be read; raises as `do` does."""
        key = meta.key
        body = {
            "metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version},
            "status": msgspec.to_builtins(status),
        }
        path = object_path(kind_of(ExternalService), *key, "status")
        await self._status(key, lambda: self._client.raw("PATCH", path, body=body, content_type=MERGE_PATCH))

    async def _status(self, key: ObjectKey, write: Callable[[], Awaitable[R]]) -> R:
        self._check()
        try:
            written = await write()
        except ApiError as error:
            self._failed(ExternalService, "status", key, error)
            raise _classified(ExternalService, key, "status", error) from None
        except Exception:
            self._metrics.writes.labels("ExternalService", "status", "error").inc()
            raise
        self._metrics.writes.labels("ExternalService", "status", "ok").inc()
        return written

    def _failed(self, kind: type[Object], verb: str, key: ObjectKey, error: ApiError) -> None:
        if error.status == 404 and verb != "create":
            self._gone(kind, key)
        result = "conflict" if error.status in (404, 409) else "error"
        self._metrics.writes.labels(kind_of(kind).kind, verb, result).inc()


def describe(write: Write) -> str:
    """The write, for a log: `create EndpointSlice backend-1`."""
    match write:
        case Create(obj):
            kind, name = type(obj), obj.metadata.name
        case _:
            kind, name = write.kind, write.name
    return f"{type(write).__name__.lower()} {kind_of(kind).kind} {name}"


def changes(old: ExternalServiceStatus, new: ExternalServiceStatus) -> dict[str, Any]:
    """The merge patch (RFC 7386) from `old` to `new`: changed fields as a whole, None for removed ones."""
    before, after = msgspec.to_builtins(old), msgspec.to_builtins(new)
    return {field: after.get(field) for field in {**before, **after} if before.get(field) != after.get(field)}


def _classified(kind: type[Object], key: ObjectKey, verb: str, error: ApiError) -> Exception:
    what = f"{kind_of(kind).kind} {key}"
    if error.reason == "AlreadyExists":
        return TakenError(f"{what}: {error}")
    if error.status == 409 or (error.status == 404 and verb != "create"):
        return StaleError(f"{what}: {error}")
    if error.status == 422 and "metadata.uid" in error.message:
        return StaleError(f"{what}: {error}")  # this is how a merge patch states a precondition on the uid
    if error.status in (400, 403, 413, 422) or "request is too large" in error.message:
        return RefusedError(what, error)
    return error
