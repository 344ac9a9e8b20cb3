"""How many clients each endpoint of a group has, and which endpoint a new client gets."""

from bisect import insort
from collections import Counter
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from moorage.core.groups import GroupEndpoint
from moorage.core.mooring_model import Client, hash_of


class Loads:
    """Counts clients, and finds the endpoint with the fewest for its weight.

    Endpoints that take new clients are grouped by load. So a choice only looks at endpoints that are equally good.
    """

    def __init__(
        self,
        group: str,
        endpoints: Iterable[GroupEndpoint],
        limit: int | None,
        there: Mapping[str, int] = MappingProxyType({}),
        by_owner: Mapping[str, Mapping[str, int]] = MappingProxyType({}),
    ) -> None:
        """How many clients there are already: of each endpoint, and of each owner at each endpoint."""
        self._group = group
        self._endpoints = {each.name: each for each in endpoints}
        self._limit = limit
        self._clients = Counter(there)
        self._by_owner = by_owner
        self._changed: dict[str, Counter[str]] = {}
        """Like `by_owner`, of owners whose clients have come or gone since."""
        self._open: dict[float, list[str]] = {}
        """Clients per weight -> names of the endpoints that take new clients and have room, in order."""
        for name in self._endpoints:
            self._insert(name)

    def has_room(self, name: str) -> bool:
        return self._limit is None or self._clients[name] < self._limit

    def add(self, name: str, client: Client) -> None:
        """Count a client at an endpoint, which may have left the group."""
        self._change(name, client, 1)

    def remove(self, name: str, client: Client) -> None:
        """The opposite of `add`."""
        self._change(name, client, -1)

    def least(self, client: Client) -> str | None:
        """The endpoint for a new client; None if no endpoint takes one and has room.

        It has the fewest clients for its weight. Among equals it has the fewest clients of the same owner; without
        this rule, pods of one rollout would often end up at one endpoint. Among those it is in the client's zone if
        possible. A hash of the client's name decides between the rest.
        """
        if not self._open:
            return None
        names = self._open[min(self._open)]
        if client.owner and len(names) > 1:
            siblings = self._changed.get(client.owner) or self._by_owner.get(client.owner, {})
            counts = [siblings.get(name, 0) for name in names]
            fewest = min(counts)
            names = [name for name, count in zip(names, counts, strict=True) if count == fewest]
        if client.zone and len(names) > 1:
            names = [name for name in names if self._endpoints[name].zone == client.zone] or names
        return names[hash_of(self._group, client.key) % len(names)]

    def _change(self, name: str, client: Client, by: int) -> None:
        self._remove(name)
        self._count(name, client, by)
        self._insert(name)

    def _count(self, name: str, client: Client, by: int) -> None:
        self._clients[name] += by
        if client.owner:
            if client.owner not in self._changed:
                self._changed[client.owner] = Counter(self._by_owner.get(client.owner))
            self._changed[client.owner][name] += by

    def _insert(self, name: str) -> None:
        if self._is_open(name):
            insort(self._open.setdefault(self._load(name), []), name)

    def _remove(self, name: str) -> None:
        if self._is_open(name):
            load = self._load(name)
            self._open[load].remove(name)
            if not self._open[load]:
                del self._open[load]

    def _is_open(self, name: str) -> bool:
        endpoint = self._endpoints.get(name)
        return endpoint is not None and endpoint.takes and self.has_room(name)

    def _load(self, name: str) -> float:
        # Equal fractions are equal floats, since IEEE 754 rounds quotients correctly.
        return self._clients[name] / self._endpoints[name].weight
