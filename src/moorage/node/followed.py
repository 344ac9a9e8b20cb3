"""Copies of the Moorings that concern a node."""

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from sys import intern
from typing import NamedTuple

from msgspec.structs import replace

from moorage.api.meta import ObjectKey, is_older
from moorage.api.moorings_v1alpha1 import Mooring, MooringClient, MooringSpec, MooringStatus
from moorage.api.slim import identity, interned
from moorage.cluster.client import Client
from moorage.cluster.errors import AnswerError, ApiError
from moorage.cluster.queue import Queue
from moorage.cluster.reflector import Reflector
from moorage.cluster.store import Change, Index
from moorage.core.mooring_model import ClientKey
from moorage.core.moorings import client_of, requested
from moorage.log import get_logger
from moorage.node.moorings import GroupClient

log = get_logger("moorage.node")

LINGER_SECONDS = 300.0
"""How long Moorings are followed that nobody needs any more: a pod that is replaced is away for a moment."""
ASK_AGAIN_SECONDS = 100.0
"""How long a Mooring that was asked for counts though the watch does not show it; then it is asked for again."""
MAX_QUESTIONS = 4
"""How many Moorings are asked for at a time."""
_REFUSED = "refused"
"""In place of the message about an endpoint that a person wants: it only counts that there is one."""


class Source(NamedTuple):
    """A part of all Moorings, with a watch of its own."""

    namespace: str | None
    """None: of all namespaces."""
    label_selector: str | None = None


BY_CLIENT: Index[Mooring, tuple[str, str, ClientKey]] = Index(
    lambda mooring: ((mooring.metadata.namespace or "", mooring.spec.group, client_of(mooring)),)
)


class FollowedMoorings:
    """The Moorings of some sources. `run` keeps them current until cancelled.

    `follow` says which sources are needed. `touched(namespace, client)` is called when a Mooring of that client has
    changed. `ask` gets one by its name, for whoever cannot wait for a watch that may be silent or far behind.
    """

    def __init__(self, client: Client, touched: Callable[[str, GroupClient], None]) -> None:
        self._client, self._touched = client, touched
        self._needed: frozenset[Source] = frozenset()
        self._followed: dict[Source, Reflector[Mooring]] = {}
        self._tasks: dict[Source, asyncio.Task[None]] = {}
        self._unneeded: dict[Source, float] = {}
        """Since when, by the event loop's clock."""
        self._changed = asyncio.Event()
        self._questions: Queue[ObjectKey] = Queue()
        self._found: dict[ObjectKey, Mooring] = {}
        """Answers that are newer than what the watch shows."""

    @property
    def reflectors(self) -> Collection[Reflector[Mooring]]:
        return self._followed.values()

    def follow(self, sources: Collection[Source]) -> None:
        """Follow these from now on, and others no longer."""
        wanted = frozenset(sources)
        if wanted == self._needed:
            return
        now = asyncio.get_running_loop().time()
        for source in self._needed - wanted:
            self._unneeded[source] = now
        for source in wanted:
            self._unneeded.pop(source, None)
            if source not in self._followed:
                self._followed[source] = self._reflector(source)
        self._needed = wanted
        self._changed.set()

    def _reflector(self, source: Source) -> Reflector[Mooring]:
        return Reflector(
            self._client,
            Mooring,
            source.namespace,
            label_selector=source.label_selector,
            on_change=self._watched,
            transform=needed,
            indexes=[BY_CLIENT],
        )

    async def run(self) -> None:
        """Follow the API until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._questions.run(self._answer, workers=MAX_QUESTIONS))
            while True:
                for source, reflector in self._followed.items():
                    if source not in self._tasks:
                        self._tasks[source] = tasks.create_task(reflector.run())
                self._changed.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(self._forget()):
                        await self._changed.wait()

    def _forget(self) -> float | None:
        """Follow no longer what has not been needed for long. Returns when to look again; None: upon a change."""
        now = asyncio.get_running_loop().time()
        for source, since in list(self._unneeded.items()):
            if now >= since + LINGER_SECONDS:
                del self._unneeded[source]
                gone = self._followed.pop(source)
                if task := self._tasks.pop(source, None):
                    task.cancel()
                for mooring in gone.store.values():
                    self._touch(mooring)
        return min(self._unneeded.values()) + LINGER_SECONDS if self._unneeded else None

    def knows(self, source: Source) -> bool:
        """Whether it has been read, and is followed."""
        return source in self._followed and self._followed[source].synced.is_set()

    async def until_answered(self) -> None:
        """Wait until each source that is needed has been read, or may not be read."""
        for source in self._needed:
            await self._followed[source].answered.wait()

    # --- What there is -------------------------------------------------------------------------------------------

    def of(self, namespace: str, client: GroupClient) -> list[Mooring]:
        """All of a client of a group of `namespace`."""
        key = (namespace, client.group, client.client)
        following = [one for source, one in self._followed.items() if source.namespace in (None, namespace)]
        shown = {each.metadata.key: each for one in following for each in one.store.by(BY_CLIENT, key)}
        shown |= {name: each for name, each in self._found.items() if key in BY_CLIENT.keys(each)}
        return list(shown.values())

    def ask(self, key: ObjectKey) -> None:
        """Get the Mooring of this name, unless that is under way."""
        self._questions.add(key)

    async def _answer(self, key: ObjectKey) -> float | None:
        """Returns after how many seconds to ask again; None: not at all."""
        if not any(each.namespace == key.namespace for each in self._needed):
            self._drop(key)
            return None
        try:
            mooring = needed(await self._client.get(Mooring, key.namespace, key.name))
        except ApiError as error:
            if error.status == 404:
                self._drop(key)
            elif error.status != 403:
                raise
            return None
        except AnswerError as error:
            log.warning("a Mooring cannot be used", object=str(key), error=str(error))
            return None
        shown = next((one.store[key] for one in self._followed.values() if key in one.store), None)
        if shown is not None and not is_older(shown, mooring):
            self._drop(key)
            return None
        if self._found.get(key) != mooring:
            self._found[key] = mooring
            self._touch(mooring)
        return ASK_AGAIN_SECONDS

    def _watched(self, change: Change[Mooring]) -> None:
        found = self._found.get(change.key)
        if found and (change.new is None or not is_older(change.new, found)):
            self._drop(change.key)
        seen = [each for each in (change.old, change.new) if each is not None]
        if len({(each.spec, each.status) for each in seen}) == len(seen):
            for each in seen:
                self._touch(each)

    def _drop(self, key: ObjectKey) -> None:
        if found := self._found.pop(key, None):
            self._touch(found)

    def _touch(self, mooring: Mooring) -> None:
        for namespace, group, client in BY_CLIENT.keys(mooring):
            self._touched(namespace, GroupClient(group, client))


def needed(mooring: Mooring) -> Mooring:
    """`mooring` without what nothing here reads: a namespace may have 100,000. Texts that many have are held once."""
    meta, spec, status = mooring.metadata, mooring.spec, mooring.status
    return Mooring(
        metadata=replace(identity(meta), creation_timestamp=meta.creation_timestamp),
        spec=MooringSpec(
            group=intern(spec.group),
            client=MooringClient(kind=intern(spec.client.kind), name=spec.client.name),
            endpoint=intern(spec.endpoint),
        ),
        status=MooringStatus(
            endpoint=interned(status.endpoint),
            reason=interned(status.reason),
            previous=interned(status.previous),
            message=_REFUSED if status.message and requested(mooring) else None,
        ),
    )
