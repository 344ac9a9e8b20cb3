"""Lists and watches of objects' metadata alone (KEP-2334's PartialObjectMetadata)."""

from collections.abc import AsyncGenerator
from typing import TypeVar

from moorage.api.meta import Object
from moorage.cluster.client import Client
from moorage.cluster.events import Bookmark, Event
from moorage.cluster.reading import Listing, Unreadable

T = TypeVar("T", bound=Object)


class MetadataOnly:
    """What a reflector needs of a client. Objects have their metadata, and else what their struct has by default."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def list(
        self, kind: type[T], namespace: str | None = None, *, label_selector: str | None, field_selector: str | None
    ) -> Listing[T]:
        return await self._client.list(
            kind, namespace, label_selector=label_selector, field_selector=field_selector, metadata_only=True
        )

    def watch(
        self,
        kind: type[T],
        namespace: str | None = None,
        *,
        resource_version: str,
        label_selector: str | None,
        field_selector: str | None,
        idle_timeout: float,
    ) -> AsyncGenerator[Event[T] | Bookmark | Unreadable, None]:
        return self._client.watch(
            kind,
            namespace,
            resource_version=resource_version,
            label_selector=label_selector,
            field_selector=field_selector,
            idle_timeout=idle_timeout,
            metadata_only=True,
        )
