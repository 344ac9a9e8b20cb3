"""Limits how many checks run at once, and chooses the next."""

import heapq
from collections import Counter
from typing import Generic, TypeVar

from moorage.api.meta import ObjectKey

K = TypeVar("K")
T = TypeVar("T")

MAX_STALE_ENTRIES = 64
"""Stale entries in a heap, on top of as many valid ones."""


class Slots(Generic[T]):
    """Gives slots to items: at most `most` at once, and at most `max_each` to one key.

    Neither a key nor a namespace may have as many slots as are free: however many of them hold their slots for long,
    the next one that comes still finds some. Items that get none wait. Next is the namespace that has the fewest
    slots; in it the keys take turns, and the oldest item of a key is next.

    Each step costs the same whether one key waits or thousands do: with thousands there is no time to look at them
    all.
    """

    def __init__(self, most: int, max_each: int) -> None:
        self._free = most
        self._max_each = max_each
        self._of_key: Counter[ObjectKey] = Counter()
        self._of_namespace: Counter[str] = Counter()
        self._waiting: dict[str, dict[ObjectKey, dict[T, None]]] = {}
        """By namespace: keys in the order of their turns, and their items."""
        self._order: list[tuple[int, int, str]] = []
        """A heap of waiting namespaces: (slots that it has, number, namespace)."""
        self._numbers: dict[str, int] = {}
        """The number of each namespace's one valid entry there."""
        self._number = 0

    def take(self, key: ObjectKey, item: T) -> bool:
        """Ask for a slot. Returns whether `item` has it now; if not, it waits until `give_back` returns it."""
        if self._of_namespace[key.namespace] < self._free and self._may(key):
            self._count(key, 1)
            return True
        keys = self._waiting.setdefault(key.namespace, {})
        keys.setdefault(key, {})[item] = None
        if key.namespace not in self._numbers:
            self._enter(key.namespace)
        return False

    def give_back(self, key: ObjectKey) -> list[T]:
        """Give a slot back. Returns the waiting items that have one now."""
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
        """Stop `item` from waiting, if it does."""
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
                    break  # and so do all others
                # In a namespace that may have more, only few keys can have all they may have.
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
