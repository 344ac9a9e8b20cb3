"""How objects are read out of a server's answers."""

from typing import Generic, NamedTuple, Protocol, TypeVar

import msgspec

from moorage.api.meta import Object

T = TypeVar("T", bound=Object)


class Page(NamedTuple, Generic[T]):
    """One answer to a list request."""

    items: list[T]
    resource_version: str
    more: str
    """What to ask for the next page with (`continue`); "" where there is none."""


class Reading(Protocol[T]):
    """Both raise msgspec.DecodeError, UnicodeDecodeError or RecursionError for what is none."""

    def page(self, answer: bytes | bytearray) -> Page[T]: ...

    def one(self, text: bytes | msgspec.Raw) -> T:
        """The object of an event of a watch."""
        ...


class _ListMeta(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class _List(msgspec.Struct, Generic[T], frozen=True):
    metadata: _ListMeta
    items: list[T] | None = None


class Whole(Reading[T]):
    """All that the kind's struct has."""

    def __init__(self, kind: type[T]) -> None:
        self._list: msgspec.json.Decoder[_List[T]] = msgspec.json.Decoder(_List[kind])  # type: ignore[valid-type]
        self._object = msgspec.json.Decoder(kind)

    def page(self, answer: bytes | bytearray) -> Page[T]:
        found = self._list.decode(answer)
        return Page(found.items or [], found.metadata.resource_version, found.metadata.continue_)

    def one(self, text: bytes | msgspec.Raw) -> T:
        return self._object.decode(text)
