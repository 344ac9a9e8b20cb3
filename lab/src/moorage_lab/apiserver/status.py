"""Errors as Kubernetes reports them: the `Status` kind (apimachinery's `api/errors`)."""

from collections.abc import Sequence
from typing import NamedTuple

from moorage.api.kinds import Kind
from moorage_lab.apiserver.objects import Obj

PROTOBUF = "application/vnd.kubernetes.protobuf"


class StatusError(Exception):
    """A request that is answered with a `Status`; `code` is the HTTP status."""

    def __init__(self, code: int, reason: str, message: str, details: Obj | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details

    def body(self) -> Obj:
        body: Obj = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "details": self.details,
            "code": self.code,
        }
        if self.details is None:
            del body["details"]
        return body


class Cause(NamedTuple):
    """One entry of `details.causes`."""

    reason: str
    message: str
    field: str

    def as_dict(self) -> Obj:
        return {"reason": self.reason, "message": self.message, "field": self.field}


def success(kind: Kind, name: str, uid: str) -> Obj:
    """The `Status` that answers a finished DELETE."""
    details = {"name": name, "group": kind.group, "kind": kind.plural, "uid": uid}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {key: value for key, value in details.items() if value},
    }


def _details(kind: Kind, name: str, **more: object) -> Obj:
    details = {"name": name, "group": kind.group, "kind": kind.plural, **more}
    return {key: value for key, value in details.items() if value}


def not_found(kind: Kind, name: str) -> StatusError:
    return StatusError(404, "NotFound", f'{kind.resource} "{name}" not found', _details(kind, name))


def no_such_path() -> StatusError:
    return StatusError(404, "NotFound", "the server could not find the requested resource", {})


def already_exists(kind: Kind, name: str) -> StatusError:
    return StatusError(409, "AlreadyExists", f'{kind.resource} "{name}" already exists', _details(kind, name))


def conflict(kind: Kind, name: str, why: str) -> StatusError:
    message = f'Operation cannot be fulfilled on {kind.resource} "{name}": {why}'
    return StatusError(409, "Conflict", message, _details(kind, name))


def modified(kind: Kind, name: str) -> StatusError:
    why = "the object has been modified; please apply your changes to the latest version and try again"
    return conflict(kind, name, why)


def apply_conflict(message: str, causes: Sequence[Cause]) -> StatusError:
    return StatusError(409, "Conflict", message, {"causes": [cause.as_dict() for cause in causes]})


def invalid(kind: Kind, name: str, causes: Sequence[Cause]) -> StatusError:
    """422 that lists every cause; `causes` must not be empty."""
    qualified = f"{kind.kind}.{kind.group}" if kind.group else kind.kind
    lines = [f"{cause.field}: {cause.message}" for cause in causes]
    text = lines[0] if len(lines) == 1 else "[" + ", ".join(lines) + "]"
    details = {"name": name, "group": kind.group, "kind": kind.kind, "causes": [cause.as_dict() for cause in causes]}
    details = {key: value for key, value in details.items() if value}
    return StatusError(422, "Invalid", f'{qualified} "{name}" is invalid: {text}', details)


def forbidden(kind: Kind, name: str, why: str, causes: Sequence[Cause] = ()) -> StatusError:
    message = f'{kind.resource} "{name}" is forbidden: {why}'
    listed = [cause.as_dict() for cause in causes]
    return StatusError(403, "Forbidden", message, _details(kind, name, causes=listed))


def bad_request(message: str) -> StatusError:
    return StatusError(400, "BadRequest", message)


def unprocessable(message: str) -> StatusError:
    """422 for a patch that does not fit the present object."""
    return StatusError(422, "Invalid", message, {})


def unauthorized() -> StatusError:
    return StatusError(401, "Unauthorized", "Unauthorized")


def expired(asked: int, oldest: int) -> StatusError:
    return StatusError(410, "Expired", f"too old resource version: {asked} ({oldest})")


def method_not_allowed() -> StatusError:
    message = "the server does not allow this method on the requested resource"
    return StatusError(405, "MethodNotAllowed", message, {})


def unsupported_media_type(media_type: str, accepted: Sequence[str]) -> StatusError:
    message = (
        "the body of the request was in an unknown format - accepted media types include: "
        f"{', '.join(accepted)}; got {media_type or 'none'}"
    )
    if media_type == PROTOBUF:  # `kubectl create KIND` and `kubectl autoscale` send their objects in this form
        message += "; write a manifest in its place: kubectl create ... --dry-run=client -o yaml | kubectl apply -f -"
    return StatusError(415, "UnsupportedMediaType", message, {})


def injected(code: int, retry_after: int | None = None) -> StatusError:
    """An error that a test asked for; `retry_after` in seconds."""
    reason = {429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable", 504: "Timeout"}.get(code, "")
    details: Obj = {} if retry_after is None else {"retryAfterSeconds": retry_after}
    return StatusError(code, reason, "this failure was injected by a test", details)
