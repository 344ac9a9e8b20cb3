"""Decodes objects from a server's answers."""

from contextlib import suppress
from typing import Generic, NamedTuple, Protocol, TypeVar

import msgspec

from moorage.api.meta import Object, ObjectMeta

T = TypeVar("T", bound=Object)

_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Unreadable(msgspec.Struct, frozen=True):
    """An object of which only the metadata can be decoded: an older or newer schema let it in."""

    metadata: ObjectMeta
    """Name, namespace, uid, resourceVersion and generation."""
    why: str
    """`Expected int, got str - at $.spec.ports[0].port`."""
    deleted: bool = False
    """Whether a watch has reported that it is gone."""


class Page(NamedTuple, Generic[T]):
    """One answer to a list request."""

    items: list[T]
    resource_version: str
    more: str
    """The `continue` token for the next page; "" if this is the last one."""
    unreadable: tuple[Unreadable, ...] = ()


class Listing(msgspec.Struct, Generic[T], frozen=True):
    """All objects of a list, and the resource version from which a watch continues it."""

    items: list[T]
    resource_version: str
    unreadable: tuple[Unreadable, ...] = ()
    """Objects that exist but cannot be read."""


class Reading(Protocol[T]):
    """Both methods raise msgspec.DecodeError, UnicodeDecodeError or RecursionError for answers that cannot be
    decoded.

    Single objects that cannot be decoded may be returned as `Unreadable` instead.
    """

    def page(self, answer: bytes | bytearray) -> Page[T]: ...

    def one(self, text: bytes | msgspec.Raw) -> T | Unreadable:
        """Decodes the object in an event of a watch."""
        ...


class _ListMeta(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class _List(msgspec.Struct, Generic[T], frozen=True):
    metadata: _ListMeta
    items: list[T] | None = None


class _Meta(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    namespace: str | None = None
    uid: str | None = None
    resource_version: str | None = None
    generation: int | None = None


class _OnlyMeta(msgspec.Struct, frozen=True):
    metadata: _Meta


_raw_list = msgspec.json.Decoder(_List[msgspec.Raw])  # type: ignore[type-var]
_only_meta = msgspec.json.Decoder(_OnlyMeta)


class Whole(Reading[T]):
    """Decodes all fields of the kind's struct. An object that cannot be decoded does not affect the others."""

    def __init__(self, kind: type[T]) -> None:
        self._list: msgspec.json.Decoder[_List[T]] = msgspec.json.Decoder(_List[kind])  # type: ignore[valid-type]
        self._object = msgspec.json.Decoder(kind)

    def page(self, answer: bytes | bytearray) -> Page[T]:
        try:
            found = self._list.decode(answer)
        except _ERRORS:
            return self._one_by_one(answer)
        return Page(found.items or [], found.metadata.resource_version, found.metadata.continue_)

    def one(self, text: bytes | msgspec.Raw) -> T | Unreadable:
        try:
            return self._object.decode(text)
        except _ERRORS as error:
            # Without a name the whole answer is useless: the list that follows has the object as well.
            return Unreadable(_which(text), str(error))

    def _one_by_one(self, answer: bytes | bytearray) -> Page[T]:
        found = _raw_list.decode(answer)
        items: list[T] = []
        unreadable: list[Unreadable] = []
        for text in found.items or ():
            try:
                items.append(self._object.decode(text))
            except _ERRORS as error:
                which = ObjectMeta()
                with suppress(*_ERRORS):
                    which = _which(text)
                unreadable.append(Unreadable(which, str(error)))
        return Page(items, found.metadata.resource_version, found.metadata.continue_, tuple(unreadable))


def _which(text: bytes | msgspec.Raw) -> ObjectMeta:
    meta = _only_meta.decode(text).metadata
    return ObjectMeta(
        name=meta.name,
        namespace=meta.namespace,
        uid=meta.uid,
        resource_version=meta.resource_version,
        generation=meta.generation,
    )
