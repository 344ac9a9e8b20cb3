"""Encodes answers: the forms that Accept may ask for, and pages of lists."""

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Literal

import msgspec

from moorage.api.kinds import Kind
from moorage_lab.apiserver import tables
from moorage_lab.apiserver.objects import Obj, name_of, namespace_of
from moorage_lab.apiserver.status import StatusError, bad_request

Form = Literal["", "Table", "PartialObjectMetadata", "PartialObjectMetadataList"]
"""As it is; as the columns of `kubectl get`; or nothing but metadata (KEP-2334), of an object or of a list."""


def negotiate(accept: str, *, many: bool) -> Form:
    """The form in which an Accept header asks for an object, or for a list if `many`; the first one that there is.

    Raises StatusError 406 if there is none.
    """
    metadata: Form = "PartialObjectMetadataList" if many else "PartialObjectMetadata"
    for part in accept.split(",") if accept.strip() else ["*/*"]:
        media, *parameters = (piece.strip() for piece in part.split(";"))
        given = dict(parameter.split("=", 1) for parameter in parameters if "=" in parameter)
        if media not in ("application/json", "application/*", "*/*"):
            continue
        if "as" not in given:
            return ""
        for form in ("Table", metadata):
            if (given["as"], given.get("v")) == (form, "v1"):
                return form
    raise StatusError(406, "NotAcceptable", "only the following media types are accepted: application/json", {})


class Presenter:
    """Brings objects of one kind into the requested form."""

    def __init__(self, kind: Kind, form: Form, include: str, now: Callable[[], datetime]) -> None:
        self._kind = kind
        self._form = form
        self._include = include or "Metadata"
        self._now = now

    def one(self, obj: Obj, *, headers: bool = True) -> Obj:
        """A single object; as a Table it is one row, with the columns' definitions unless `headers` is false."""
        if not self._form:
            return obj
        if self._form != "Table":
            return tables.partial(obj)
        meta = {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
        return tables.table(self._kind, [obj], meta, self._now(), self._include, headers=headers)

    def many(self, objects: Sequence[Obj], meta: Obj) -> Obj:
        if self._form == "Table":
            return tables.table(self._kind, objects, meta, self._now(), self._include)
        kind, api_version, items = f"{self._kind.kind}List", self._kind.api_version, list(objects)
        if self._form:
            kind, api_version, items = self._form, tables.META, [tables.partial(obj) for obj in objects]
        return {"kind": kind, "apiVersion": api_version, "metadata": meta, "items": items}

    def bookmark(self, version: int, *, initial: bool = False) -> Obj:
        meta: Obj = {"resourceVersion": str(version), "creationTimestamp": None}
        if initial:
            meta["annotations"] = {"k8s.io/initial-events-end": "true"}
        if self._form == "Table":
            return tables.table(self._kind, [], meta, self._now(), self._include, headers=False)
        if self._form:
            return tables.partial({"metadata": meta})
        return {"kind": self._kind.kind, "apiVersion": self._kind.api_version, "metadata": meta}


class _Token(msgspec.Struct):
    version: int
    after: tuple[str, str]


def page(objects: Sequence[Obj], version: int, limit: int, after: tuple[str, str] | None) -> tuple[list[Obj], Obj]:
    """The part of sorted `objects` after a key, at most `limit` long (0: all of it), and the list's metadata."""
    left = [obj for obj in objects if after is None or (namespace_of(obj), name_of(obj)) > after]
    meta: Obj = {"resourceVersion": str(version)}
    if limit <= 0 or len(left) <= limit:
        return left, meta
    last = left[limit - 1]
    token = _Token(version, (namespace_of(last), name_of(last)))
    meta["continue"] = base64.urlsafe_b64encode(msgspec.json.encode(token)).decode()
    meta["remainingItemCount"] = len(left) - limit
    return left[:limit], meta


def read_token(text: str) -> tuple[int, tuple[str, str]]:
    """The resourceVersion and the key in a `continue` token; raises StatusError 400."""
    try:
        token = msgspec.json.decode(base64.urlsafe_b64decode(text), type=_Token)
    except (binascii.Error, ValueError, msgspec.DecodeError):
        raise bad_request("continue key is not valid") from None
    return token.version, token.after


def number(query: Mapping[str, str], name: str, default: int = 0) -> int:
    """A query parameter that must be a whole number, at least 0; raises StatusError 400."""
    text = query.get(name, "")
    if text and not (text.isascii() and text.isdigit()):
        raise bad_request(f"{name}: Invalid value: {text!r}: must be a whole number")
    return int(text) if text else default


def flag(query: Mapping[str, str], name: str) -> bool:
    return query.get(name, "").lower() in ("1", "t", "true")
