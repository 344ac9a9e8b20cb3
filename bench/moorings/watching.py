"""What a watch of the API sees of moorings, and when. Times are of the monotonic clock."""

import time
from collections import Counter

from bench.watching import Watching
from moorage.api.discovery_v1 import EndpointSlice
from moorage.api.meta import ObjectKey
from moorage.api.moorings_v1alpha1 import Mooring
from moorage.cluster.client import Client
from moorage.cluster.reflector import Reflector
from moorage.cluster.store import Change


class Seen(Watching):
    """Moorings, and which nodes the endpoints of slices are for."""

    def __init__(self, client: Client, namespace: str) -> None:
        self.at: dict[ObjectKey, str] = {}
        """Where the client of each Mooring is."""
        self.came: dict[ObjectKey, float] = {}
        """When a Mooring was seen first."""
        self.went: dict[ObjectKey, float] = {}
        """When its client was seen to have moved last."""
        self.changed: Counter[ObjectKey] = Counter()
        """How often each Mooring was seen to change."""
        self._ready: dict[ObjectKey, dict[str, list[str]]] = {}
        """By slice: names of ready endpoints, and the nodes that their hints name."""
        super().__init__(
            Reflector(client, Mooring, namespace, on_change=self._mooring_told),
            Reflector(client, EndpointSlice, namespace, on_change=self._slice_told),
        )

    def clients(self, group: str, endpoint: str) -> set[ObjectKey]:
        """The Moorings of a group's clients that are at this endpoint."""
        start = f"{group}."
        return {key for key, at in self.at.items() if at == endpoint and key.name.startswith(start)}

    def hints(self) -> dict[str, list[str]]:
        """The ready endpoints, and the nodes that each is for."""
        return {name: nodes for each in self._ready.values() for name, nodes in each.items()}

    def named(self) -> Counter[str]:
        """How many ready endpoints are for each node."""
        return Counter(node for nodes in self.hints().values() for node in nodes)

    def _mooring_told(self, change: Change[Mooring]) -> None:
        key, _, mooring = change
        if mooring is None:
            self.at.pop(key, None)
            return
        now, at = time.monotonic(), mooring.status.endpoint or ""
        self.changed[key] += 1
        self.came.setdefault(key, now)
        if self.at.get(key, at) != at:
            self.went[key] = now
        self.at[key] = at
        self._changed.set()

    def _slice_told(self, change: Change[EndpointSlice]) -> None:
        key, _, slice_ = change
        self._ready[key] = {
            each.hostname or "": [node.name for node in (each.hints.for_nodes if each.hints else None) or ()]
            for each in (slice_.endpoints if slice_ else None) or ()
            if each.conditions.ready
        }
        self._changed.set()
