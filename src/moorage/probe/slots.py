"""How many checks run at once, and which is next."""

from typing import Generic, TypeVar

K = TypeVar("K")
T = TypeVar("T")


class Slots(Generic[K, T]):
    """At most `most` items have a slot at once, and at most `most_each` of one key.

    The others wait: the keys take turns, and of one key the oldest item is next. So one key whose items hold their
    slots for long delays its own, and leaves the others theirs.
    """

    def __init__(self, most: int, most_each: int) -> None:
        self._most = most
        self._most_each = most_each
        self._taken = 0
        self._by_key: dict[K, int] = {}
        self._waiting: dict[K, dict[T, None]] = {}
        """Of keys that have all their slots, too."""
        self._turns: dict[K, None] = {}
        """Keys of `_waiting` that may take a slot, in the order of their turns."""

    def take(self, key: K, item: T) -> bool:
        """Whether `item` has a slot now; if not, it waits until `give_back` names it."""
        if self._taken < self._most and self._by_key.get(key, 0) < self._most_each:
            self._count(key)
            return True
        self._waiting.setdefault(key, {})[item] = None
        if self._by_key.get(key, 0) < self._most_each:
            self._turns[key] = None
        return False

    def give_back(self, key: K) -> T | None:
        """Gives a slot back; the item that has it now, if one waited."""
        self._taken -= 1
        left = self._by_key.pop(key) - 1
        if left:
            self._by_key[key] = left
        if key in self._waiting:
            self._turns[key] = None
        return self._next()

    def withdraw(self, key: K, item: T) -> None:
        """`item` no longer waits."""
        waiting = self._waiting.get(key, {})
        waiting.pop(item, None)
        if not waiting:
            self._waiting.pop(key, None)
            self._turns.pop(key, None)

    def _next(self) -> T | None:
        key = next(iter(self._turns), None)
        if key is None:
            return None
        del self._turns[key]
        waiting = self._waiting[key]
        item = next(iter(waiting))
        self._count(key)
        self.withdraw(key, item)
        if key in self._waiting and self._by_key[key] < self._most_each:
            self._turns[key] = None
        return item

    def _count(self, key: K) -> None:
        self._taken += 1
        self._by_key[key] = self._by_key.get(key, 0) + 1
