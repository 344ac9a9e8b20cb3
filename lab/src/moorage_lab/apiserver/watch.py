"""Watches: the changes of one kind as a stream of JSON lines (Kubernetes API concepts, "Efficient detection")."""

import asyncio
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec
from aiohttp import web

from moorage.api.kinds import Kind
from moorage_lab.apiserver.objects import Obj, namespace_of
from moorage_lab.apiserver.representation import Presenter
from moorage_lab.apiserver.selectors import Predicate
from moorage_lab.apiserver.status import StatusError
from moorage_lab.apiserver.store import Change, Store

Event = tuple[str, Obj]


class WatchOptions(NamedTuple):
    kind: Kind
    namespace: str
    """`""`: all namespaces."""
    selected: Predicate
    since: int | None
    """None: the present objects come first, as ADDED."""
    bookmarks: bool
    initial_end: bool
    """A bookmark marks the end of the present objects (KEP-3157)."""
    timeout: float
    """Seconds after which the server ends the watch."""
    bookmark_interval: float
    """Seconds of silence after which a bookmark is sent."""


def events(changes: Iterable[Change], kind: Kind, namespace: str, selected: Predicate) -> Iterator[Event]:
    """The events of a watch with selectors: to it, an object that leaves the selection is DELETED."""
    for change in changes:
        if (change.kind.group, change.kind.plural) != (kind.group, kind.plural):
            continue
        if namespace and namespace_of(change.last) != namespace:
            continue
        was = change.before is not None and selected(change.before)
        is_ = change.after is not None and selected(change.after)
        if is_:
            yield ("MODIFIED" if was else "ADDED"), change.last
        elif was:
            # The last state that the watcher could see, with the version in which the object left the selection.
            assert change.before is not None
            version = change.last["metadata"]["resourceVersion"]
            yield "DELETED", {**change.before, "metadata": {**change.before["metadata"], "resourceVersion": version}}


async def serve(
    request: web.Request,
    store: Store,
    options: WatchOptions,
    presenter: Presenter,
    cut: asyncio.Event,
    silence: asyncio.Event,
    closing: asyncio.Event,
) -> web.StreamResponse:
    """Answer a watch request until its time is over, the server closes, or `cut` breaks the connection. From
    `silence` on nothing more is said."""
    loop = asyncio.get_running_loop()
    end = loop.time() + options.timeout
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    stream = _Stream(response, presenter)
    position = store.version if options.since is None else options.since
    if options.since is None:
        present = store.list(options.kind, options.namespace)
        await stream.send(("ADDED", obj) for obj in present if options.selected(obj))
        if options.initial_end:
            await stream.bookmark(position, initial=True)
    bookmark_at = loop.time() + options.bookmark_interval
    while True:
        if silence.is_set():
            await _first(closing.wait(), seconds=end - loop.time())
            return response
        try:
            changes = list(store.changes(position))
        except StatusError as error:
            await stream.error(error)
            break
        if changes:
            position = changes[-1].version
            if await stream.send(events(changes, options.kind, options.namespace, options.selected)):
                bookmark_at = loop.time() + options.bookmark_interval
            continue
        if closing.is_set() or loop.time() >= end:
            break
        if options.bookmarks and loop.time() >= bookmark_at:
            await stream.bookmark(position)
            bookmark_at = loop.time() + options.bookmark_interval
        until = min(end, bookmark_at) if options.bookmarks else end
        await _first(store.wait(position), cut.wait(), closing.wait(), seconds=until - loop.time())
        if cut.is_set():
            if request.transport is not None:
                request.transport.abort()
            return response
    if options.bookmarks:
        await stream.bookmark(position)
    return response


async def _first(*waits: object, seconds: float) -> None:
    tasks = [asyncio.ensure_future(one) for one in waits]  # type: ignore[call-overload]
    try:
        await asyncio.wait(tasks, timeout=max(seconds, 0), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


class _Stream:
    def __init__(self, response: web.StreamResponse, presenter: Presenter) -> None:
        self._response = response
        self._presenter = presenter
        self._headers = True

    async def send(self, found: Iterable[Event]) -> bool:
        """Write the events in one piece; returns whether there were any."""
        lines = []
        for type_, obj in found:
            lines.append(_line(type_, self._presenter.one(obj, headers=self._headers)))
            self._headers = False
        if lines:
            await self._response.write(b"".join(lines))
        return bool(lines)

    async def bookmark(self, version: int, *, initial: bool = False) -> None:
        await self._response.write(_line("BOOKMARK", self._presenter.bookmark(version, initial=initial)))

    async def error(self, error: StatusError) -> None:
        await self._response.write(_line("ERROR", error.body()))


def _line(type_: str, obj: Obj) -> bytes:
    return msgspec.json.encode({"type": type_, "object": obj}) + b"\n"
