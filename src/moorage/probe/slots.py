"""How many checks run at once, and which is next."""

from collections import Counter
from typing import Generic, TypeVar

K = TypeVar("K")
T = TypeVar("T")

Key = tuple[str, str]
"""Namespace and name of an ExternalService."""


class Slots(Generic[T]):
    """At most `most` items have a slot at once, and at most `most_each` of one key.

    Nor may a key, or all keys of a namespace together, have as many as are free: however many of them there are whose
    items hold their slots for long, the next one that comes finds some. The items that get none wait: the keys take
    turns, and of one key the oldest item is next.
    """

    def __init__(self, most: int, most_each: int) -> None:
        self._free = most
        self._most_each = most_each
        self._of_key: Counter[Key] = Counter()
        self._of_namespace: Counter[str] = Counter()
        self._waiting: dict[Key, dict[T, None]] = {}
        """In the order of their turns."""

    def take(self, key: Key, item: T) -> bool:
        """Whether `item` has a slot now; if not, it waits until `give_back` names it."""
        if self._may(key):
            self._count(key, 1)
            return True
        self._waiting.setdefault(key, {})[item] = None
        return False

    def give_back(self, key: Key) -> list[T]:
        """Gives a slot back. Returns the items that have waited and have one now."""
        self._count(key, -1)
        found = []
        while (following := next(filter(self._may, self._waiting), None)) is not None:
            waiting = self._waiting.pop(following)
            item = next(iter(waiting))
            del waiting[item]
            if waiting:
                self._waiting[following] = waiting
            self._count(following, 1)
            found.append(item)
        return found

    def withdraw(self, key: Key, item: T) -> None:
        """`item` no longer waits."""
        waiting = self._waiting.get(key, {})
        waiting.pop(item, None)
        if not waiting:
            self._waiting.pop(key, None)

    def _may(self, key: Key) -> bool:
        return self._of_key[key] < min(self._most_each, self._free) and self._of_namespace[key[0]] < self._free

    def _count(self, key: Key, step: int) -> None:
        self._free -= step
        _add(self._of_key, key, step)
        _add(self._of_namespace, key[0], step)


def _add(counter: Counter[K], key: K, step: int) -> None:
    counter[key] += step
    if not counter[key]:
        del counter[key]
