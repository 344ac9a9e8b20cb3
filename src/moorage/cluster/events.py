"""The events of a watch, line by line."""

from collections.abc import AsyncIterator, Callable
from typing import Generic, Literal, TypeVar

import msgspec

from moorage.api.meta import Object
from moorage.cluster.errors import AnswerError, from_answer
from moorage.cluster.reading import Unreadable
from moorage.cluster.room import Hold

T = TypeVar("T", bound=Object)

MAX_LINE_BYTES = 32 * 2**20
"""One event; etcd holds objects of at most 1.5 MiB."""


class Event(msgspec.Struct, Generic[T], frozen=True):
    """One change. DELETED: the object is gone, or no longer matches the selectors; it has its last state."""

    type: Literal["ADDED", "MODIFIED", "DELETED"]
    object: T


class Bookmark(msgspec.Struct, frozen=True):
    """Nothing else has changed up to this resource version."""

    resource_version: str


class _Line(msgspec.Struct, frozen=True):
    type: str
    object: msgspec.Raw


class _Meta(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str = ""


class _OnlyMeta(msgspec.Struct, frozen=True):
    """The object of a bookmark. Its spec may hold nulls that the kind's own struct would refuse."""

    metadata: _Meta


_line_decoder = msgspec.json.Decoder(_Line)
_meta_decoder = msgspec.json.Decoder(_OnlyMeta)


def read_event(line: bytes, read: Callable[[msgspec.Raw], T | Unreadable]) -> Event[T] | Bookmark | Unreadable:
    """The event in one line of a watch; `read` decodes its object.

    Raises ApiError for an ERROR event (410 `Expired`: the version is too old), AnswerError for anything unknown.
    """
    try:
        raw = _line_decoder.decode(line)
        match raw.type:
            case "ADDED" | "MODIFIED" | "DELETED":
                found = read(raw.object)
                if isinstance(found, Unreadable):
                    return msgspec.structs.replace(found, deleted=raw.type == "DELETED")
                return Event(raw.type, found)
            case "BOOKMARK":
                return Bookmark(_meta_decoder.decode(raw.object).metadata.resource_version)
            case "ERROR":
                raise from_answer(raw.object, 500)
            case _:
                raise AnswerError(f"unknown event type {raw.type!r}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise AnswerError(str(error)) from None


async def lines(
    chunks: AsyncIterator[bytes], longest: int = MAX_LINE_BYTES, hold: Hold = lambda size: None
) -> AsyncIterator[bytes]:
    """The non-empty lines of a stream, without line ends; AnswerError for a line of more than `longest` bytes.

    `hold` is called with the size of the unfinished line. A last line without an end is dropped: the connection broke
    in the middle of it.
    """
    rest = bytearray()
    async for chunk in chunks:
        *whole, last = chunk.split(b"\n")
        for piece in whole:
            line = bytes(rest) + piece if rest else piece
            rest.clear()
            if line.strip():
                yield line
        rest += last
        hold(len(rest))
        if len(rest) > longest:
            raise AnswerError(f"an event of more than {longest} bytes")
