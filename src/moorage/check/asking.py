"""Asks one API server, in bounded time, and tells what cannot be read, or done, as data."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

import msgspec

from moorage.api.kinds import Kind
from moorage.api.validation import without_nulls
from moorage.check.facts import Known, Unread
from moorage.check.objects import Review
from moorage.check.rights import Right
from moorage.cluster.client import Client
from moorage.cluster.errors import ApiError
from moorage.cluster.paths import collection_path, object_path
from moorage.errors import MoorageError

T = TypeVar("T")
O = TypeVar("O", bound=msgspec.Struct)  # noqa: E741

REQUEST_SECONDS = 10.0
"""For one request."""
MAX_REQUESTS = 16
"""Under way at once."""
_PATH = "/apis/authorization.k8s.io/v1/"


class Asker:
    """Nothing here raises what the server, or the way to it, is at fault for."""

    def __init__(self, client: Client, until: float) -> None:
        """`until`: when the last request has to be answered, by the event loop's clock."""
        self._client, self._until = client, until
        self._slots = asyncio.Semaphore(MAX_REQUESTS)

    async def object(self, type_: type[O], kind: Kind, namespace: str | None, name: str) -> Known[O | None]:
        """One object; None if there is none, or the server does not know the kind."""
        return await self.read(type_, object_path(kind, namespace, name))

    async def list(
        self, type_: type[O], kind: Kind, namespace: str | None, labels: str, most: int
    ) -> Known[O | None]:
        """The first objects of those with these labels."""
        return await self.read(type_, collection_path(kind, namespace), labelSelector=labels, limit=str(most))

    async def read(self, type_: type[O], path: str, **params: str) -> Known[O | None]:
        """What this path has; None if there is nothing."""
        return await self._asked(type_, self._client.raw("GET", path, params=params))

    async def text(self, path: str) -> Known[str]:
        """The text of this path. Of an answer that says 503, as a probe's, the text is why it is Unread."""
        found = await self._there(self._client.text(path))
        return "" if found is None else found

    async def lacking(
        self, needed: Sequence[Right], user: dict[str, Any] | None = None
    ) -> Known[tuple[str, ...] | None]:
        """Which of these rights the user (`user`, `groups`), or whoever asks, lacks, in words. None: the server does
        not say."""
        answers = await asyncio.gather(*(self._may(right, user) for right in needed))
        lacks = []
        for right, answer in zip(needed, answers, strict=True):
            if answer is None or isinstance(answer, Unread):
                return answer
            if not answer.status.allowed:
                lacks.append(str(right))
        return tuple(lacks)

    async def create(self, path: str, manifest: Any) -> Known[dict[str, Any]]:
        """The object as the server has stored it."""
        return await self._bounded(self._client.raw("POST", path, body=manifest))

    async def delete(self, path: str) -> Known[None]:
        """None, too, if there is no such object."""
        found = await self._there(self._client.raw("DELETE", path))
        return found if isinstance(found, Unread) else None

    async def _may(self, right: Right, user: dict[str, Any] | None) -> Known[Review | None]:
        kind = "SubjectAccessReview" if user else "SelfSubjectAccessReview"
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": kind,
            "spec": {"resourceAttributes": right.attributes, **(user or {})},
        }
        return await self._asked(Review, self._client.raw("POST", f"{_PATH}{kind.lower()}s", body=body))

    async def _asked(self, type_: type[O], request: Awaitable[dict[str, Any]]) -> Known[O | None]:
        answer = await self._there(request)
        if answer is None or isinstance(answer, Unread):
            return answer
        try:
            return msgspec.convert(without_nulls(answer), type_)
        except msgspec.ValidationError as error:
            return Unread(f"an answer that is none of Kubernetes: {error}")

    async def _there(self, request: Awaitable[T]) -> Known[T | None]:
        """What is answered; None if there is nothing."""

        async def found() -> T | None:
            try:
                return await request
            except ApiError as error:
                if error.status != 404:
                    raise
                return None

        return await self._bounded(found())

    async def _bounded(self, request: Awaitable[T]) -> Known[T]:
        try:
            async with asyncio.timeout_at(self._until), self._slots:
                return await request
        except TimeoutError:
            return Unread("the API server has not answered in time")
        except ApiError as error:
            return Unread(error.message)
        except (MoorageError, UnicodeDecodeError) as error:
            return Unread(str(error))
