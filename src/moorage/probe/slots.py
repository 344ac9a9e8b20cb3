"""Limits how many checks run at once, and chooses the next."""

import heapq
from collections import Counter
from typing import Generic, TypeVar

from moorage.api.meta import ObjectKey

K = TypeVar("K")
T = TypeVar("T")

"""Namespace and name of an ExternalService."""

MAX_STALE_ENTRIES = 64
"""Of a heap, beside as many entries as are not."""


class Slots(Generic[T]):
    """At most `most` items have a slot at once, and at most `max_each` of one key.

    Nor may a key, or all keys of a namespace together, have as many as are free: however many of them there are whose
    items hold their slots for long, the next one that comes finds some. The items that get none wait. Next is the
    namespace that has the fewest; in it the keys take turns, and of one key the oldest item is next.

    Each step costs the same whether one key waits or thousands: that is when there is no time to look at all of them.
    """

    def __init__(self, most: int, max_each: int) -> None:
        self._free = most
        self._max_each = max_each
        self._of_key: Counter[ObjectKey] = Counter()
        self._of_namespace: Counter[str] = Counter()
        self._waiting: dict[str, dict[ObjectKey, dict[T, None]]] = {}
        """By namespace, the keys in the order of their turns."""
        self._order: list[tuple[int, int, str]] = []
        """A heap of the namespaces that wait: slots that it has, number, namespace."""
        self._numbers: dict[str, int] = {}
        """Of each namespace's one entry there that is true."""
        self._number = 0

    def take(self, key: ObjectKey, item: T) -> bool:
        """Whether `item` has a slot now; if not, it waits until `give_back` names it."""
        if self._of_namespace[key.namespace] < self._free and self._may(key):
            self._count(key, 1)
            return True
        keys = self._waiting.setdefault(key.namespace, {})
        keys.setdefault(key, {})[item] = None
        if key.namespace not in self._numbers:
            self._enter(key.namespace)
        return False

    def give_back(self, key: ObjectKey) -> list[T]:
        """Gives a slot back. Returns the items that have waited and have one now."""
        self._count(key, -1)
        found = []
        while (following := self._following()) is not None:
            items = self._waiting[following[0]][following]
            found.append(item := next(iter(items)))
            self.withdraw(following, item)
            keys = self._waiting.get(following[0], {})
            if following in keys:
                keys[following] = keys.pop(following)
            self._count(following, 1)
        return found

    def withdraw(self, key: ObjectKey, item: T) -> None:
        """Stop `item` from waiting."""
        keys = self._waiting.get(key.namespace, {})
        items = keys.get(key, {})
        items.pop(item, None)
        if not items:
            keys.pop(key, None)
        if not keys and self._waiting.pop(key.namespace, None) is not None:
            del self._numbers[key.namespace]

    def _following(self) -> ObjectKey | None:
        """The key whose turn it is, among those that may have a slot."""
        aside = []
        found = None
        while self._order and found is None:
            entry = count, number, namespace = self._order[0]
            if self._numbers.get(namespace) == number:
                if count >= self._free:
                    break  # and so have all others
                # Of a namespace that may have more, few keys can have all that is theirs.
                found = next(filter(self._may, self._waiting[namespace]), None)
                aside.append(entry)
            heapq.heappop(self._order)
        for entry in aside:
            heapq.heappush(self._order, entry)
        return found

    def _may(self, key: ObjectKey) -> bool:
        return self._of_key[key] < min(self._max_each, self._free)

    def _count(self, key: ObjectKey, step: int) -> None:
        self._free -= step
        _add(self._of_key, key, step)
        _add(self._of_namespace, key.namespace, step)
        if key.namespace in self._numbers:
            self._enter(key.namespace)

    def _enter(self, namespace: str) -> None:
        self._number += 1
        self._numbers[namespace] = self._number
        heapq.heappush(self._order, (self._of_namespace[namespace], self._number, namespace))
        if len(self._order) > 2 * len(self._numbers) + MAX_STALE_ENTRIES:
            self._order = [entry for entry in self._order if self._numbers.get(entry[2]) == entry[1]]
            heapq.heapify(self._order)


def _add(counter: Counter[K], key: K, step: int) -> None:
    counter[key] += step
    if not counter[key]:
        del counter[key]
